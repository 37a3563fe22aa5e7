"""What a run looks like so far: a pure fold of its events into frozen views, which the displays draw.

Nothing here prints, sleeps or reads a clock: time comes from the events, or as `now` (seconds since the epoch).
An event of an unknown kind, of an unknown stage or with missing fields changes what it can and never raises: a display
must not end a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from statistics import median
from typing import Any, Literal

from orchestrator.display.words import duration, stage_label

Status = Literal["pending", "cached", "waiting", "loading", "running", "done", "failed"]
FINISHED: tuple[Status, ...] = ("cached", "done")
RECENT_STEPS = 5
"""Time left follows the median of so many steps: the first one compiles kernels, and a single slow one says little."""


@dataclass(frozen=True)
class StageView:
    """One stage. `item` and `index` count from 1; bytes; `began`, `last_step` in seconds since the epoch.

    `weights_bytes` is what the worker will read in all, where that was said; `loading` what it began to read so far.
    """

    name: str
    items: int = 1
    noun: str = "video"
    """What an item is called."""
    status: Status = "pending"
    message: str = ""
    pid: int | None = None
    weights_bytes: int = 0
    loading: int = 0
    item: int = 1
    index: int = 0
    total: int = 0
    recent: tuple[float, ...] = ()
    began: float | None = None
    last_step: float | None = None
    memory: int = 0
    peak: int = 0
    seconds: float | None = None

    @property
    def fraction(self) -> float:
        """How much of the stage is done, 0 to 1."""
        if not self.total:
            return 0.0
        return min(1.0, (self.item - 1 + self.index / self.total) / max(self.items, self.item))

    @property
    def pace(self) -> float | None:
        """Seconds per step."""
        return median(self.recent) if self.recent else None

    def time_left(self, now: float) -> float | None:
        """Seconds until the stage's last step ends; None before the first one did."""
        if self.pace is None or self.last_step is None:
            return None
        steps = max(0, self.items - self.item) * self.total + self.total - self.index
        return max(0.0, steps * self.pace - max(0.0, now - self.last_step))

    def elapsed(self, now: float) -> float:
        return max(0.0, now - self.began) if self.began is not None else 0.0


@dataclass(frozen=True)
class RunView:
    """One run. `started` is its `run_started` event, `videos` its `video_done` events, `error` its `error` event."""

    run: str | None = None
    started: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[StageView, ...] = ()
    videos: tuple[Mapping[str, Any], ...] = ()
    error: Mapping[str, Any] | None = None
    seconds: float | None = None

    @property
    def recipe(self) -> Mapping[str, Any]:
        return _mapping(self.started.get("recipe"))

    @property
    def paths(self) -> tuple[str, ...]:
        """The finished videos in the order of their making; base videos are not among them."""
        return tuple(str(video["path"]) for video in self.videos if video.get("role", "video") == "video")

    @property
    def largest(self) -> StageView | None:
        """The stage whose worker took the most memory, as far as measured."""
        stage = max(self.stages, key=lambda stage: stage.peak, default=None)
        return stage if stage and stage.peak else None


def fold(view: RunView, event: Mapping[str, Any]) -> RunView:
    """The view after one more event."""
    if view.run is None and event.get("run"):
        view = replace(view, run=str(event["run"]))
    kind = event.get("event")
    if kind == "run_started":
        declared = event.get("stages")
        stages = tuple(_declared(raw) for raw in declared if _mapping(raw)) if isinstance(declared, list) else ()
        return replace(view, started=event, stages=stages)
    if kind == "video_done":
        return replace(view, videos=(*view.videos, event)) if event.get("path") else view
    if kind == "run_done":
        return replace(view, seconds=_number(event.get("seconds")))
    if kind == "error":
        stages = tuple(
            replace(stage, status="failed") if stage.status in ("waiting", "loading", "running") else stage
            for stage in view.stages
        )
        return replace(view, error=event, stages=stages)
    if event.get("stage"):
        return _with_stage(view, str(event["stage"]), event)
    return view


def remark(event: Mapping[str, Any]) -> str:
    """The sentence for a person in an event that has one; empty for the others."""
    match event.get("event"):
        case "warning" | "retry" | "interrupting" | "stopped":
            return str(event.get("message", ""))
        case "stalled":
            silence = duration(_number(event.get("seconds")) or 0.0)
            return f"{stage_label(str(event.get('stage', 'the worker')))} has said nothing for {silence}."
        case "loaded" if event.get("loras"):
            return "; ".join(map(_lora_words, _mappings(event.get("loras"))))
        case "contact_sheet":
            return f"contact sheet: {event.get('path')}"
        case "video_done" if event.get("summary"):
            return str(event["summary"])
        case "video_done" if event.get("role") == "base":
            return f"base video: {event.get('path')}"
        case _:
            return ""


def _lora_words(lora: Mapping[str, Any]) -> str:
    strength = _number(lora.get("strength"))
    times = "" if strength is None else f" x{strength:g}"
    return f"LoRA {Path(str(lora.get('path'))).name}{times}: {lora.get('summary')}"


def _with_stage(view: RunView, name: str, event: Mapping[str, Any]) -> RunView:
    stages = view.stages
    if name not in (stage.name for stage in stages):
        stages = (*stages, StageView(name))
    return replace(view, stages=tuple(_stage(stage, event) if stage.name == name else stage for stage in stages))


def _stage(stage: StageView, event: Mapping[str, Any]) -> StageView:
    """The stage after an event of its own."""
    time = _number(event.get("time"))
    match event.get("event"):
        case "stage_cached":
            return replace(stage, status="cached")
        case "stage_waiting":
            return replace(stage, status="waiting", message=str(event.get("message", "")), began=stage.began or time)
        case "stage_started":
            return StageView(
                stage.name,
                items=_whole(event.get("items"), stage.items),
                noun=stage.noun,
                status="running",
                pid=_whole(event.get("pid"), 0) or None,
                weights_bytes=_whole(event.get("weights_bytes"), 0),
                began=time,
            )
        case "loading":
            if stage.index:  # streamed weights are loaded between steps too: that is work as usual
                return stage
            loading = stage.loading + _whole(event.get("bytes"), 0)
            return replace(stage, status="loading", loading=loading, began=stage.began or time)
        case "loaded":
            return replace(stage, status="running")
        case "item":
            item, items = _whole(event.get("index"), stage.item), _whole(event.get("total"), stage.items)
            return replace(stage, status="running", item=max(1, item), items=max(1, items), index=0, total=0)
        case "step":
            return _step(stage, event, time)
        case "memory":
            memory = max(_whole(event.get("mlx_active"), 0), _whole(event.get("process"), 0))
            peak = max(stage.peak, memory, _whole(event.get("mlx_peak"), 0))
            return replace(stage, memory=memory, peak=peak)
        case "sample":  # the supervisor's view of the same process, from outside
            seen = _whole(event.get("resident"), 0)
            return replace(
                stage, memory=max(stage.memory, seen), peak=max(stage.peak, seen, _whole(event.get("peak"), 0))
            )
        case "stage_done":
            peaks = (_whole(event.get("mlx_peak"), 0), _whole(event.get("process_peak"), 0))
            return replace(stage, status="done", seconds=_number(event.get("seconds")), peak=max(*peaks, stage.peak))
        case _:
            return stage


def _step(stage: StageView, event: Mapping[str, Any], time: float | None) -> StageView:
    seconds = _number(event.get("seconds"))
    return replace(
        stage,
        status="running",
        item=max(1, _whole(event.get("item"), stage.item)),
        items=max(1, _whole(event.get("items"), stage.items)),
        index=max(0, _whole(event.get("index"), stage.index)),
        total=max(0, _whole(event.get("total"), stage.total)),
        recent=stage.recent if seconds is None else (*stage.recent, max(0.0, seconds))[-RECENT_STEPS:],
        last_step=time if time is not None else stage.last_step,
    )


def _declared(raw: Mapping[str, Any]) -> StageView:
    status: Status = "cached" if raw.get("cached") else "pending"
    items = raw.get("items")
    return StageView(
        str(raw.get("name")),
        items=len(items) if isinstance(items, list) else _whole(items, 1),
        noun=str(raw.get("noun", "video")),
        status=status,
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _whole(value: object, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default
