"""The recipe of an upscaled video: every setting that decides what it looks like, with nothing left open.

Like a video's recipe it names no output and nothing in it is executed; unlike one it names a file, the video that it
starts from, and that file's hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cache.records import SEAL
from orchestrator.memory_tiles import Tiles
from orchestrator.recipe import FORMAT, WeightsChoice
from orchestrator.upscaling.chunks import check_length
from weights.errors import UsageError

TEMPORAL, SPATIAL = "upscale-temporal", "upscale-spatial"
KINDS = (TEMPORAL, SPATIAL)


@dataclass(frozen=True)
class FromRun:
    """The latent that a run of ours decoded the video from. shape: frames, rows, columns; crop: the video's size."""

    run: str
    key: str
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class UpscaleRecipe:
    """video: the file's absolute path; sha256: of its content. chunk: frames that are computed together."""

    kind: str
    video: str
    sha256: str
    weights: WeightsChoice
    dtype: str = "auto"
    codec: str = "h264"
    sound: bool = True
    memory: int | None = None
    chunk: int | None = None
    encode_tiles: tuple[int, ...] | None = None
    tiles: tuple[int, ...] | None = None
    from_run: FromRun | None = None

    @property
    def factor(self) -> int:
        """Frames of the result to one of the video."""
        return 2 if self.kind == TEMPORAL else 1

    @property
    def stage(self) -> str:
        return "temporal" if self.kind == TEMPORAL else "spatial"

    @property
    def title(self) -> str:
        """For lists of runs."""
        return f"{self.kind} {Path(self.video).name}"

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, "title": self.title, **asdict(self)}


def is_upscale(raw: Mapping[str, Any]) -> bool:
    """Whether a run's recipe is one of these."""
    return raw.get("kind") in KINDS


def upscale_from_dict(raw: Mapping[str, Any]) -> UpscaleRecipe:
    """UsageError in a sentence for anything that is not a recipe of this format."""
    if raw.get("format") != FORMAT:
        raise UsageError(
            f"This recipe has format {raw.get('format')!r:.60}; this program reads format {FORMAT}.",
            advice="Install the version of ltx-relay that wrote it.",
        )
    values = {key: value for key, value in raw.items() if key not in ("format", "title", SEAL)}
    try:
        if unknown := sorted(set(values) - {field.name for field in fields(UpscaleRecipe)}):
            raise ValueError(f"unknown settings {unknown}")
        values["weights"] = WeightsChoice(**values["weights"])
        if values.get("chunk") is not None and values.get("from_run") is None:
            check_length(values["chunk"])
        for name in ("tiles", "encode_tiles"):
            if values.get(name) is not None:
                values[name] = tuple(map(int, values[name]))
                Tiles.from_recipe(values[name])
        if values.get("from_run") is not None:
            found = values["from_run"]
            frames, rows, columns = map(int, found["shape"])
            values["from_run"] = FromRun(str(found["run"]), str(found["key"]), (frames, rows, columns))
        return UpscaleRecipe(**values)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UsageError(f"The recipe is incomplete or damaged: {error}.") from error
