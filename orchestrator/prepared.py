"""What every kind of run has once it is prepared: all that `orchestrator.relay_run` needs to carry it out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cache.home import Home
from orchestrator.environment import WorkerEnvironment
from orchestrator.history import HISTORY, read_history
from orchestrator.machine import Machine
from orchestrator.memory_budget import available_memory, budget, check_own_limits
from orchestrator.memory_plan import StageMemory
from orchestrator.pipeline import StagePlan, needed
from orchestrator.planning import Means, means
from weights.fingerprint import fingerprint

Chosen = tuple[dict[str, Path], tuple[str, ...]]
"""Outputs by key, and remarks."""


@dataclass(frozen=True, kw_only=True)
class PreparedRelay:
    """A run that only has to be carried out. `outputs` maps the key of a video to where it is to be put.

    `choose` does that anew, and says what a person has to know of names that were taken: one that nobody gave may be by
    the time when there is a video. Names that the user gave are always the same.

    `memory` says how each stage is held, by name; whether that fits is for the `check_memory` of its kind to say.

    `relay` ends with the stage `stop_after`, where that is not None: then there are no outputs.
    """

    notes: tuple[str, ...]
    relay: tuple[StagePlan, ...]
    stop_after: str | None = None
    outputs: Mapping[str, Path]
    choose: Callable[[], Chosen]
    overwrite: bool
    home: Home
    machine: Machine
    environment: WorkerEnvironment
    dtype: str
    means: Means
    memory: Mapping[str, StageMemory]
    fingerprint: Callable[[Path], str]


def means_now(home: Home, machine: Machine, memory: int | None) -> Means:
    """What this machine can give at this moment, and what earlier runs took. memory: the budget asked for, in bytes."""
    return means(machine, budget(memory, machine, available_memory(machine)), read_history(home.root / HISTORY))


def fingerprints(home: Home) -> Callable[[Path], str]:
    """Of files of weights, remembered in the home."""
    memo = home.root / "fingerprints.json"
    return lambda path: fingerprint(path, memo)


def stages_to_compute(prepared: PreparedRelay) -> list[str]:
    """By name. DoesNotFit (4) when there are any, and this process's own limits leave workers too little."""
    todo = needed(prepared.relay, lambda stage, item: os.path.exists(item.output))
    missing = [name for name, items in todo.items() if items]
    if missing:
        check_own_limits(prepared.machine)
    return missing
