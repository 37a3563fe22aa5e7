"""A worker's memory, seen from outside while it lives.

On Linux resident size and peak from /proc, with the limits that the process itself is under. Elsewhere from psutil,
without a peak; on macOS the resident size leaves out Metal's memory, so there its own `memory` events say more.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

_LIMITED = {"VmSize": "Max address space", "VmData": "Max data size"}


@dataclass(frozen=True)
class Vitals:
    """Bytes. `peak` is the true maximum of the resident size so far where the system keeps one, else `resident`.

    limited: sizes that the process has limits of its own for (`ulimit -v`, `ulimit -d`), each with its limit.
    """

    resident: int
    peak: int
    limited: tuple[tuple[int, int], ...] = ()


def read_vitals(pid: int) -> Vitals | None:
    """None when the process is gone, or dead and not yet reaped."""
    return _from_proc(pid) if sys.platform == "linux" else _from_psutil(pid)


def _from_proc(pid: int) -> Vitals | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except OSError:
        return None
    sizes = {}
    for line in lines:
        name, _, text = line.partition(":")
        words = text.split()
        if name in ("VmRSS", "VmHWM", *_LIMITED) and words and words[0].isdigit():
            sizes[name] = int(words[0]) * 1024
    if "VmRSS" not in sizes:
        return None
    resident = sizes["VmRSS"]
    limited = tuple((sizes[name], limit) for name, limit in _limits(pid).items() if name in sizes)
    return Vitals(resident, max(resident, sizes.get("VmHWM", 0)), limited)


def _limits(pid: int) -> dict[str, int]:
    """The process's own limits, by the name of what they limit in its status."""
    try:
        lines = Path(f"/proc/{pid}/limits").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    found = {}
    for name, title in _LIMITED.items():
        for line in lines:
            words = line.removeprefix(title).split()
            if line.startswith(title) and words and words[0].isdigit():
                found[name] = int(words[0])
    return found


def _from_psutil(pid: int) -> Vitals | None:
    import psutil

    try:
        memory = psutil.Process(pid).memory_info()
    except (psutil.Error, OSError):
        return None
    return Vitals(int(memory.rss), int(memory.rss))
