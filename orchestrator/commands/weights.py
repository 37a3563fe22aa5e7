"""`weights quantize`: a smaller copy of a checkpoint or of a text encoder. `weights verify`: is their content right?"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.commands.asked import check_display
from orchestrator.commands.generate import chosen_home
from orchestrator.commands.options import MACHINE, OUTPUT, PROGRAM, Debug, Home, Json, Overwrite, QuietFiles, option
from orchestrator.display.streams import Stream
from orchestrator.display.words import count, duration, file_size, printable
from weights.errors import UsageError, WeightsError

SLOW_BYTES = 1 << 30
"""A file of so many is announced before it is read."""


def weights(context: typer.Context) -> None:
    """List, fetch, check or quantise weights files."""
    if context.invoked_subcommand is None:
        Stream(sys.stdout).write(context.get_help() + "\n")


def quantize_command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A checkpoint, or the folder of the text encoder.")],
    bits: Annotated[
        int | None,
        option(
            "--bits", metavar="8|4", default="8", panel=MACHINE, help="Of each weight; 4 is smaller and less exact."
        ),
    ] = None,
    output: Annotated[
        str | None,
        option("--output", "-o", metavar="FILE", default="<name>-8bit beside it", panel=OUTPUT, help="Where it goes."),
    ] = None,
    overwrite: Overwrite = False,
    home: Home = None,
    json: Json = False,
    quiet: QuietFiles = False,
    debug: Debug = False,
) -> None:
    """Write a copy of weights with 8 or 4 bits for each weight of the blocks' linear layers.

    Everything else stays as it is, and the copy is used like the original. Memory stays small, whatever the file's
    size. A LoRA on a quantised file loses a little; `generate --quantize` with the 16-bit file puts it on before.
    """
    check_display(json, quiet)
    if not file or output == "":
        raise UsageError(f"{'FILE' if not file else '--output'} names no file.")
    at = chosen_home(home)
    from orchestrator.interrupts import Interrupts
    from orchestrator.power import Awake
    from orchestrator.quantize import prepare, write

    wanted = None if output is None else Path(output).expanduser()
    with in_a_sentence():
        prepared = prepare(Path(file).expanduser(), wanted, 8 if bits is None else bits, overwrite=overwrite)
    told = Told(json=json, quiet=quiet, source=str(prepared.planned.path), size=prepared.planned.size)
    with Interrupts() as interrupts, Awake() as awake:
        awake.begin()
        end = write(prepared, home=at, on_event=told.event, interrupts=interrupts)
    told.done(str(prepared.output), end.seconds)


def verify_command(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH...", show_default="all that `generate` would find", help="Files, or folders of such."
        ),
    ] = None,
    accept: Annotated[
        bool,
        option("--accept", help="What is there now is right: forget what was noted of it before.", panel=PROGRAM),
    ] = False,
    home: Home = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Read weights files to the last byte, and say whether their content is right.

    It is compared with the hash that Hugging Face served the file under, where that is known; else with what was noted
    when it was first verified. Ends with 3 when a file is damaged.
    """
    from orchestrator.verify import NOTES, verify

    at, damaged, read = chosen_home(home), 0, 0
    with in_a_sentence():
        files = weights_files([Path(path).expanduser() for path in paths or ()])
    for path in files:
        if not json and path.is_file() and (size := path.stat().st_size) >= SLOW_BYTES:
            Stream(sys.stderr).write(f"reading {path}, {file_size(size)}\n")
        verdict = verify(path, at.root / NOTES, accept=accept)
        read, damaged = read + 1, damaged + (verdict.state == "damaged")
        if json:
            from orchestrator.display.machine import json_line

            Stream(sys.stdout).write(json_line(verdict.to_dict()))
        else:
            Stream(sys.stdout).write(
                f"{verdict.state:<8} {file_size(verdict.bytes):>9}  {path.name}: {printable(verdict.why)}\n"
            )
    if damaged:
        raise WeightsError(
            f"{damaged} of {count(read, 'file')} {'is' if damaged == 1 else 'are'} not what they should be."
            if read > 1
            else "The file is not what it should be.",
            advice="Fetch what is damaged again; if you replaced it yourself, add --accept.",
        )


@contextmanager
def in_a_sentence() -> Iterator[None]:
    """A path that no file can have, or that may not be looked at, is a WeightsError."""
    from weights.header_json import no_access

    try:
        yield
    except OSError as error:
        raise WeightsError(no_access(Path(str(error.filename)), error)) from error


def weights_files(named: list[Path]) -> list[Path]:
    """Every file of these checkpoints and folders, or of all that are found. WeightsError when there is none."""
    from weights.header_folder import CONFIG
    from weights.resolve_search import default_search, survey
    from weights.verify import files_of

    places = named or list(default_search(os.environ))
    found: dict[Path, None] = {}
    for place in places:
        if named and not place.exists():
            raise WeightsError(f"{place} does not exist.")
        if place.is_dir() and not (place / CONFIG).exists():
            shelf = survey([place])
            for path in sorted([file.path for file in shelf.files] + [file.path for file in shelf.unusable]):
                found |= dict.fromkeys(files_of(path))
        elif place.exists():
            found |= dict.fromkeys(files_of(place))
    if not found:
        raise WeightsError(f"There are no weights in {', '.join(map(str, places))}.")
    return list(found)


class Told:
    """What is said while it works: a line for each tenth on standard error, at the end the path on standard output."""

    def __init__(self, *, json: bool, quiet: bool, source: str, size: int) -> None:
        self.json, self.quiet, self.size = json, quiet, size
        self.tenths = 0
        self.say(f"{source}: the copy takes {file_size(size)}")

    def say(self, text: str) -> None:
        if not (self.json or self.quiet):
            Stream(sys.stderr).write(f"{text}\n")

    def event(self, event: dict[str, Any]) -> None:
        if self.json:
            self.write(event)
        elif event["event"] == "step" and event["index"] * 10 // event["total"] > self.tenths:
            self.tenths = event["index"] * 10 // event["total"]
            self.say(f"{self.tenths * 10:3d}%  {event['index']:,} of {event['total']:,} layers")
        elif event["event"] in ("warning", "stage_waiting", "interrupting"):
            self.say(str(event["message"]))

    def done(self, path: str, seconds: float) -> None:
        if self.json:
            self.write({"event": "quantized", "path": path, "bytes": self.size, "seconds": seconds})
            return
        self.say(f"done in {duration(seconds)}")
        Stream(sys.stdout).write_path(path)

    def write(self, event: dict[str, Any]) -> None:
        from orchestrator.display.machine import json_line

        Stream(sys.stdout).write(json_line(event))
