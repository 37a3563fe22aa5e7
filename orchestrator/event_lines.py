"""From the bytes of a worker's event pipe to events, whatever the bytes are.

Guarantees: what comes out is an event of `workers.protocol.EVENTS` with all its fields, each of its type, or a
`warning` that something was dropped. Memory stays bounded by `LINE_LIMIT`. Nothing raises.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import Any

from workers.protocol import EVENTS

Event = dict[str, Any]

LINE_LIMIT = 1 << 20
_WARNINGS = 5  # then only a count: a worker that writes garbage must not flood the screen

_COUNTS = ("pid", "index", "total", "bytes", "exit_code")
_SIZES = ("process", "process_peak", "mlx_active", "mlx_peak", "mlx_cache")
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("stage", "role", "path", "key", "message", "advice", "kind"), str),
    **dict.fromkeys(_COUNTS + _SIZES, int),
    **dict.fromkeys(("bytes_read", "maxima"), dict),
    "seconds": (int, float),
}


class EventLines:
    """Takes the bytes as they come, in any pieces."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._skipping = False  # inside a line that is too long, until its end
        self._dropped = 0

    def feed(self, data: bytes) -> list[Event]:
        """The events whose lines end in `data`."""
        events: list[Event] = []
        *lines, rest = data.split(b"\n")
        for line in lines:
            whole = bytes(self._rest) + line
            skipped, self._skipping = self._skipping, False
            self._rest.clear()
            if skipped or len(whole) > self._limit:
                events += self._drop(f"a line of more than {self._limit} bytes")
            elif whole.strip():
                event = parse_event(whole)
                events += [event] if event is not None else self._drop("a damaged line")
        if not self._skipping:
            self._rest += rest
        if len(self._rest) > self._limit:
            self._rest.clear()
            self._skipping = True
        return events

    def finish(self) -> list[Event]:
        """After the last byte: a line without an end is damaged, and the warnings that were held back."""
        events = self._drop("a line that was cut off") if self._rest or self._skipping else []
        self._rest.clear()
        self._skipping = False
        if self._dropped > _WARNINGS:
            events.append(_warning(f"{self._dropped - _WARNINGS} more lines of the worker's events were dropped."))
            self._dropped = 0
        return events

    def _drop(self, what: str) -> list[Event]:
        self._dropped += 1
        if self._dropped > _WARNINGS:
            return []
        return [_warning(f"The worker's events contained {what}, which was dropped.")]


def parse_event(line: bytes) -> Event | None:
    """The event in one line, or None. A time that is missing is now; numbers that JSON does not have become null."""
    try:
        event = json.loads(line, parse_constant=lambda name: None)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str) or event["event"] not in EVENTS:
        return None
    if not all(name in event and _fits(name, event[name]) for name in EVENTS[event["event"]]):
        return None
    if not _fits("seconds", event.get("time")):
        event["time"] = time.time()
    return event


def _fits(name: str, value: Any) -> bool:
    expected = _TYPES.get(name)
    if expected is None:
        return True
    if isinstance(value, bool) or not isinstance(value, expected):
        return False
    return not isinstance(value, float) or math.isfinite(value)


def _warning(message: str) -> Event:
    return {"event": "warning", "time": time.time(), "message": message}
