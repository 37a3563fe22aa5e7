"""The state of a stage that is under way: its tensors after the last finished step.

Saved atomically after each step, so that a stage that was killed goes on from its last finished step. A state is
verified like an artifact; a damaged one is set aside, and the stage begins anew: that costs time, never the result.
The caller holds the lock of the key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cache.artifacts import Tensor, find, publish, set_aside
from cache.durable import reason
from cache.home import Home
from weights.errors import ArtifactError, RelayError

STAGE = "partial"


@dataclass(frozen=True)
class Partial:
    """`step` of `total` steps are done."""

    step: int
    total: int
    tensors: Mapping[str, Tensor]


def save_partial(home: Home, key: str, step: int, total: int, tensors: Mapping[str, Tensor]) -> int:
    """Replaces the state of `key`; returns its bytes. Raises DoesNotFit, RelayError: then the former state is there."""
    if not 0 <= step <= total:
        raise ValueError(f"Step {step} of {total} is none.")
    metadata = {"stage": STAGE, "key": key, "step": str(step), "total": str(total)}
    return publish(home.partial_path(key), tensors, metadata)


def load_partial(home: Home, key: str, on_damage: Callable[[str], None] = lambda sentence: None) -> Partial | None:
    """The state of `key`, or None. A damaged one is set aside; `on_damage` is told what was wrong with it."""
    path = home.partial_path(key)
    artifact = find(path, key=key, stage=STAGE, on_damage=on_damage)
    if artifact is None:
        return None
    try:
        step, total = (_count(path, artifact.metadata.get(name, "")) for name in ("step", "total"))
        if step > total:
            raise ArtifactError(f"{path} is damaged: it claims step {step} of {total}.")
    except ArtifactError as error:
        on_damage(error.message)
        set_aside(path)
        return None
    return Partial(step, total, artifact.tensors)


def drop_partial(home: Home, key: str) -> None:
    """Removes the state of `key` and its pieces, if there are any: its stage has published the result."""
    for path in (home.partial_path(key), *home.partial.glob(f"{key}-*.safetensors")):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise RelayError(f"{path} could not be removed: {reason(error)}.") from error


def piece(key: str, index: int) -> str:
    """The name of a part of a state that is too large to be written whole each time; from 0."""
    return f"{key}-{index:04d}"


def _count(path: Path, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ArtifactError(f"{path} is damaged: {text!r} is no number of a step.")
    return int(text)
