"""A worker's two lines to its orchestrator: events out, and the pipe whose end means that the orchestrator died.

Guarantees: an event is one line of ASCII JSON, written whole and in order, whatever thread emits it and whatever the
stage prints. An orchestrator that stops listening never fails the stage. Not guaranteed: that anyone reads; a pipe
that is full makes the worker wait.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from typing import Any, NoReturn

from cache.failpoints import failpoint
from workers.protocol import EVENT_FD_VARIABLE, EVENTS

TEXT_LIMIT = 16_000
"""Characters of one text in an event: longer ones are cut, so that a line stays readable for the supervisor."""


class EventChannel:
    """Writes events to a descriptor; without one (a worker run by hand) they go nowhere."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    @staticmethod
    def from_environment() -> EventChannel:
        """The channel that the supervisor made; a descriptor that is not open counts as none."""
        try:
            descriptor = int(os.environ.pop(EVENT_FD_VARIABLE))
            # A grandchild that held it would keep the supervisor from seeing the end of the events.
            os.set_inheritable(descriptor, False)
        except (KeyError, ValueError, OverflowError, OSError):
            return EventChannel(None)
        return EventChannel(descriptor)

    @property
    def supervised(self) -> bool:
        """Whether an orchestrator listens."""
        return self._descriptor is not None

    def emit(self, event: str, **fields: Any) -> None:
        """Write one event. ValueError for an event or a set of fields that `workers.protocol.EVENTS` does not know."""
        missing = [name for name in EVENTS[event] if name not in fields] if event in EVENTS else ["its definition"]
        if missing:
            raise ValueError(f"The event {event!r} lacks {', '.join(missing)}.")
        fields = {name: _cut(value) for name, value in fields.items()}
        line = json.dumps({"event": event, "time": time.time(), **fields}, default=str).encode() + b"\n"
        with self._lock:
            if self._descriptor is None:
                return
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:
                # The reader closed its end. Whether it is gone for good is for the watch on stdin to say.
                self._descriptor = None
        failpoint(f"event.{event}")


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > TEXT_LIMIT:
        return value[:TEXT_LIMIT] + " [...]"
    return value


def end_with_parent() -> None:
    """End this process as soon as stdin ends, which is when the orchestrator is gone, however it went.

    A thread in `os.read(0, 1)`: a buffered read would hold a lock that aborts the interpreter at exit. Nothing is
    saved then; what is on the disk is whole anyway, because it was published atomically.
    """
    threading.Thread(target=_wait_for_end, name="parent-watch", daemon=True).start()


def _wait_for_end() -> NoReturn:
    while True:
        try:
            if os.read(0, 1) == b"":
                break
        except OSError:
            break
    if os.getpgrp() == os.getpid():
        with contextlib.suppress(OSError):
            os.killpg(0, signal.SIGKILL)  # with anything that this worker started
    os._exit(1)
