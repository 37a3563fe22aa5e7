"""What has been seen of a worker so far: its events, and its memory from outside.

Pure bookkeeping with the time passed in; `orchestrator.supervisor` feeds it.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.ends import Usage
from orchestrator.event_lines import Event
from orchestrator.vitals import Vitals
from weights.own_limits import AT_ONCE

STALL_SECONDS = 120.0
_STALL_STEPS = 8
_STEPS_KEPT = 64


@dataclass
class Observed:
    """`last_event` is a monotonic time; `done` and `error` are those events; `peak` the process's largest, in bytes."""

    last_event: float
    stall_seconds: float = STALL_SECONDS
    done: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    peak: int = 0
    mlx_peak: int = 0
    stalled: bool = False
    _said: int = 0  # the process's size as the worker said it last
    _vitals: Vitals | None = None
    _steps: deque[float] = field(default_factory=lambda: deque(maxlen=_STEPS_KEPT))

    def event(self, event: Event, now: float) -> None:
        """An event that came from the worker."""
        self.last_event = now
        self.stalled = False
        kind = event["event"]
        if kind == "step":
            self._steps.append(event["seconds"])
        elif kind == "memory":
            self._said = event["process"]
            self._peaks(event["process"], event["mlx_peak"])
        elif kind == "done":
            self.done = event
            self._peaks(event["process_peak"], event["mlx_peak"])
        elif kind == "error":
            self.error = event

    def vitals(self, vitals: Vitals) -> None:
        """A sample from outside."""
        self._vitals = vitals
        self.peak = max(self.peak, vitals.peak)

    def stall(self, now: float) -> float | None:
        """Seconds without an event, once per silence, when they are more than the larger of the two limits."""
        silence = now - self.last_event
        usual = statistics.median(self._steps) if self._steps else 0.0
        if self.stalled or silence <= max(self.stall_seconds, _STALL_STEPS * usual):
            return None
        self.stalled = True
        return silence

    def usages(self, limits: tuple[int | None, ...]) -> tuple[Usage, ...]:
        """The last samples of the process against each limit. Bytes."""
        return tuple(Usage(self._process, limit) for limit in limits if limit is not None)

    def own_usages(self, expected: int) -> tuple[Usage, ...]:
        """The same against the limits that it has of its own; expected: bytes that the plan says it takes at most."""
        if self._vitals is None:
            return ()
        ahead = max(AT_ONCE, expected - self._process)
        return tuple(Usage(own.size, own.limit, ahead, own.words) for own in self._vitals.limited)

    def counts(self, name: str) -> dict[str, int]:
        """`bytes_read` or `maxima` of `done`, as far as they are numbers; empty without `done`."""
        counts = self.done[name] if self.done is not None else {}
        return {key: count for key, count in counts.items() if type(count) is int}

    @property
    def _process(self) -> int:
        return max(self._vitals.resident if self._vitals else 0, self._said)

    def _peaks(self, process: int, mlx: int) -> None:
        self.peak = max(self.peak, process)
        self.mlx_peak = max(self.mlx_peak, mlx)
