"""A worker's memory, seen from outside while it lives.

On Linux resident size and peak from /proc, with the limits that the process itself is under. Elsewhere from psutil,
without a peak; on macOS the resident size leaves out Metal's memory, so there its own `memory` events say more.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from weights.own_limits import OwnLimit, own_limits


@dataclass(frozen=True)
class Vitals:
    """Bytes. `peak` is the true maximum of the resident size so far where the system keeps one, else `resident`.

    limited: the limits that the process has of its own (`ulimit -v`, `ulimit -d`), and how much of each it has.
    """

    resident: int
    peak: int
    limited: tuple[OwnLimit, ...] = ()


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
        if name in ("VmRSS", "VmHWM") and words and words[0].isdigit():
            sizes[name] = int(words[0]) * 1024
    if "VmRSS" not in sizes:
        return None
    resident = sizes["VmRSS"]
    return Vitals(resident, max(resident, sizes.get("VmHWM", 0)), own_limits(pid))


def _from_psutil(pid: int) -> Vitals | None:
    import psutil

    try:
        memory = psutil.Process(pid).memory_info()
    except (psutil.Error, OSError):
        return None
    return Vitals(int(memory.rss), int(memory.rss))
