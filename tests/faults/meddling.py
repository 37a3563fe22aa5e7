"""What happens to files, and to time, while a process of the program stands still at a point."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.faults.disk import fill
from tests.faults.relay import Place
from tests.faults.scenario import FILM

SLEEP_SECONDS = 1.0


@dataclass
class Meddled:
    """undo: makes good what the second run must not find any more. lost: keys of results that are no longer whole."""

    undo: Callable[[], object] = lambda: None
    lost: set[str] = field(default_factory=set)


def full_disk(place: Place) -> Meddled:
    """Until the command has ended."""
    return Meddled(fill(place.folder.parent).unlink)


def sleep(place: Place) -> Meddled:
    """Everything of the program stands still, as on a machine that sleeps."""
    asleep = [process for process in psutil.Process().children(recursive=True) if of(process, place)]
    for process in asleep:
        process.send_signal(signal.SIGSTOP)
    time.sleep(SLEEP_SECONDS)
    for process in asleep:
        process.send_signal(signal.SIGCONT)
    return Meddled()


def of(process: psutil.Process, place: Place) -> bool:
    try:
        return process.environ().get("LTX_RELAY_HOME") == str(place.home)
    except psutil.Error:
        return False


def lose(place: Place) -> Meddled:
    """The newest result is deleted."""
    path = newest(place)
    path.unlink()
    return Meddled(lost={path.stem})


def spoil(place: Place) -> Meddled:
    """A bit in the middle of the newest result flips."""
    path = newest(place)
    flip(path)
    return Meddled(lost={path.stem})


def newest(place: Place) -> Path:
    found = [path for path in (place.home / "objects").glob("*/*") if path.suffix != ".json"]
    return max(found, key=lambda path: path.stat().st_mtime_ns)


def film_gone(place: Place) -> Meddled:
    away = place.folder / "away"
    (place.videos / FILM).rename(away)
    return Meddled(lambda: away.rename(place.videos / FILM))


def film_exchanged(place: Place) -> Meddled:
    """Another file of the same size takes its place."""
    away, other = place.folder / "away", place.folder / "other"
    other.write_bytes((place.videos / FILM).read_bytes())
    (place.videos / FILM).rename(away)
    flip(other, every=64)
    other.rename(place.videos / FILM)
    return Meddled(lambda: away.replace(place.videos / FILM))


def film_rewritten(place: Place) -> Meddled:
    """The file itself gets other bytes, as many as before."""
    path = place.videos / FILM
    content = path.read_bytes()
    flip(path, every=64)
    return Meddled(lambda: path.write_bytes(content))


def flip(path: Path, every: int | None = None) -> None:
    """The lowest bit of the byte in the middle; or of so many in the middle half, which leaves a video readable."""
    size = os.path.getsize(path)
    places = [size // 2] if every is None else range(size // 4, 3 * size // 4, every)
    with open(path, "r+b") as file:
        for place in places:
            file.seek(place)
            (byte,) = file.read(1)
            file.seek(place)
            file.write(bytes([byte ^ 1]))


MEDDLING: Mapping[str, Callable[[Place], Meddled]] = {
    "full-disk": full_disk,
    "sleep": sleep,
    "lose": lose,
    "spoil": spoil,
    "film-gone": film_gone,
    "film-exchanged": film_exchanged,
    "film-rewritten": film_rewritten,
}
