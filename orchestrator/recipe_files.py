"""Where a recipe can be read from: recipe.json, the record beside a video, or the video itself.

Files may come from strangers: sizes are bounded before anything is parsed, and FFmpeg sees only a regular file that
begins as a video of ours does, opened as that container and nothing else.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from orchestrator.recipe import MAX_BYTES, Recipe, recipe_from_dict, recipe_from_json
from weights.errors import UsageError

_MATROSKA = b"\x1a\x45\xdf\xa3"
_HEAD = 12
_NO_RECIPE = "Only videos that ltx-relay wrote have one; other programs that edit a video may drop it."


def read_recipe(name: str) -> Recipe:
    """UsageError naming the file where there is none in it."""
    path = Path(name).expanduser()
    try:
        # Without O_NONBLOCK a named pipe would hang here.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(f"--recipe {name} is not a regular file.")
            container = container_of(file.read(_HEAD))
            file.seek(0)
            raw = b"" if container else file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        words = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise UsageError(f"--recipe {name} cannot be read: {words}.") from error
    try:
        return recipe_in_video(path, container) if container else recipe_in_json(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UsageError(
            f"--recipe {name} is not a recipe of ltx-relay: it is not text, and no video of ours."
        ) from error
    except UsageError as error:
        raise UsageError(f"--recipe {name}: {error.message}", advice=error.advice) from error


def recipe_in_json(text: str) -> Recipe:
    """A recipe, or the record of a video that holds one."""
    if len(text) <= MAX_BYTES and '"recipe"' in text:
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            record = None  # said better below
        if isinstance(record, dict) and isinstance(record.get("recipe"), dict) and "prompt" not in record:
            return recipe_from_dict(record["recipe"])
    if not text.lstrip().startswith("{"):
        raise UsageError("this is not a recipe of ltx-relay, and no video that it wrote.", advice=_NO_RECIPE)
    return recipe_from_json(text)


def container_of(head: bytes) -> str | None:
    """FFmpeg's name of the container that a file begins as; None for anything that we do not write."""
    if head.startswith(_MATROSKA):
        return "matroska"
    return "mov" if head[4:8] == b"ftyp" else None


def recipe_in_video(path: Path, container: str) -> Recipe:
    """From the video's comment. UsageError where FFmpeg cannot read it, or it carries none."""
    import av

    try:
        with av.open(f"file:{path}", format=container, metadata_errors="replace") as video:
            metadata: dict[str, Any] = {key.lower(): value for key, value in video.metadata.items()}
    except (av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise UsageError(f"the video cannot be read: {reason}.") from error
    comment = metadata.get("comment", "")
    if not comment.lstrip().startswith("{"):
        raise UsageError("this video carries no recipe.", advice=_NO_RECIPE)
    try:
        return recipe_from_json(comment)
    except UsageError as error:
        raise UsageError(f"this video's recipe cannot be read: {error.message}", advice=error.advice) from error
