"""How much memory this process takes: MLX's own count, and the operating system's.

The system's figure is the one that kills: VmRSS and VmHWM on Linux; on macOS the physical footprint, because the
resident size leaves out Metal's memory there. Everything that depends on the platform is in this file. A figure that
the system does not give is 0, never an error: measuring must not fail a stage. Never imports mlx: it counts only
once the stage has it loaded. On CUDA, `mlx_*` is memory of the card and `process` memory of the host.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")

# struct rusage_info_v4 of <sys/resource.h>: a uuid of 16 bytes, then 35 integers of 64 bits.
_RUSAGE_INFO_V4 = 4
_RUSAGE_SIZE = 16 + 35 * 8
_FOOTPRINT_OFFSET = 16 + 7 * 8  # ri_phys_footprint
_PEAK_FOOTPRINT_OFFSET = 16 + 28 * 8  # ri_lifetime_max_phys_footprint


@dataclass(frozen=True)
class MemorySample:
    """Bytes: MLX's active memory, its peak, its buffer cache; and the process as the system counts it."""

    mlx_active: int
    mlx_peak: int
    mlx_cache: int
    process: int


@dataclass(frozen=True)
class ProcessMemory:
    """Bytes of this process now, and the most that it ever had."""

    now: int
    peak: int


def sample() -> MemorySample:
    """All figures at this moment."""
    active, peak, cache = mlx_memory()
    return MemorySample(active, peak, cache, process_memory().now)


def mlx_memory() -> tuple[int, int, int]:
    """MLX's (active, peak, cache) in bytes; zeros while nothing has imported it."""
    mx = sys.modules.get("mlx.core")
    if mx is None:
        return 0, 0, 0
    return mx.get_active_memory(), mx.get_peak_memory(), mx.get_cache_memory()


def process_memory() -> ProcessMemory:
    """The system's figures; the peak is the true one, not the largest sample."""
    if sys.platform == "darwin":
        return _footprint(_rusage())
    return _resident()


def _resident() -> ProcessMemory:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return ProcessMemory(0, 0)
    fields = dict(line.split(":", 1) for line in lines if ":" in line)

    def size(name: str) -> int:
        number = fields.get(name, "0").split()[0]
        return int(number) * 1024 if number.isdigit() else 0

    now = size("VmRSS")
    return ProcessMemory(now, max(now, size("VmHWM")))  # the kernel updates the peak with a little delay


def _rusage() -> bytes:
    try:
        library = ctypes.CDLL("/usr/lib/libSystem.B.dylib")
        buffer = ctypes.create_string_buffer(_RUSAGE_SIZE)
        failed = library.proc_pid_rusage(ctypes.c_int(os.getpid()), ctypes.c_int(_RUSAGE_INFO_V4), buffer)
    except (OSError, AttributeError):
        return b""
    return b"" if failed else buffer.raw


def _footprint(rusage: bytes) -> ProcessMemory:
    if len(rusage) < _RUSAGE_SIZE:
        return ProcessMemory(0, 0)
    now = struct.unpack_from("=Q", rusage, _FOOTPRINT_OFFSET)[0]
    peak = struct.unpack_from("=Q", rusage, _PEAK_FOOTPRINT_OFFSET)[0]
    return ProcessMemory(now, max(now, peak))
