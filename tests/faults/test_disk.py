"""Full and read-only disks: said before anything starts, or survived when it happens in the middle."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import COMMAND, Reference
from tests.faults.disk import MEGABYTES, fill
from tests.faults.relay import Ended, Place

Disturbed = Callable[..., Ended]


@pytest.mark.parametrize(
    "point",
    [
        "text.event.started",
        "stage1.step.computed:2",
        "stage2.write.opened:2",
        "temporal.write.opened",
        "decode.event.item",
    ],
)
def test_a_disk_that_fills_up_in_the_middle(
    small_disk: Callable[[int], Path], reference: Reference, disturbed: Disturbed, point: str
) -> None:
    disk = small_disk(MEGABYTES)
    place = Place(disk / "place").make(reference.home)
    ended = disturbed(place, COMMAND, point, lambda: fill(disk))
    assert ended.code == 4, (ended.out, ended.err)
    assert "Traceback" not in ended.err
    assert ended.err.strip().splitlines()[-1].startswith("ltx-relay resume ")
    assert not list(disk.rglob(".relay-*")), "nothing half-written takes room on a full disk"
    (disk / "filler").unlink()
    again = place.run(*COMMAND)
    assert again.code == 0, again.err
    assert place.made() == reference.videos
    assert not place.litter()


def test_too_little_room_is_said_before_anything_starts(
    small_disk: Callable[[int], Path], reference: Reference
) -> None:
    place = Place(small_disk(4) / "place").make(reference.home)
    ended = place.run(*COMMAND)
    assert ended.code == 4
    assert "too little" in ended.err
    assert not list((place.home / "runs").iterdir())
    assert not place.made()


def test_a_home_that_is_read_only(small_disk: Callable[[int], Path], reference: Reference) -> None:
    disk = small_disk(MEGABYTES)
    place = Place(disk / "place").make(reference.home)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    ended = place.run(*COMMAND)
    assert ended.code == 2
    assert "read-only" in ended.err
    assert len(ended.err.strip().splitlines()) <= 2


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not stop root")
def test_a_home_without_permission(place: Place) -> None:
    place.home.chmod(0o500)
    try:
        ended = place.run(*COMMAND)
    finally:
        place.home.chmod(0o700)
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) <= 2
