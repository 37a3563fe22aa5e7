"""`runs list` and `runs show`: what was done, by which process, with how much memory, from which files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.commands.complete import run_names
from orchestrator.commands.generate import chosen_home
from orchestrator.commands.options import Debug, Home, Json, RunName
from orchestrator.commands.sheet import WHOLE, Line, hanging, terminal_columns, write_lines
from orchestrator.display.streams import Stream
from orchestrator.display.words import duration, file_size, memory_size, stage_label
from orchestrator.run_record import run_record
from weights.errors import RelayError

DATE_AND_TIME = len("20261122-193000")
"""What an id begins with; two runs rarely begin in the same second."""
STATUS_STYLES = {"done": "green", "running": "cyan", "failed": "red", "interrupted": "yellow"}


def runs(context: typer.Context, home: Home = None, json: Json = False, debug: Debug = False) -> None:
    """List runs, or show what one of them did.

    Without a command: list.
    """
    if context.invoked_subcommand is None:
        show_list(home, json)


def list_command(home: Home = None, json: Json = False, debug: Debug = False) -> None:
    """List all runs, the newest first.

    On a terminal with so much of each id as names the run; in a pipe with whole ids, or --json.
    """
    show_list(home, json)


def show_command(
    run: RunName = "last",
    home: Home = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show one run: per stage its process, seconds, peak memory, bytes read, and what was cached."""
    from cache.runs import open_run

    record = run_record(open_run(chosen_home(home), run))
    if json:
        write_json(record)
    else:
        write_lines(run_lines(record))


def delete_command(
    names: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Runs, or the beginnings of their ids.", autocompletion=run_names),
    ],
    home: Home = None,
    debug: Debug = False,
) -> None:
    """Delete runs: their records, logs and previews. Results stay in the cache until they are pruned."""
    from cache.runs import delete_run, open_run

    at = chosen_home(home)
    for run in [open_run(at, name) for name in names]:  # all of them are there, or none goes
        delete_run(at, run)
        Stream(sys.stdout).write(f"{run.id} deleted\n")


def show_list(home: str | None, json: bool) -> None:
    from cache.runs import list_runs, open_run

    at = chosen_home(home)
    records = []
    for summary in list_runs(at):
        record = asdict(summary)
        try:
            recipe = open_run(at, summary.id).recipe()
            record["prompt"] = recipe.get("prompt") or recipe.get("title")
        except RelayError:  # damaged, or deleted in this moment; its line says so or comes without the prompt
            record["prompt"] = None
        records.append(record)
    if json:
        for record in records:
            write_json(record)
    elif records:
        write_lines(list_lines(records, terminal_columns()))
    else:
        Stream(sys.stderr).write("There is no run yet; `ltx-relay generate` makes one.\n")


def list_lines(records: Sequence[Mapping[str, Any]], columns: int | None) -> Iterator[Line]:
    """Status, name and prompt, or what is wrong with the run; below the name where that leaves no room for it.

    columns: of the terminal, where the beginning of an id has to do; None: not a terminal, and ids are whole.
    """
    ids = [str(record["id"]) for record in records]
    names = ids if columns is None else beginnings(ids)
    longest = max(map(len, ids)) if columns is None else columns // 3
    width = max((len(name) for name in names if len(name) <= longest), default=0)
    for name, record in zip(names, records, strict=True):
        status = str(record["status"])
        label: Line = [(f"{status:<13}", STATUS_STYLES.get(status, "red"))]
        if len(name) <= longest:
            label.append((f"{name:<{width}}  ", "bold"))
        else:
            yield [*label, (name, WHOLE)]
            label = [("    ", "")]
        if record["problem"]:
            yield from hanging(label, str(record["problem"]), "dim")
        else:
            yield [*label, (str(record["prompt"] or ""), "dim")]


def beginnings(ids: Sequence[str]) -> list[str]:
    """Of each id so much, in whole words, as names that run and no other; at least date and time."""
    ordered = sorted(ids)
    common = [len(os.path.commonprefix(pair)) for pair in pairwise(ordered)]  # noqa: RUF071 (letters are meant)
    shared = {run: max(before, after) for run, before, after in zip(ordered, [0, *common], [*common, 0], strict=True)}
    found = []
    for run in ids:
        end = run.find("-", max(shared[run] + 1, DATE_AND_TIME))
        found.append(run if end < 0 else run[:end])
    return found


def run_lines(record: Mapping[str, Any]) -> Iterator[Line]:
    status = str(record["status"])
    yield [
        (f"{record['run']}  ", "bold"),
        (status, STATUS_STYLES.get(status, "")),
        (f"  {moment(record['created'])}", "dim"),
    ]
    yield [(str(record["recipe"].get("prompt") or record["recipe"].get("title") or ""), "")]
    yield []
    yield [(f"{'stage':<10}{'':<10}{'process':>9}{'time':>9}{'peak':>10}{'read':>10}", "dim")]
    for stage in record["stages"]:
        yield from stage_lines(stage)
    yield []
    for path in record["outputs"]:
        yield [("-> ", "dim"), (str(path), WHOLE)]
    yield [("in ", "dim"), (str(record["folder"]), WHOLE)]


def stage_lines(stage: Mapping[str, Any]) -> Iterator[Line]:
    """The stage's figures, then a line for every weights file that its worker read."""
    peak = max(stage["mlx_peak"] or 0, stage["process_peak"] or 0)
    read = stage["bytes_read"]
    figures = (
        f"{stage['pid'] or '':>9}"
        f"{duration(stage['seconds']) if stage['seconds'] is not None else '':>9}"
        f"{memory_size(peak) if peak else '':>10}"
        f"{file_size(sum(read.values())) if read else '':>10}"
    )
    status = str(stage["status"])
    style = {"computed": "", "cached": "green", "failed": "red"}.get(status, "dim")
    yield [(f"{stage_label(stage['name']):<10}", "bold"), (f"{status:<10}", style), (figures, "")]
    for path, size in read.items() if len(read) > 1 else ():
        yield [(f"{'':38}{file_size(int(size)):>10}  {Path(path).name}", "dim")]


def moment(created: float) -> str:
    """Local date and time; empty when it is not known."""
    return datetime.fromtimestamp(created).strftime("%Y-%m-%d %H:%M") if created else ""


def write_json(record: Mapping[str, Any]) -> None:
    from orchestrator.display.machine import json_line

    Stream(sys.stdout).write(json_line(record))
