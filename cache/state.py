"""What a run says about itself: `state.json`, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from weights.errors import ArtifactError, UsageError

FORMAT = 1
RUN_STATUS = ("running", "done", "failed", "interrupted")
STAGE_STATUS = ("pending", "cached", "computed", "failed")


@dataclass(frozen=True)
class StageState:
    """One stage of a run; peaks in bytes. `bytes_read`: per weights file. `notes`: whatever else is worth a record."""

    status: str = "pending"
    keys: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()
    pid: int | None = None
    seconds: float | None = None
    mlx_peak: int | None = None
    process_peak: int | None = None
    bytes_read: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in STAGE_STATUS:
            raise ValueError(f"{self.status!r} is no status of a stage.")
        for name in ("keys", "artifacts"):  # a list is as good
            object.__setattr__(self, name, tuple(map(str, getattr(self, name))))


@dataclass(frozen=True)
class RunState:
    """`created`, `updated`: seconds since the epoch. `owner`: the mark of the process that runs it, see `processes`.

    `stop_after`: the stage that was to be the last one, where a run does not go to the end.
    """

    status: str
    created: float
    updated: float
    owner: str = ""
    outputs: tuple[str, ...] = ()
    stages: Mapping[str, StageState] = field(default_factory=dict)
    stop_after: str | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.status not in RUN_STATUS:
            raise ValueError(f"{self.status!r} is no status of a run.")

    def with_stage(self, stage: str, **changes: Any) -> RunState:
        """The state with some fields of one stage changed; a stage that is new begins as pending."""
        changed = replace(self.stages.get(stage, StageState()), **changes)
        return replace(self, stages={**self.stages, stage: changed})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(raw: Mapping[str, Any], path: Path) -> RunState:
        """ArtifactError when `raw` (from the file `path`) is no state, UsageError when it is a newer program's."""
        try:
            version = _number(raw["format"])
            if version > FORMAT:
                raise UsageError(
                    f"The run in {path.parent} was made by a newer version of ltx-relay (format {version}).",
                    advice="Update ltx-relay.",
                )
            return RunState(
                status=_text(raw["status"]),
                created=_number(raw["created"]),
                updated=_number(raw["updated"]),
                owner=_text(raw["owner"]),
                outputs=_texts(raw["outputs"]),
                stages={_text(name): _stage(entry) for name, entry in _mapping(raw["stages"]).items()},
                stop_after=None if raw.get("stop_after") is None else _text(raw["stop_after"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"The state {path} is damaged ({error!r}).") from error


def _stage(value: Any) -> StageState:
    raw = _mapping(value)
    return StageState(
        status=_text(raw["status"]),
        keys=_texts(raw["keys"]),
        artifacts=_texts(raw["artifacts"]),
        pid=_optional(raw["pid"]),
        seconds=_optional(raw["seconds"]),
        mlx_peak=_optional(raw["mlx_peak"]),
        process_peak=_optional(raw["process_peak"]),
        bytes_read={name: _number(count) for name, count in _mapping(raw["bytes_read"]).items()},
        notes=_mapping(raw["notes"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.100} is no text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{value!r:.100} is no list")
    return tuple(_text(entry) for entry in value)


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r:.100} is no object")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r:.100} is no number")
    return value


def _optional(value: Any) -> Any:
    return None if value is None else _number(value)
