"""What a home holds: finished results, states of stages under way, damaged files; how large, and when last used.

A result is one entry, whatever files it is made of. When it was last used is the time of its file's last change:
publishing sets it, and `touch` renews it whenever a run uses the result. Files that are not ours are not in the list.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cache.artifacts import read
from cache.durable import set_aside
from cache.home import Home
from cache.partial import load_partial
from cache.videos import find_video
from weights.errors import ArtifactError, RelayError, WeightsError
from weights.header import read_header

Kind = Literal["artifact", "video", "partial", "damaged"]
_OURS = re.compile(r"([0-9a-f]{64})(?:-[0-9]{4})?(\.video\.json|\.[A-Za-z0-9]{1,16})")
_DAMAGED = re.compile(r"([0-9a-f]{64})(?:-[0-9]{4})?\..*\.corrupt")


@dataclass(frozen=True)
class Entry:
    """`bytes` of all its files together; `used`: seconds since the epoch."""

    key: str
    kind: Kind
    paths: tuple[Path, ...]
    bytes: int
    used: float


def entries(home: Home) -> list[Entry]:
    """Everything in the home, least recently used first. A file that vanishes meanwhile is left out."""
    found: dict[tuple[str, Kind], Entry] = {}
    for path in _files(home):
        kind_and_key = _kind(home, path)
        if kind_and_key is None:
            continue
        kind, key = kind_and_key
        try:
            status = os.lstat(path)
        except OSError:
            continue
        place = (path.name if kind == "damaged" else key, kind)
        other = found.get(place, Entry(key, kind, (), 0, 0.0))
        paths = (*other.paths, path)
        found[place] = Entry(key, kind, paths, other.bytes + status.st_size, max(other.used, status.st_mtime))
    return sorted(found.values(), key=lambda entry: (entry.used, entry.key))


def stage_of(entry: Entry) -> str:
    """The stage that made it, by the entry's own header; empty where that cannot be read."""
    if entry.kind == "video":
        return "decode"
    try:
        metadata = read_header(entry.paths[0]).metadata
    except WeightsError:
        return ""
    return str(metadata.get("stage", ""))


def touch(path: Path) -> None:
    """This result was used now. A file that cannot be touched (gone, read-only) is no error."""
    try:
        os.utime(path)
    except OSError:
        return


def verify(home: Home, entry: Entry) -> str | None:
    """Reads all of it; what is damaged is set aside, and what is wrong with it returned. None: whole, or gone."""
    problems: list[str] = []
    try:
        if entry.kind == "video":
            find_video(home, entry.key, problems.append)
        elif entry.kind == "partial":
            for path in entry.paths:
                load_partial(home, path.name.removesuffix(".safetensors"), problems.append)
        elif entry.kind == "artifact":
            _verify_artifact(entry.paths[0], entry.key)
    except ArtifactError as error:
        problems.append(error.message)
        set_aside(entry.paths[0])
    except RelayError as error:
        problems.append(error.message)
    return problems[0] if problems else None


def _verify_artifact(path: Path, key: str) -> None:
    try:
        read(path, key=key)
    except ArtifactError:
        if os.path.lexists(path):  # else another process removed or replaced it
            raise


def _files(home: Home) -> Iterator[Path]:
    folders = [home.partial]
    with contextlib.suppress(OSError):
        folders += [Path(entry) for entry in os.scandir(home.objects) if entry.is_dir()]
    for folder in folders:
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        yield from (folder / name for name in names)


def _kind(home: Home, path: Path) -> tuple[Kind, str] | None:
    if match := _DAMAGED.fullmatch(path.name):
        return "damaged", match[1]
    match = _OURS.fullmatch(path.name)
    if match is None:
        return None
    if path.parent == home.partial:
        return "partial", match[1]
    return ("artifact" if match[2] == ".safetensors" else "video"), match[1]
