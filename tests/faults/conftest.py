"""An undisturbed run to compare with, and places where things go wrong."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults import disk
from tests.faults.relay import PROMPT, Ended, Place, hear_signals, wait_for_a_stop
from tests.faults.scenario import SMALL

COMMAND = ("generate", PROMPT, *SMALL, "--steps-stage1", "3", "--output", "ball.mp4")


hear_signals()


@dataclass(frozen=True)
class Reference:
    """An undisturbed run of `COMMAND`: its videos, and a home that holds nothing but what it found of the machine."""

    videos: dict[str, bytes]
    home: Path


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    place = Place(tmp_path_factory.mktemp("reference")).make()
    ended = place.run(*COMMAND)
    assert ended.code == 0, ended.err
    bare = place.folder / "bare"
    bare.mkdir()
    for name in ("format", "machine.json", "fingerprints.json"):
        if (place.home / name).exists():
            shutil.copyfile(place.home / name, bare / name)
    return Reference(place.made(), bare)


@pytest.fixture
def place(tmp_path: Path, reference: Reference) -> Place:
    return Place(tmp_path / "place").make(reference.home)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """`small_disk(megabytes)`: a disk of its own, of that size."""
    with ExitStack() as mounted:

        def make(megabytes: int) -> Path:
            try:
                return mounted.enter_context(disk.small_disk(tmp_path / "disk", megabytes))
            except disk.NotAllowedError:
                pytest.skip("this user may not mount a small disk")

        yield make


@pytest.fixture
def disturbed() -> Callable[..., Ended]:
    """`disturbed(place, command, point, act)`: at that failpoint the process stands still, and `act` is called."""

    def run(place: Place, command: tuple[str, ...], point: str, act: Callable[[], None]) -> Ended:
        began = time.monotonic()
        process = place.start(command, {"LTX_RELAY_FAILPOINTS": f"{point}=stop"})
        stopped = wait_for_a_stop(process)
        act()
        os.kill(stopped, signal.SIGCONT)
        out, err = process.communicate(timeout=120)
        return Ended(process.returncode, out, err, time.monotonic() - began)

    return run
