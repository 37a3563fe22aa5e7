"""Sigma schedules: descending noise levels, float32, one more than there are steps, the last one 0.

The LTX-2 scheduler and the two fixed schedules of the distilled model, as ltx-core 1.0.0 has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from weights.errors import UsageError

Sigmas = NDArray[np.float32]

DISTILLED = (1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0)
"""What the distilled model was trained for, from noise, without guidance."""

STAGE2 = (0.909375, 0.725, 0.421875, 0.0)
"""The distilled model's refinement of an upscaled latent."""

_FEW_TOKENS, _MANY_TOKENS = 1024, 4096
_SHIFT_FEW, _SHIFT_MANY = 0.95, 2.05


def ltx2_sigmas(steps: int, tokens: int = _MANY_TOKENS, terminal: float | None = 0.1) -> Sigmas:
    """The schedule for the dev model.

    Evenly spaced levels are shifted towards noise by e^mu, mu linear in the number of latent tokens (the
    official pipelines always use 4,096), then stretched so that the last level before 0 is `terminal` (None:
    no stretching).
    """
    _check(steps)
    slope = (_SHIFT_MANY - _SHIFT_FEW) / (_MANY_TOKENS - _FEW_TOKENS)
    shift = np.float32(math.exp(_SHIFT_FEW - slope * _FEW_TOKENS + slope * tokens))
    one = np.float32(1)
    # The order of the float32 operations is the reference's: a sigma that differs in its last bit moves the highest
    # frequencies of the timestep's embedding visibly. Levels count down from 1 in the first half, up from 0 after it.
    step, index = one / np.float32(steps), np.arange(steps, dtype=np.float32)
    levels = np.where(index < (steps + 1) // 2, one - step * index, step * (np.float32(steps) - index))
    levels = shift * (one / (shift + (one / levels - one)))
    # A single step has nothing to stretch: it goes from noise to the end.
    if terminal is not None and steps > 1:
        levels = one - (one - levels) / ((one - levels[-1]) / np.float32(1 - terminal))
    return np.append(levels, np.float32(0)).astype(np.float32)


def distilled_sigmas(steps: int = len(DISTILLED) - 1) -> Sigmas:
    return interpolated(DISTILLED, steps)


def stage2_sigmas(steps: int = len(STAGE2) - 1) -> Sigmas:
    return interpolated(STAGE2, steps)


def interpolated(sigmas: Sequence[float], steps: int) -> Sigmas:
    """A fixed schedule for another number of steps: linear over the index, both ends kept."""
    _check(steps)
    known = len(sigmas) - 1
    return np.interp(np.arange(steps + 1) * known / steps, np.arange(known + 1), sigmas).astype(np.float32)


def _check(steps: int) -> None:
    if steps < 1:
        raise UsageError(f"A schedule needs at least one step, not {steps}.")
