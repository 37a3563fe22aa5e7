"""What workers took on this machine before: peaks against predictions, and seconds against the work that it was.

A small file in the home. It makes the next plan better and never changes a bit of a result: it moves only how weights
are held, and the estimate of the time. A file that is damaged or cannot be written is as good as none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

from cache.durable import publish_text
from cache.records import read_json
from weights.errors import RelayError

FORMAT = 1
HISTORY = "history.json"
"""Its name in the home."""
KEPT = 256
"""Entries; the oldest go first."""
RECENT = 5
LOWEST, HIGHEST = 0.9, 1.25
"""Bounds of the correction: a prediction is never trusted less, nor lowered further, whatever was measured."""
ALIKE = 2.0
"""A run says something about predictions of up to twice or half its size."""


@dataclass(frozen=True)
class Entry:
    """One worker that ended well. Bytes; `effort` in operations (`orchestrator.effort`), 0 when it was resumed.

    weights: bytes of the weights as held, which tells models and quantisations apart. streamed: share of the
    transformer's blocks that came from the disk.
    """

    backend: str
    stage: str
    predicted: int
    measured: int
    weights: int
    streamed: float
    effort: float
    seconds: float


def ratio(entries: Sequence[Entry], backend: str, stage: str, weights: int, predicted: int) -> float:
    """Measured / predicted to expect: the largest of the recent ones of like size, within bounds; 1 without any.

    Those with the same weights, where there are any: another model, or another dtype, says less.
    """
    likely = [
        entry
        for entry in entries
        if (entry.backend, entry.stage) == (backend, stage)
        and entry.predicted > 0
        and entry.measured > 0
        and predicted / ALIKE <= entry.predicted <= predicted * ALIKE
    ]
    same = [entry for entry in likely if entry.weights == weights]
    alike = [entry.measured / entry.predicted for entry in same or likely]
    return min(HIGHEST, max(LOWEST, *alike[-RECENT:])) if alike else 1.0


def seconds(
    entries: Sequence[Entry], backend: str, stage: str, weights: int, streamed: float, effort: float
) -> float | None:
    """An estimate from like runs: the same weights, about the same share of them streamed. None without any."""
    rates = [
        entry.seconds / entry.effort
        for entry in entries
        if (entry.backend, entry.stage, entry.weights) == (backend, stage, weights)
        and entry.effort > 0
        and abs(entry.streamed - streamed) <= 0.2
    ]
    return effort * median(rates[-RECENT:]) if rates else None


def read_history(path: Path) -> tuple[Entry, ...]:
    """What is known, the oldest first."""
    try:
        raw = read_json(path, what="history")
        if raw.get("format") != FORMAT or not isinstance(raw.get("entries"), list):
            return ()
    except RelayError:
        return ()
    return tuple(entry for entry in map(_entry, raw["entries"][-KEPT:]) if entry is not None)


def remember(path: Path, entry: Entry) -> None:
    """Adds an entry. Of two runs that end in the same moment one entry may be lost."""
    import json

    entries = [*read_history(path), entry][-KEPT:]
    with contextlib.suppress(RelayError, OSError):
        publish_text(path, json.dumps({"format": FORMAT, "entries": [asdict(one) for one in entries]}, indent=1))


def _entry(raw: Any) -> Entry | None:
    if not isinstance(raw, dict) or set(raw) != {field.name for field in fields(Entry)}:
        return None
    for field in fields(Entry):
        value: Any = raw[field.name]
        if field.type == "str":
            right = isinstance(value, str)
        elif isinstance(value, bool) or not isinstance(value, int if field.type == "int" else int | float):
            right = False
        else:
            right = 0 <= value < 1e30
        if not right:
            return None
    return Entry(**raw)
