"""What a stage gets besides its job: progress, memory, the count of bytes read, and the wish to stop.

A stage reports each finished step with `step`, calls `heartbeat` once per block or tile, and calls `check_stop` after
every step that it has saved. All of it is cheap enough for inner loops: memory and heartbeats are sent at most once
in a while. Everything may be called from any thread.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from weights.errors import Interrupted
from workers import memory
from workers.channel import EventChannel
from workers.protocol import Job

HEARTBEAT_SECONDS = 1.0
MEMORY_SECONDS = 0.5


class Stopped(Interrupted):
    """The orchestrator asked this worker to end after the step that it just saved."""


class Context:
    """Given to `run(job, context)` of a stage."""

    def __init__(self, job: Job, channel: EventChannel) -> None:
        self.job = job
        self._channel = channel
        self._lock = threading.Lock()
        self._bytes_read: dict[str, int] = {}
        self._maxima: dict[str, int] = {}
        self._stop_signal: int | None = None
        self._last_heartbeat = 0.0
        self._last_memory = 0.0

    def emit(self, event: str, **fields: Any) -> None:
        """Send one event with the fields that `workers.protocol.EVENTS` names for it, and any others."""
        self._channel.emit(event, **fields)

    def item(self, key: str, index: int, total: int) -> None:
        """Work on item `index` of `total` (from 1) begins."""
        self.emit("item", key=key, index=index, total=total)

    def step(self, key: str, index: int, total: int, seconds: float, **more: Any) -> None:
        """`index` of `total` steps of an item are finished; the last one took `seconds`. Samples memory too."""
        self.emit("step", key=key, index=index, total=total, seconds=float(seconds), **more)
        self._last_heartbeat = time.monotonic()
        self._sample()

    def stepper(self, key: str) -> Callable[[int, int], None]:
        """For an item whose steps follow each other: called with (index, total), it times them by itself."""
        last = time.monotonic()

        def stepped(index: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            self.step(key, index, total, now - last)
            last = now

        return stepped

    def heartbeat(self) -> None:
        """Say that a long step is alive; call it as often as you like."""
        now = time.monotonic()
        if now - self._last_heartbeat >= HEARTBEAT_SECONDS:
            self._last_heartbeat = now
            self.emit("heartbeat")
            self._sample()

    def warn(self, message: str) -> None:
        """A sentence for the person who waits; the work goes on."""
        self.emit("warning", message=message)

    def record_read(self, path: str | os.PathLike[str], size: int) -> None:
        """Add `size` bytes read from the file at `path` to what `done` reports."""
        name = os.fspath(Path(path))
        with self._lock:
            self._bytes_read[name] = self._bytes_read.get(name, 0) + int(size)

    @property
    def stopping(self) -> bool:
        """Whether a signal has asked for the end."""
        return self._stop_signal is not None

    def check_stop(self) -> None:
        """Raise `Stopped` if a signal has asked for the end. Call it when everything so far is saved."""
        if self._stop_signal is not None:
            name = signal.Signals(self._stop_signal).name
            raise Stopped(f"The {self.job.stage} stage stopped after a saved step, as {name} asked.")

    def request_stop(self, number: int) -> None:
        """What the signal handlers call: the next `check_stop` raises."""
        self._stop_signal = number

    def totals(self) -> Mapping[str, Any]:
        """The fields of `done`, except `seconds`. `maxima`: the largest sample of each field of a `memory` event."""
        self._sample(send=False)
        process = memory.process_memory()
        with self._lock:
            return {
                "mlx_peak": memory.mlx_memory()[1],
                "process_peak": max(process.peak, self._maxima.get("process", 0)),
                "bytes_read": dict(self._bytes_read),
                "maxima": dict(self._maxima),
            }

    def _sample(self, *, send: bool = True) -> None:
        now = time.monotonic()
        fields = asdict(memory.sample())
        with self._lock:
            for name, size in fields.items():
                self._maxima[name] = max(size, self._maxima.get(name, 0))
            due = send and now - self._last_memory >= MEMORY_SECONDS
            if due:
                self._last_memory = now
        if due:
            self.emit("memory", **fields)
