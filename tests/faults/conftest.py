"""An undisturbed run to compare with, and places where things go wrong."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.faults.relay import PROMPT, Ended, Place, hear_signals
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
    """`small_disk(megabytes)`: a disk of its own, of that size. Needs the right to mount."""
    mounted: list[Path] = []

    def make(megabytes: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)]
        try:
            made = subprocess.run(command, capture_output=True).returncode == 0
        except OSError:
            made = False
        if not made:
            pytest.skip("this user may not mount a small disk")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


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


def wait_for_a_stop(process: subprocess.Popen[str]) -> int:
    """The id of the program, or of its worker, that stands still."""
    family = psutil.Process(process.pid)
    for _ in range(6000):
        for member in (family, *family.children(recursive=True)):
            try:
                if member.status() == psutil.STATUS_STOPPED:
                    return int(member.pid)
            except psutil.NoSuchProcess:
                continue
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("nothing stopped")
