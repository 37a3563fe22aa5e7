"""The bundled tiny model: where it lies, and the settings that it was trained for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from weights.catalogue import is_tiny_header
from weights.errors import WeightsError
from weights.header import read_header


@dataclass(frozen=True)
class TinyDefaults:
    """Base size in pixels and frames, and the most guidance where no second stage mends what it distorts; else the flow
    is LTX-2's own."""

    height: int = 128
    width: int = 192
    frames: int = 25
    one_stage_cfg: float = 3.0


TINY_DEFAULTS = TinyDefaults()


def tiny_folder() -> Path:
    """The folder with its files. WeightsError when this installation lacks them."""
    folder = Path(str(files("weights"))) / "tiny"
    if not (folder / "ltx-2-tiny-dev.safetensors").is_file():
        raise WeightsError(
            f"The bundled tiny model is not where it should be ({folder}).", advice="Install ltx-relay again."
        )
    return folder


def is_tiny(path: Path | str) -> bool:
    """Whether a weights file is one of the tiny model's, by what it says of itself (copies count)."""
    return is_tiny_header(read_header(path))
