"""Seconds of a computation beside what the device's own operations reach, as rows of a table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import mlx.core as mx

from benchmarks.activations import values
from benchmarks.flops import Operations

TIMES = 5
TERA, GIGA = 1e12, 1e9


def seconds(work: Callable[[], object], times: int = TIMES) -> float:
    """The median of `turns`."""
    return statistics.median(turns(work, times))


def turns(work: Callable[[], object], times: int = TIMES) -> list[float]:
    """Seconds of each, after turns that count for nothing: two, or one of more than half a second."""
    found: list[float] = []
    idle = 2
    while len(found) < times + idle:
        mx.synchronize()
        began = time.perf_counter()
        work()
        mx.synchronize()
        found.append(time.perf_counter() - began)
        if found[0] > 0.5:
            idle = 1
    return found[idle:]


@dataclass(frozen=True)
class Device:
    """What its own operations reach in this run, in bfloat16: operations per second, and bytes read and written."""

    matrix: float
    attention: float
    convolution: float
    copy: float

    def least(self, operations: Operations) -> float:
        """Seconds for the same operations at these paces, or for the bytes, whichever takes longer."""
        computing = operations.matrix / self.matrix + operations.attention / self.attention
        return max(computing + operations.convolution / self.convolution, operations.moved / self.copy)

    @property
    def words(self) -> str:
        paces = [f"{pace / TERA:,.3g}" for pace in (self.matrix, self.attention, self.convolution)]
        return (
            f"Its own matrix products reach {paces[0]} TFLOP/s, attention {paces[1]}, convolutions {paces[2]}; "
            f"copying {self.copy / GIGA:,.3g} GB/s, read and written."
        )


def measured_device(small: bool = False) -> Device:
    """Large operations of each kind; small: for a rehearsal on a CPU."""
    side, tokens, frames, channels, count = (256, 64, 2, 16, 1 << 16) if small else (8192, 17160, 13, 512, 1 << 29)
    height, width = (4, 6) if small else (60, 88)
    a, b = values(side, side), values(side, side)
    matrix = seconds(lambda: mx.eval([a @ b for _ in range(4)])) / 4
    q = values(1, 32, tokens, 128)
    attention = seconds(lambda: mx.eval(mx.fast.scaled_dot_product_attention(q, q, q, scale=128**-0.5)))
    x, kernel = values(1, frames, height, width, channels), values(channels, 3, 3, 3, channels)
    convolution = seconds(lambda: mx.eval(mx.conv3d(x, kernel, padding=1)))
    long = mx.ones(count, mx.bfloat16)
    copy = seconds(lambda: mx.eval(-long))
    mx.clear_cache()
    return Device(
        matrix=2 * side**3 / matrix,
        attention=4 * tokens**2 * 4096 / attention,
        convolution=54 * frames * height * width * channels**2 / convolution,
        copy=2 * long.nbytes / copy,
    )


HEADS = ("", "ours", "spread", "reference", "ratio", "TFLOP/s", "GB/s", "of the device's own")


@dataclass(frozen=True)
class Row:
    """seconds: of each turn; the reference's median. least: of the device's own operations."""

    what: str
    turns: Sequence[float]
    operations: Operations = field(default_factory=Operations)
    reference: float | None = None
    least: float = 0.0

    @property
    def seconds(self) -> float:
        return statistics.median(self.turns)

    @property
    def spread(self) -> float:
        """Of the slowest and the fastest turn, as a share of the median."""
        return (max(self.turns) - min(self.turns)) / self.seconds

    @property
    def cells(self) -> list[str]:
        operations, moved = self.operations.total / TERA, self.operations.moved / GIGA
        return [
            self.what,
            f"{self.seconds:.4f} s",
            f"{self.spread:.1%}",
            "" if self.reference is None else f"{self.reference:.4f} s",
            "" if self.reference is None else f"{self.seconds / self.reference:.3f}",
            f"{operations / self.seconds:,.3g}" if operations else "",
            f"{moved / self.seconds:,.3g}" if moved else "",
            f"{self.least / self.seconds:.0%}" if self.least else "",
        ]
