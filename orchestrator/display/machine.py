"""Displays for programs: events as JSON lines, or nothing but the path."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import Any, TextIO

from orchestrator.display.streams import Stream
from orchestrator.display.view import RunView, fold


class JsonDisplay:
    """Every event as one line of ASCII JSON on standard output, flushed at once, and nothing else there."""

    def __init__(self, stdout: TextIO | None) -> None:
        self.view = RunView()
        self._stdout = Stream(stdout)

    def note(self, message: str) -> None:
        """A remark on the settings, before there is a run: a `warning` without a stage."""
        self.event({"event": "warning", "time": time.time(), "run": self.view.run, "message": message})

    def event(self, event: Mapping[str, Any]) -> None:
        self.view = fold(self.view, event)
        self._stdout.write(json_line(event))

    def close(self) -> None:
        """Nothing more to say."""


class QuietDisplay:
    """The paths of the finished videos on standard output, at the end."""

    def __init__(self, stdout: TextIO | None) -> None:
        self.view = RunView()
        self._stdout = Stream(stdout)
        self._closed = False

    def note(self, message: str) -> None:
        """Not asked for."""

    def event(self, event: Mapping[str, Any]) -> None:
        self.view = fold(self.view, event)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            for path in self.view.paths:
                self._stdout.write_path(path)


def json_line(value: object) -> str:
    """Strict JSON: a NaN is null, a path or anything else that JSON lacks its text."""
    return json.dumps(_plain(value), allow_nan=False, default=str) + "\n"


def _plain(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
