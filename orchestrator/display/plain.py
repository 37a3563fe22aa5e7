"""Progress as plain lines on standard error, for logs, pipes and dumb terminals; ASCII, no colours, no cursor.

A step is reported when the last line of its stage is at least `EVERY` seconds old, so that a log of 18 steps stays
short and one of an hour still moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TextIO

from orchestrator.display.stages import summary
from orchestrator.display.streams import Stream
from orchestrator.display.view import RunView, StageView, fold, remark
from orchestrator.display.words import (
    duration,
    file_size,
    memory_size,
    pace,
    printable,
    stage_label,
    step_unit,
    video_words,
)

EVERY = 5.0


class PlainDisplay:
    """Lines to `stderr`; at the end the paths of the finished videos to `stdout`."""

    def __init__(self, stderr: TextIO | None, stdout: TextIO | None) -> None:
        self.view = RunView()
        self._stderr = Stream(stderr)
        self._stdout = Stream(stdout)
        self._spoke: dict[str, float] = {}
        self._closed = False

    def note(self, message: str) -> None:
        self._say(f"note: {message}")

    def event(self, event: Mapping[str, Any]) -> None:
        self.view = fold(self.view, event)
        stages = {stage.name: stage for stage in self.view.stages}
        stage = stages.get(str(event.get("stage")))
        if sentence := remark(event):
            label = f"{stage_label(stage.name)}: " if stage and event.get("event") != "stalled" else ""
            self._say(f"{label}{sentence}")
            return
        match event.get("event"):
            case "run_started":
                self._start(event)
            case "run_done":
                self._say(summary(self.view))
            case "preview" if stage and event.get("index") == event.get("total") and event.get("index"):
                self._say(f"{stage_label(stage.name)}: preview: {event.get('path')}")
            case kind if stage:
                self._stage(stage, str(kind), event)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            for path in self.view.paths:
                self._stdout.write_path(path)

    def _start(self, event: Mapping[str, Any]) -> None:
        if prompt := self.view.recipe.get("prompt"):
            self._say(f"prompt: {prompt}")
        elif title := self.view.recipe.get("title"):
            self._say(str(title))
        words = video_words(event.get("width"), event.get("height"), event.get("frames"), event.get("fps"))
        self._say(f"video: {words}" + (f", run {self.view.run}" if self.view.run else ""))

    def _stage(self, stage: StageView, kind: str, event: Mapping[str, Any]) -> None:
        time = event.get("time")
        now = float(time) if isinstance(time, int | float) else 0.0
        line = stage_words(stage, kind, now)
        if not line or (kind == "step" and now - self._spoke.get(stage.name, stage.began or 0.0) < EVERY):
            return
        self._spoke[stage.name] = now
        self._say(f"{stage_label(stage.name)}: {line}")

    def _say(self, line: str) -> None:
        self._stderr.write(printable(line) + "\n")


def stage_words(stage: StageView, kind: str, now: float) -> str:
    """What a line says after an event of that kind; empty: nothing."""
    match kind:
        case "stage_cached":
            return "from the cache"
        case "stage_waiting":
            return f"waiting: {stage.message}" if stage.message else "waiting"
        case "stage_started":
            weights = f"{file_size(stage.weights_bytes)} of weights" if stage.weights_bytes else ""
            worker = f"process {stage.pid}" if stage.pid else ""
            return ", ".join(filter(None, ("started", worker, weights)))
        case "step":
            video = f"{stage.noun} {stage.item} of {stage.items}, " if stage.items > 1 else ""
            line = f"{video}{step_unit(stage.name)} {stage.index}/{stage.total}"
            if stage.pace is not None:
                line += f", {pace(stage.pace)} each"
            left = stage.time_left(now)
            if left:
                line += f", {duration(left)} left"
            return line + (f", {memory_size(stage.memory)}" if stage.memory else "")
        case "stage_done":
            peak = f", peak {memory_size(stage.peak)}" if stage.peak else ""
            return f"done in {duration(stage.seconds)}{peak}" if stage.seconds is not None else f"done{peak}"
        case _:
            return ""
