"""When frames are shown. Pure arithmetic; no av, no mlx, so that plans can ask too.

A video has a steady rate when frame n is shown at n / rate, to within the rounding of its file's clock. Otherwise each
frame has its own time, and what is put between two frames is shown halfway.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction


def steady_rate(ticks: Sequence[int], base: Fraction, candidates: Sequence[Fraction]) -> Fraction | None:
    """The first of the rates at which all frames, counted from the first, are where they should be; None: there is
    none. A clock's tick more or less is rounding; a clock that is coarser than a third of a frame tells no rate.
    """
    for rate in candidates:
        step = 1 / (rate * base)
        if step < 1:
            continue
        slack = 1 if step >= 3 else 0
        if all(abs(tick - ticks[0] - index * step) <= slack for index, tick in enumerate(ticks)):
            return rate
    return None


def at(times: Sequence[int], index: int) -> int:
    """The time of a frame by its number; before the first and after the last they go on in even steps."""
    if 0 <= index < len(times):
        return times[index]
    if len(times) == 1:
        return times[0] + index
    if index < 0:
        return times[0] + index * (times[1] - times[0])
    return times[-1] + (index - len(times) + 1) * (times[-1] - times[-2])
