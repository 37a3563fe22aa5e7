"""What Apple's chips should need for a run of LTX-2 19B: published figures, stated assumptions, one formula. Pure.

    a step = max( passes x FLOP / (peak x efficiency),        computing
                  bytes of the blocks / memory bandwidth,     reading them from memory
                  bytes of the streamed blocks / SSD )        reading from the disk what has no room

**Nothing of this was measured on a Mac.** Where a figure comes from is in `SOURCES`; what is assumed, in `ASSUMED`.
"""

from __future__ import annotations

from dataclasses import dataclass

TERA, GIGA = 1e12, 1e9
ENCODING = 4e-8
"""Seconds a pixel of H.264 on the CPU."""
STARTING = 3.0
"""Seconds for the starts of five workers."""


@dataclass(frozen=True)
class Chip:
    """The variant with the most GPU cores. Operations per second of matrix products, bytes per second, GB sold.

    estimated: whether `peak` is no published figure.
    """

    name: str
    peak: float
    bandwidth: float
    disk: float
    memories: tuple[int, ...]
    efficiency: float
    estimated: bool = False


_BEFORE_M5, _M5 = 0.64, 0.45
_BASE_DISK, _DISK, _M5_BASE_DISK, _M5_DISK = 3.0, 5.0, 6.0, 12.0


def _chip(name: str, peak: float, bandwidth: float, disk: float, *memories: int) -> Chip:
    return Chip(name, peak * TERA, bandwidth * GIGA, disk * GIGA, memories, _BEFORE_M5)


def _m5(name: str, peak: float, bandwidth: float, disk: float, *memories: int) -> Chip:
    return Chip(name, peak * TERA, bandwidth * GIGA, disk * GIGA, memories, _M5, estimated=True)


CHIPS = (
    _chip("M1", 2.6, 68, _BASE_DISK, 16),
    _chip("M1 Pro", 5.2, 200, _DISK, 16, 32),
    _chip("M1 Max", 10.4, 400, _DISK, 32, 64),
    _chip("M1 Ultra", 21.0, 800, _DISK, 64),
    _chip("M2", 3.6, 100, _BASE_DISK, 16),
    _chip("M2 Pro", 6.8, 200, _DISK, 16, 32),
    _chip("M2 Max", 13.5, 400, _DISK, 32, 64),
    _chip("M2 Ultra", 27.2, 800, _DISK, 64),
    _chip("M3", 4.1, 100, _BASE_DISK, 16),
    _chip("M3 Pro", 7.4, 150, _DISK, 36),
    _chip("M3 Max", 14.2, 400, _DISK, 36, 64),
    _chip("M3 Ultra", 28.4, 819, _DISK, 96),
    _chip("M4", 4.6, 120, _BASE_DISK, 16, 32),
    _chip("M4 Pro", 9.2, 273, _DISK, 64),
    _chip("M4 Max", 18.4, 546, _DISK, 36, 64),
    _m5("M5", 18.4, 153, _M5_BASE_DISK, 16, 32),
    _m5("M5 Pro", 36.8, 307, _M5_DISK, 64),
    _m5("M5 Max", 73.6, 614, _M5_DISK, 36, 64),
    _m5("M5 Ultra", 147.2, 1200, _M5_DISK, 96),
)

SOURCES = (
    "TFLOP/s in float32 of M1 to M4: the list of Apple hardware in huggingface.js "
    "(packages/tasks/src/hardware-apple.ts). Matrix products in 16 bits run at about the same rate there.",
    "M5: four times the M4 chip of the same class, after Apple's 'over 4x the peak GPU compute for AI' of its Neural "
    "Accelerators; the Ultra twice the Max. An estimate.",
    "Memory bandwidth: Apple's specifications (M5 Pro 307 and M5 Max 614 GB/s: announcement of March 2026; M5 Ultra: "
    "1.2 TB/s as said in a discussion of ml-explore/mlx, number 4504).",
)
ASSUMED = (
    "Efficiency 0.64 before M5: MLX's matrix products of exactly these shapes reached 16.4 to 18.9 of 21.3 TFLOP/s on "
    "an M3 Ultra with 60 cores (comment of 2026-08-11 on ml-explore/mlx issue 3196), about 0.8; and of matrix products "
    "the transformer reached 0.75 to 0.78 on an H100, taken as 0.8.",
    "Efficiency 0.45 on M5: a guess; published products of 1280 x 1280 on M5 and M5 Pro (the same issue, and pull "
    "request 3295) reached a third to 0.4 of that peak.",
    "Convolutions (VAE): half the efficiency of the transformer. A guess.",
    "SSD, GB/s: 3 in base chips, 5 in others, 6 in the M5, 12 in M5 Pro and above (a review measured 13.6 with 4 TB). "
    "Small SSDs are slower.",
    "Encoding H.264 on the CPU: 40 ns a pixel, as beside the H100. Starting the workers: 3 s.",
    "A working set of 2/3 of up to 32 GB and 3/4 of 36 GB and more. A chip that gets hot is slower; that is left out.",
)


def step_seconds(chip: Chip, operations: float, block_bytes: float, streamed: float) -> tuple[float, str]:
    """Of all passes of one step, and which of the three it waits for. streamed: the share of the blocks."""
    ways = {
        "computing": operations / (chip.peak * chip.efficiency),
        "memory": block_bytes / chip.bandwidth,
        "disk": block_bytes * streamed / chip.disk,
    }
    slowest = max(ways, key=ways.__getitem__)
    return ways[slowest], slowest


def working_set(memory: int) -> float:
    """GB that Metal recommends on a Mac with so many: two thirds of up to 32, three quarters of 36 and more."""
    return memory * (2 / 3 if memory < 36 else 3 / 4)
