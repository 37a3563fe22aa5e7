"""Which results of a relay are there and whole, while a run goes on: each file is hashed once, not once per stage."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from cache.artifacts import find
from cache.contents import touch
from cache.home import Home
from cache.videos import find_video
from orchestrator.pipeline import VIDEO_STAGES, StagePlan, needed
from workers.protocol import Item

Signature = tuple[int, int, int]


class Results:
    """damaged: called with (stage, sentence) for a damaged result, which is set aside and counts as missing."""

    def __init__(self, home: Home, damaged: Callable[[str, str], None]) -> None:
        self._home, self._damaged = home, damaged
        self._verified: dict[str, Signature] = {}

    def missing(self, relay: Sequence[StagePlan]) -> dict[str, tuple[Item, ...]]:
        """By stage: what has to be computed, because it is not there and something needs it."""
        return needed(tuple(relay), self.present)

    def present(self, stage: StagePlan, item: Item) -> bool:
        """Whether the result is there and whole."""

        def damaged(sentence: str) -> None:
            self._damaged(stage.name, sentence)

        path = Path(item.output)
        before = signature(path)
        if before is None:
            return False
        if self._verified.get(item.output) != before:
            if stage.name in VIDEO_STAGES:
                whole = find_video(self._home, item.key, on_damage=damaged) is not None
            else:
                whole = find(path, key=item.key, stage=stage.name, on_damage=damaged) is not None
            if not whole:
                return False
            self._verified[item.output] = before
        return True

    def use(self, path: str) -> None:
        """This result is used now, which keeps it from being pruned as an old one."""
        whole = self._verified.get(path) == signature(Path(path))
        touch(Path(path))
        after = signature(Path(path))
        if whole and after is not None:
            self._verified[path] = after


def signature(path: Path) -> Signature | None:
    """What changes when a file is replaced or written to; None when it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
