"""`weights download`: says what it would fetch and how much, asks, fetches."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

from orchestrator.commands.asked import absolute, check_display
from orchestrator.commands.complete import one_of
from orchestrator.commands.options import OUTPUT, PROGRAM, WEIGHTS, WHAT, Debug, Json, QuietFiles, option
from orchestrator.commands.sheet import visible
from orchestrator.display.streams import Stream, is_terminal
from orchestrator.display.words import count, duration, file_size, printable
from orchestrator.presets import PRESETS, VARIANTS, choose_preset
from weights.errors import Interrupted, UsageError, WeightsError

VERSIONS = ("2.0", "2.3")


def download_command(
    preset: Annotated[
        str | None,
        option(
            "--preset", "-p", metavar="NAME", default="max", panel=WHAT, complete=one_of(*PRESETS),
            help="Fetch what this preset needs and is not there yet.",
        ),
    ] = None,
    model_variant: Annotated[
        str | None,
        option(
            "--model-variant", metavar="|".join(VARIANTS), default="dev; draft: distilled", panel=WEIGHTS,
            complete=one_of(*VARIANTS), help="The model of stage 1.",
        ),
    ] = None,
    model_version: Annotated[
        str | None,
        option(
            "--model-version", metavar="|".join(VERSIONS), default="2.0", panel=WEIGHTS, complete=one_of(*VERSIONS),
            help="Of LTX-2.",
        ),
    ] = None,
    to: Annotated[
        str | None,
        option(
            "--to", metavar="FOLDER", default="LTX_RELAY_WEIGHTS, or weights/ltx-2", panel=OUTPUT,
            help="Where the files go. In another folder than these, name it with --model later.",
        ),
    ] = None,
    yes: Annotated[bool, option("--yes", "-y", help="Do not ask.", panel=PROGRAM)] = False,
    dry_run: Annotated[
        bool, option("--dry-run", help="Say what would be fetched and how much; fetch nothing.", panel=PROGRAM)
    ] = False,
    json: Json = False,
    quiet: QuietFiles = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Fetch the official files that a preset needs and that are not there, from Hugging Face.

    It says the sizes and asks first. A download that stopped goes on where it was when the same command is given
    again. Memory makes no difference to the files: what has no room is streamed from them.
    """
    check_display(json, quiet)
    version = model_version or VERSIONS[0]
    if version not in VERSIONS:
        raise UsageError(f"--model-version {version!r} does not exist; choose one of {', '.join(VERSIONS)}.")
    name = choose_preset(preset, None, model_variant)
    folder, search = places(to)
    from orchestrator.download import ask_hub, check_room, fetch, survey_missing
    from weights.wanted import roles_for

    chosen = PRESETS[name]
    roles = roles_for(model_variant or chosen.variant, chosen.two_stage, chosen.temporal)
    missing = survey_missing(version, roles, search)
    said = Said(json=json, quiet=quiet, folder=folder)
    said.here(missing)
    if not missing.files:
        said.end([])
        return
    try:
        order = ask_hub(missing, folder)
    except WeightsError:
        said.about(missing)
        raise
    said.plan(order)
    check_room(order, folder)
    if dry_run:
        return
    confirm(yes, sum(piece.left for piece in order), folder)
    from orchestrator.power import Awake

    with Awake() as awake:
        awake.begin()
        try:
            said.end(
                [
                    said.fetched(piece, path)
                    for piece, path in fetch(
                        order, progress=not (json or quiet) and is_terminal(sys.stderr), on_begin=said.begin
                    )
                ]
            )
        except KeyboardInterrupt:
            raise Interrupted(
                "Interrupted.", advice="What was fetched stays: the same command goes on from there."
            ) from None


def places(to: str | None) -> tuple[Path, list[Path]]:
    """Where files go, and where they may be already."""
    from weights.resolve_search import DEFAULT_FOLDER, FOLDER_VARIABLE, default_search

    environment = dict(os.environ)
    named = environment.get(FOLDER_VARIABLE)
    if to is not None:
        if not to:
            raise UsageError("--to names no folder.")
        folder = Path(absolute(to))
    else:
        folder = Path(absolute(named)) if named else Path.cwd() / DEFAULT_FOLDER
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; the weights need a folder.")
    if named and not Path(absolute(named)).is_dir():
        del environment[FOLDER_VARIABLE]  # it is made by the download
    # What is to be complete by itself, for --model FOLDER, is not helped by files elsewhere.
    usual = list(default_search(environment))
    return folder, usual if to is None or folder in usual else [folder]


def confirm(yes: bool, size: int, folder: Path) -> None:
    """UsageError (2) where nobody agrees, or nobody can be asked."""
    if yes or not size:
        return
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise UsageError(f"Nobody can be asked whether to fetch {file_size(size)}.", advice="Add --yes to fetch it.")
    Stream(sys.stderr).write(f"Fetch {file_size(size)} into {printable(str(folder))}? [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("Nothing was fetched.")


class Said:
    """What is said meanwhile: on standard error, with --json as events; the paths on standard output."""

    def __init__(self, *, json: bool, quiet: bool, folder: Path) -> None:
        self.json, self.quiet, self.folder = json, quiet, folder
        self.started = self.piece_started = time.monotonic()

    def here(self, missing: Any) -> None:
        for role, file in missing.here.items():
            self.event("there", role=role, path=str(file.path), bytes=file.size)
            self.say(f"there     {file_size(file.size):>8}  {file.path}")

    def about(self, missing: Any) -> None:
        """Without the hub's word."""
        for one in missing.files:
            self.event("missing", role=one.role, name=one.name, repository=one.repository, about_bytes=one.about)
            self.say(f"missing   about {file_size(one.about)}  {one.name} of {one.repository}")

    def plan(self, order: list[Any]) -> None:
        for one in dict.fromkeys(piece.wanted for piece in order):
            pieces = [piece for piece in order if piece.wanted == one]
            size, left = sum(piece.file.bytes or 0 for piece in pieces), sum(piece.left for piece in pieces)
            self.event(
                "missing", role=one.role, name=one.name, repository=one.repository, bytes=size, left=left,
                files=[piece.file.name for piece in pieces],
            )  # fmt: skip
            words = f"{one.name} of {one.repository}"
            if any(piece.again for piece in pieces):
                words += ", in the place of a damaged one"
            self.say(f"missing   {file_size(size):>8}  {words}" + (f", {file_size(left)} left" if left != size else ""))
        total = sum(piece.left for piece in order)
        self.event("plan", bytes=total, files=len(order), folder=str(self.folder))
        self.say(f"to fetch  {file_size(total):>8}  {count(len(order), 'file')} into {self.folder}")

    def begin(self, piece: Any) -> None:
        self.piece_started = time.monotonic()
        self.event("fetching", name=piece.file.name, repository=piece.file.repository, bytes=piece.file.bytes)
        if not is_terminal(sys.stderr):
            self.say(f"fetching  {file_size(piece.left):>8}  {piece.file.name}")

    def fetched(self, piece: Any, path: Path) -> Path:
        seconds = time.monotonic() - self.piece_started
        self.event("fetched", name=piece.file.name, path=str(path), bytes=piece.file.bytes, seconds=seconds)
        return path

    def end(self, paths: list[Path]) -> None:
        seconds = time.monotonic() - self.started
        self.event("download_done", folder=str(self.folder), files=len(paths), seconds=seconds)
        if not paths:
            self.say("Everything is there.")
            return
        self.say(f"done in {duration(seconds)}; `ltx-relay weights verify` compares every byte with the hub's hashes")
        if not self.json:
            for path in paths:
                Stream(sys.stdout).write_path(str(path))

    def say(self, text: str) -> None:
        if not (self.json or self.quiet):
            Stream(sys.stderr).write(f"{visible(text)}\n")

    def event(self, kind: str, **fields: Any) -> None:
        if self.json:
            from orchestrator.display.machine import json_line

            Stream(sys.stdout).write(json_line({"event": kind, "time": time.time(), **fields}))
