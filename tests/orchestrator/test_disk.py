"""Room on the disks: what a run needs is counted, and said when it is not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cache.home import open_home
from orchestrator.disk import MARGIN, check_disk, rooms
from orchestrator.prepare import Prepared, prepare
from orchestrator.recipe import WeightsChoice
from orchestrator.settings import Settings
from weights.errors import DoesNotFit

Make = Callable[..., Prepared]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def prepared(**asked: Any) -> Prepared:
        settings = Settings("a fox", height=64, width=96, frames=9, weights=WeightsChoice(model="tiny"), **asked)
        codec = asked.get("codec", "h264")
        output = tmp_path / ("a.mkv" if codec == "ffv1" else "a.mp4")
        return prepare(settings, home=open_home(tmp_path / "home"), output=output)

    return prepared


def total(prepared: Prepared) -> int:
    return sum(room.needed for room in rooms(prepared))


def test_one_disk_counts_home_and_output_together(make: Make) -> None:
    (room,) = rooms(make())
    assert room.needed > MARGIN
    assert room.free > 0


def test_more_seeds_and_larger_codecs_need_more(make: Make) -> None:
    assert total(make(seeds=(1, 2))) > total(make())
    assert total(make(codec="ffv1")) > total(make())


def test_what_is_there_needs_nothing(make: Make) -> None:
    prepared = make()
    before = total(prepared)
    for stage in prepared.relay:
        for item in stage.items:
            Path(item.output).parent.mkdir(exist_ok=True)
            Path(item.output).write_bytes(b"")
    for path in prepared.outputs.values():
        path.write_bytes(b"")
    assert total(prepared) == MARGIN < before


def test_too_little_is_refused_by_how_much(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = make()
    need = total(prepared)

    def with_free(free: int) -> None:
        monkeypatch.setattr(os, "statvfs", lambda place: SimpleNamespace(f_bavail=free, f_frsize=1))

    with_free(need)
    check_disk(prepared)
    with_free(need - 1_000_000)
    with pytest.raises(DoesNotFit, match=r"1\.0 MB too little") as caught:
        check_disk(prepared)
    assert "cache prune" in caught.value.advice
