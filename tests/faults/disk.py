"""A disk of its own, small enough to be filled. Needs the right to mount."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

MEGABYTES = 16


class NotAllowedError(Exception):
    """This user may not mount anything."""


@contextmanager
def small_disk(folder: Path, megabytes: int = MEGABYTES) -> Iterator[Path]:
    """A tmpfs of that size at `folder`, which is made; gone afterwards. NotAllowedError."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)]
    try:
        made = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        made = False
    if not made:
        raise NotAllowedError
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@cache
def allowed() -> bool:
    """Whether this user may mount."""
    with TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder) / "disk", 1):
                return True
        except NotAllowedError:
            return False


def fill(folder: Path) -> Path:
    """Takes every byte that the disk has left; returns the file that has them."""
    path = folder / "filler"
    with open(path, "wb", buffering=0) as file:
        for piece in (bytes(1 << 16), b"0"):
            try:
                while True:
                    file.write(piece)
            except OSError:
                continue
    return path
