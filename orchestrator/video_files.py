"""Names of the finished videos: which codec goes into which container, and where a video may be written."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from cache.runs import slugify
from cache.videos import check_output
from weights.errors import UsageError

CONTAINERS: Mapping[str, tuple[str, ...]] = {
    "h264": (".mp4", ".mov", ".mkv"),
    "hevc": (".mp4", ".mov", ".mkv"),
    "prores": (".mov",),
    "ffv1": (".mkv",),
}


MAX_NAME_BYTES = 200
"""File systems take 255; temporary names and `.base` need some."""


def suffix_of(codec: str) -> str:
    """The container that a codec goes into when the user names none."""
    return CONTAINERS[codec][0]


def check_codec(codec: str) -> None:
    if codec not in CONTAINERS:
        raise UsageError(f"--codec {codec!r} does not exist; choose one of {', '.join(CONTAINERS)}.")


def output_paths(
    output: Path | None, prompt: str, seeds: tuple[int, ...], codec: str, overwrite: bool = False
) -> dict[int, Path]:
    """Seed -> absolute path of its video; UsageError (2) when the name does not suit the codec or cannot be written.

    One seed takes `output` as it is; several take `name-<seed>.mp4`. Nothing is created.
    """
    check_codec(codec)
    if output is None:
        output = Path.cwd() / f"{stem_of(prompt)}{suffix_of(codec)}"
        named = {seed: output.with_name(f"{output.stem}-{seed}{output.suffix}") for seed in seeds}
    else:
        output = Path(os.path.abspath(output.expanduser()))
        check_container(output, codec)
        check_place(output, overwrite)
        named = {seed: output.with_name(f"{output.stem}-{seed}{output.suffix}") for seed in seeds}
        if len(seeds) == 1:
            named = {seeds[0]: output}
    for path in named.values():
        check_place(path, overwrite)
    return named


def stem_of(prompt: str) -> str:
    """What a video is called that nobody named, without its seed."""
    return slugify(prompt) or "video"


def is_called(path: Path, stem: str) -> bool:
    """Whether the file is called so, perhaps with a number behind."""
    return re.fullmatch(rf"{re.escape(stem)}(-[0-9]+)?", path.stem) is not None


def base_path(path: Path) -> Path:
    """Where `--keep-base` puts the video from before temporal upscaling: `ball.mp4` -> `ball.base.mp4`."""
    return path.with_name(f"{path.stem}.base{path.suffix}")


def check_container(path: Path, codec: str) -> None:
    allowed = CONTAINERS[codec]
    if path.suffix.lower() not in allowed:
        raise UsageError(
            f"--codec {codec} cannot be written to {path.name}: its file must end in {' or '.join(allowed)}."
        )


def check_place(path: Path, overwrite: bool) -> None:
    """UsageError when a video can never go there. Whether a file is in the way is asked later, with its key."""
    if len(path.name.encode()) > MAX_NAME_BYTES:
        raise UsageError(f"--output: the file name is too long ({len(path.name.encode())} bytes).")
    check_output(path, overwrite)
