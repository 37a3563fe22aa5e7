"""The memory plan of a run: joins headers, machine and history to the pure choice in `memory_plan`.

Reads headers of weights files, how much memory is available, and the history; starts nothing and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.effort import effort
from orchestrator.history import Entry, ratio, seconds
from orchestrator.machine import Machine
from orchestrator.memory import Network, Work, predict, work_of
from orchestrator.memory_advice import does_not_fit
from orchestrator.memory_backends import BACKENDS, CPU, Backend
from orchestrator.memory_budget import Budget, total_for_tiles
from orchestrator.memory_plan import StageMemory, choose_tiles, stage_memory, whole_weights
from orchestrator.memory_tiles import Tiles, normal, stated_budget
from orchestrator.pipeline import StagePlan
from orchestrator.recipe import Recipe
from weights.header import read_header
from weights.lora import match
from weights.resolve import WeightsSet
from weights.select import select


@dataclass(frozen=True)
class Means:
    """What the machine brings to a plan."""

    machine: Machine
    backend: Backend
    budget: Budget
    history: tuple[Entry, ...] = ()


def means(machine: Machine, budget: Budget, history: Sequence[Entry] = ()) -> Means:
    return Means(machine, BACKENDS[machine.backend], budget, tuple(history))


def networks_of(stage: StagePlan) -> dict[str, Network]:
    """What the stage's worker reads, by role."""
    found = {}
    for use in stage.weights:
        selection = select(Path(use.path), use.role)
        loras = tuple(match(read_header(Path(lora.path)), selection) for lora in use.loras)
        found[use.role] = Network(selection, loras)
    return found


def tiles_for(recipe: Recipe, weights: WeightsSet, machine: Machine, dtype: str) -> Tiles:
    """The recipe's own tiles, or those that the ladder gives for the stated budget."""
    networks = {"vae_decoder": Network(select(weights.vae.path, "vae_decoder"))}
    work = work_of("decode", recipe, networks, dtype, None)
    if recipe.tiles is not None:
        return normal(work.result, Tiles.from_recipe(recipe.tiles))
    return tiles_of(work, recipe, machine)


def tiles_of(work: Work, recipe: Recipe, machine: Machine) -> Tiles:
    """What the ladder gives a decode for what the recipe states or the machine was sold with."""
    backend = BACKENDS[machine.backend]
    stated = stated_budget(recipe.memory, total_for_tiles(machine), backend.stated_share)
    return choose_tiles(work, backend, stated, stated_budget(None, machine.memory, CPU.stated_share))


def plan_stages(recipe: Recipe, stages: Sequence[StagePlan], given: Means) -> dict[str, StageMemory]:
    """How each stage is held, and what it is predicted to take."""
    return {stage.name: plan_stage(recipe, stage.name, networks_of(stage), stage.dtype, given) for stage in stages}


def plan_stage(recipe: Recipe, name: str, networks: Mapping[str, Network], dtype: str, given: Means) -> StageMemory:
    tiles = Tiles.from_recipe(recipe.tiles) if name == "decode" and recipe.tiles is not None else None
    return plan_work(work_of(name, recipe, networks, dtype, tiles), given)


def plan_work(work: Work, given: Means) -> StageMemory:
    """How this work is held, and what it is predicted to take, corrected by what like work took before."""
    likely = predict(work, given.backend).peak
    held = whole_weights(work, given.backend)
    correction = ratio(given.history, given.backend.name, work.stage, held, min(likely, given.budget.bytes))
    return stage_memory(work, given.backend, given.budget, correction)


def estimate(memory: StageMemory, given: Means) -> float | None:
    """Seconds that the stage may take, from earlier runs with the same weights on this machine."""
    work, backend = memory.work, given.backend
    weights = whole_weights(work, backend)
    return seconds(given.history, backend.name, work.stage, weights, memory.streamed, effort(work))


def check_memory(recipe: Recipe, stages: Mapping[str, StageMemory], missing: Sequence[str], given: Means) -> None:
    """DoesNotFit (4) when a stage that has to be computed cannot be held within the budget, with what would fit."""
    wanted = {name: memory for name, memory in stages.items() if name in missing}
    over = [memory for memory in wanted.values() if not memory.fits]
    if not over:
        return

    def fits(other: Recipe) -> bool:
        if (other.memory or 0) > total_for_tiles(given.machine):
            return False  # no machine can give what it does not have
        other = replace(other, tiles=None)
        decode = wanted.get("decode")
        if decode is not None:
            work = work_of("decode", other, decode.work.networks, decode.work.dtype, None)
            other = replace(other, tiles=tiles_of(work, other, given.machine).as_recipe())
        limit = given.budget if other.memory == recipe.memory else Budget(other.memory or 0, "--memory")
        changed = replace(given, budget=limit)
        return all(
            plan_stage(other, name, memory.work.networks, memory.work.dtype, changed).fits
            for name, memory in wanted.items()
        )

    raise does_not_fit(recipe, max(over, key=lambda memory: memory.expected - memory.budget.bytes), fits)
