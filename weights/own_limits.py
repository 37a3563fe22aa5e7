"""The limits that a process has of its own (`ulimit -v`, `ulimit -d`), and how near to them it is. Linux; else none.

Memory that runs out at such a limit shows in the strangest ways: a thread that cannot start, a library that cannot be
mapped, a crash. Worker and orchestrator both ask, so it lives in `weights`, where both may import from.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

NEAR = 0.9
"""From this share of a limit on, a process counts as being at it."""
AT_ONCE = 256 << 20
"""Bytes that libraries may take in one go: OpenBLAS 128 MB for a buffer, a thread 72 MB for its stack and heap."""

_TITLES = {"space": ("VmSize:", "Max address space"), "data": ("VmData:", "Max data size")}
_WORDS = {"space": "of address space (ulimit -v)", "data": "of data (ulimit -d)"}


@dataclass(frozen=True)
class OwnLimit:
    """Bytes of a kind ("space", "data") that a process has, and may have."""

    kind: str
    size: int
    limit: int

    @property
    def near(self) -> bool:
        """Whether what libraries take at once would bring it to the limit."""
        return self.size + AT_ONCE >= NEAR * self.limit

    @property
    def words(self) -> str:
        return f"{self.limit >> 20} MB {_WORDS[self.kind]}"


def own_limits(pid: int | str = "self") -> tuple[OwnLimit, ...]:
    """Of a process that may be gone: then none."""
    if sys.platform != "linux":
        return ()
    limits, status = _lines(f"/proc/{pid}/limits"), _lines(f"/proc/{pid}/status")
    found = []
    for kind, (name, title) in _TITLES.items():
        size, limit = _number(status, name), _number(limits, title)
        if limit is not None and size is not None:
            found.append(OwnLimit(kind, size * 1024, limit))
    return tuple(found)


def near_own_limit() -> OwnLimit | None:
    """The one that this process is near to, if it is."""
    return next((limit for limit in own_limits() if limit.near), None)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except (OSError, MemoryError):
        return []


def _number(lines: list[str], title: str) -> int | None:
    """The number after a title; None for "unlimited"."""
    for line in lines:
        if line.startswith(title):
            words = line.removeprefix(title).split()
            return int(words[0]) if words and words[0].isdigit() else None
    return None
