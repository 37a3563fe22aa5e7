"""Training here is limited by time, not by steps: a step costs what the machine makes it cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from training.device import ON_GPU, wait

LOOK = 20 if ON_GPU else 1
"""Steps between two looks at the clock, when the device is waited for."""


@dataclass(frozen=True)
class Tick:
    """One step: its number, and the share of the time that has passed."""

    step: int
    elapsed: float
    progress: float

    def warm(self, steps: int) -> float:
        """A factor that rises to 1 over the first steps."""
        return min(1.0, (self.step + 1) / steps)

    def linear(self, share: float) -> float:
        """A factor that is 1 until the last `share` of the time, and falls to 0 there."""
        return min(1.0, (1 - self.progress) / share)


def ticks(seconds: float) -> Iterator[Tick]:
    """Steps until the time is over; at least one."""
    started, step = time.time(), 0
    while (elapsed := time.time() - started) < seconds or step == 0:
        yield Tick(step, elapsed, min(elapsed / seconds, 1.0))
        step += 1
        if step % LOOK == 0:
            wait()
