"""`weights list`: what is where, what kind, which version, which stages it serves; and which presets can run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.commands.asked import absolute
from orchestrator.commands.options import Debug, Json
from orchestrator.commands.sheet import Line, hanging, write_lines
from orchestrator.display.streams import Stream
from orchestrator.display.words import file_size, stage_label
from weights.errors import UsageError, WeightsError

if TYPE_CHECKING:
    from orchestrator.shelf import Readiness
    from weights.catalogue import WeightsFile
    from weights.resolve_search import Shelf

ORDER = ("checkpoint", "lora", "spatial-upscaler", "temporal-upscaler", "gemma")


def list_weights(
    folders: Annotated[
        list[str] | None,
        typer.Argument(metavar="FOLDER...", show_default="all that `generate` searches", help="Folders of weights."),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the weights that are there: kind, version, size, the stages that each file serves.

    Below them, whether each preset could run with these files, or what it lacks. Only headers are read.
    """
    from orchestrator.shelf import look, readiness, record

    if "" in (folders or ()):
        raise UsageError("FOLDER names no folder.")
    named = [Path(absolute(folder)) for folder in folders or ()]
    for folder in named:
        if not folder.is_dir():
            raise WeightsError(f"{folder} is {'a file, and no folder' if folder.exists() else 'not there'}.")
    shelf = look(named)
    presets = readiness(shelf, named[0] if len(named) == 1 else None)
    if not json:
        write_lines(lines(shelf, presets))
        return
    from orchestrator.display.machine import json_line

    document = {
        "folders": [str(folder) for folder in shelf.folders],
        "files": [record(file) for file in shelf.files],
        "unusable": [{"path": str(broken.path), "why": broken.error.message} for broken in shelf.unusable],
        "presets": [
            {"preset": one.preset, "ready": not one.trouble, "uses": one.uses, "why": one.trouble, "advice": one.advice}
            for one in presets
        ],
    }
    Stream(sys.stdout).write(json_line(document))


def lines(shelf: Shelf, presets: list[Readiness]) -> Iterator[Line]:
    for folder in shelf.folders:
        yield [(str(folder), "bold")]
        inner = [file for file in shelf.files if folder in (file.path, *file.path.parents)]
        files = sorted(inner, key=lambda file: ORDER.index(file.kind))
        broken = [one for one in shelf.unusable if folder in (one.path, *one.path.parents)]
        paths = [file.path for file in files] + [one.path for one in broken]
        names = [str(inside(path, folder)) for path in paths]
        width = max(map(len, names), default=0)
        for file, name in zip(files, names, strict=False):
            yield from hanging([(f"  {file_size(file.size):>8}  {name:<{width}}  ", "")], words(file), "dim")
        for one, name in zip(broken, names[len(files) :], strict=True):
            label = [(f"  {'':>8}  {name:<{width}}  ", "")]
            yield from hanging(label, f"not usable: {one.error.message}", "red")
        if not files and not broken:
            yield [("  nothing there" if folder.is_dir() else "  no such folder", "dim")]
    yield []
    for ready in presets:
        if ready.trouble:
            yield from hanging([(f"{ready.preset:<10}", "bold")], f"lacks something: {ready.trouble}", "yellow")
        else:
            used = ", ".join(Path(path).name for path in ready.uses)
            yield from hanging([(f"{ready.preset:<10}", "bold"), ("ready ", "green")], used, "dim")
    if any(ready.trouble for ready in presets):
        yield [("`ltx-relay weights download --preset NAME` fetches what a preset lacks.", "")]


def words(file: WeightsFile) -> str:
    """ "dev 2.0: text, stage 1, decode" """
    from orchestrator.shelf import stages_of

    kind = {"checkpoint": file.variant or "checkpoint", "gemma": "text encoder"}.get(file.kind, file.kind)
    kind = f"{file.variant} lora" if file.kind == "lora" and file.variant else kind
    forms = [
        file.version or "",
        "tiny" if file.tiny else "",
        "fp8" if file.fp8 else "",
        "quantised" if file.quantized else "",
    ]
    stages = ", ".join(stage_label(stage) for stage in stages_of(file)) or "--lora"
    return f"{' '.join(filter(None, [kind.replace('-', ' '), *forms]))}: {stages}"


def inside(path: Path, folder: Path) -> Path:
    return path.relative_to(folder) if path != folder else Path(path.name)
