"""What a report tells, from a run's record (`runs show`) and its events. Pure, and never raises for odd events.

A run that was resumed has several sessions. Time runs on without the pauses between them: `Facts.sessions` are where
each one begins, and every time here is in seconds of that clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

MAX_POINTS = 2_000
"""Of memory over time: a report of a run of days is still one page."""
MAX_STEPS, MAX_LOADS = 20_000, 200
"""Of one worker."""


@dataclass(frozen=True)
class Worker:
    """One process: from its start to its end, with the parts in which it read weights, and its steps (end, seconds)."""

    stage: str
    pid: int | None
    began: float
    ended: float
    how: str = "running"
    """ "running", "done", "retried" or "failed"."""
    loading: tuple[tuple[float, float], ...] = ()
    steps: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Stage:
    """Bytes and seconds; None where it is not known. `memory`: what was planned, and measured (see `StageMemory`)."""

    name: str
    status: str
    seconds: float | None
    peak: int | None
    predicted: int | None
    measured: int | None
    bytes_read: int
    holding: str
    tries: int
    keys: tuple[str, ...]
    log: str


@dataclass(frozen=True)
class Video:
    path: str
    seed: int | None
    role: str
    key: str
    width: int
    height: int
    frames: int
    fps: str
    bytes: int


@dataclass(frozen=True)
class Facts:
    """A run. `points`: (time, bytes, stage) of memory; `remarks`: (kind, stage, sentence) of warnings and retries."""

    run: str
    status: str
    created: float
    folder: str
    recipe: Mapping[str, Any]
    seconds: float
    started: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    workers: tuple[Worker, ...] = ()
    videos: tuple[Video, ...] = ()
    outputs: tuple[str, ...] = ()
    points: tuple[tuple[float, int, str], ...] = ()
    remarks: tuple[tuple[str, str, str], ...] = ()
    sessions: tuple[float, ...] = ()
    error: Mapping[str, Any] | None = None
    stopped: str = ""

    @property
    def budget(self) -> int | None:
        return integer(mapping(self.started.get("budget")).get("bytes"))

    @property
    def monolith(self) -> tuple[tuple[str, str, int], ...]:
        """(stage, role, bytes) of what one process would hold."""
        parts = mapping(self.started.get("monolith")).get("parts")
        found = [mapping(part) for part in parts] if isinstance(parts, list) else []
        return tuple((str(p.get("stage", "")), str(p.get("role", "")), integer(p.get("bytes")) or 0) for p in found)

    @property
    def largest(self) -> Stage | None:
        stage = max(self.stages, key=lambda stage: stage.peak or 0, default=None)
        return stage if stage and stage.peak else None


def facts_of(record: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> Facts:
    """record: what `runs show` has."""
    fold = _Fold()
    for event in events:
        fold.take(event)
    fold.finish(record["status"] == "running")
    return Facts(
        run=record["run"],
        status=record["status"],
        created=record["created"],
        folder=record["folder"],
        recipe=record["recipe"],
        seconds=fold.now,
        started=fold.started,
        stages=tuple(_stage(raw) for raw in record["stages"] if raw["name"] != "preview"),
        workers=tuple(fold.workers),
        videos=tuple(fold.videos.values()),
        outputs=tuple(record["outputs"]),
        points=thinned(fold.points),
        remarks=tuple(fold.remarks[-100:]),
        sessions=tuple(fold.sessions),
        error=fold.error,
        stopped=fold.stopped,
    )


def thinned(points: list[tuple[float, int, str]]) -> tuple[tuple[float, int, str], ...]:
    """At most MAX_POINTS; of neighbours the highest stays."""
    group = -(-len(points) // MAX_POINTS) or 1
    return tuple(max(points[at : at + group], key=lambda point: point[1]) for at in range(0, len(points), group))


def _stage(raw: Mapping[str, Any]) -> Stage:
    memory = mapping(mapping(raw["notes"]).get("memory"))
    return Stage(
        name=str(raw["name"]),
        status=str(raw["status"]),
        seconds=number(raw["seconds"]),
        peak=max(raw["mlx_peak"] or 0, raw["process_peak"] or 0) or None,
        predicted=integer(memory.get("predicted")),
        measured=integer(memory.get("measured")),
        bytes_read=sum(raw["bytes_read"].values()),
        holding=str(memory.get("holding") or ""),
        tries=integer(memory.get("tries")) or 1,
        keys=tuple(raw["keys"]),
        log=str(raw["log"]),
    )


class _Fold:
    """Events in order, on a clock that stands still between sessions."""

    def __init__(self) -> None:
        self.offset: float | None = None
        self.now = 0.0
        self.sessions: list[float] = []
        self.started: Mapping[str, Any] = {}
        self.workers: list[Worker] = []
        self.videos: dict[str, Video] = {}
        self.points: list[tuple[float, int, str]] = []
        self.remarks: list[tuple[str, str, str]] = []
        self.error: Mapping[str, Any] | None = None
        self.stopped = ""
        self.on_card = False

    def take(self, event: Mapping[str, Any]) -> None:
        kind, stage, time = event.get("event"), str(event.get("stage", "")), number(event.get("time"))
        if time is None:
            return
        if kind == "run_started" or self.offset is None:
            self._session(event if kind == "run_started" else {}, time)
        assert self.offset is not None
        self.now = max(self.now, time - self.offset)  # the clock of a computer may be set back
        match kind:
            case "stage_started":
                self._end("failed")
                self.workers.append(Worker(stage, integer(event.get("pid")), self.now, self.now))
            case "loading":
                self._change(loading=lambda worker: (*worker.loading[:MAX_LOADS], (self.now, self.now)))
            case "loaded":
                self._change(loading=self._loaded)
            case "step":
                took = number(event.get("seconds")) or 0.0
                self._change(steps=lambda worker: (*worker.steps[:MAX_STEPS], (self.now, took)))
            case "memory":
                name = "mlx_active" if self.on_card else "process"
                self._point(integer(event.get(name)), stage)
            case "sample" if not self.on_card:
                self._point(integer(event.get("resident")), stage)
            case "stage_done":
                self._end("done")
            case "retry":
                self._end("retried")
                self.remarks.append(("retry", stage, str(event.get("message", ""))))
            case "warning":
                self.remarks.append(("warning", stage, str(event.get("message", ""))))
            case "stalled":
                silence = number(event.get("seconds")) or 0.0
                self.remarks.append(("stalled", stage, f"Nothing was heard of the worker for {silence:.0f} seconds."))
            case "video_done":
                self._video(event)
            case "stopped":
                self.stopped = str(event.get("message", ""))
            case "error":
                self._end("failed")
                self.error = event
                words = " ".join(str(event.get(name) or "") for name in ("message", "advice"))
                self.remarks.append(("error", "", words))

    def finish(self, running: bool) -> None:
        if not running:
            self._end("failed")
        elif self.workers and self.workers[-1].how == "running":
            self.workers[-1] = replace(self.workers[-1], ended=self.now)

    def _session(self, event: Mapping[str, Any], time: float) -> None:
        if self.workers:
            self._end("failed")
        self.offset = time - self.now
        self.sessions.append(self.now)
        self.started, self.error, self.stopped = event or self.started, None, ""
        self.on_card = mapping(self.started.get("machine")).get("backend") == "cuda"

    def _change(self, **makers: Any) -> None:
        if self.workers and self.workers[-1].how == "running":
            changes = {name: make(self.workers[-1]) for name, make in makers.items()}
            self.workers[-1] = replace(self.workers[-1], **changes)

    def _loaded(self, worker: Worker) -> tuple[tuple[float, float], ...]:
        if not worker.loading:
            return ()
        return (*worker.loading[:-1], (worker.loading[-1][0], self.now))

    def _end(self, how: str) -> None:
        if self.workers and self.workers[-1].how == "running":
            self.workers[-1] = replace(self.workers[-1], ended=self.now, how=how)

    def _point(self, size: int | None, stage: str) -> None:
        if size:
            self.points.append((self.now, size, stage))

    def _video(self, event: Mapping[str, Any]) -> None:
        path = str(event.get("path", ""))
        sizes = {name: integer(event.get(name)) or 0 for name in ("width", "height", "frames", "bytes")}
        self.videos[path] = Video(
            path,
            integer(event.get("seed")),
            str(event.get("role", "video")),
            str(event.get("key", "")),
            fps=str(event.get("fps", "")),
            **sizes,
        )


def mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if isfinite(found) else None


def integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62 else None
