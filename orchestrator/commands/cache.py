"""`cache list`, `cache verify` and `cache prune`: what is kept, whether it is whole, and making it smaller."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from orchestrator.commands.generate import chosen_home
from orchestrator.commands.options import PROGRAM, Debug, Home, Json, option
from orchestrator.commands.runs import write_json
from orchestrator.commands.sheet import Line, write_lines
from orchestrator.display.streams import Stream
from orchestrator.display.words import count, duration, file_size, stage_label
from weights.errors import ArtifactError

STYLES = {"damaged": "red", "partial": "yellow"}


def cache(context: typer.Context, home: Home = None, json: Json = False, debug: Debug = False) -> None:
    """List what is kept, check that it is whole, or make it smaller.

    Without a command: list.
    """
    if context.invoked_subcommand is None:
        show_contents(home, json)


def list_command(home: Home = None, json: Json = False, debug: Debug = False) -> None:
    """List all results, the last used first: stage, size, when it was used, which runs made or used it."""
    show_contents(home, json)


def show_contents(home: str | None, json: bool) -> None:
    records = contents(chosen_home(home))
    if json:
        for record in records:
            write_json(record)
    elif records:
        write_lines(contents_lines(records, time.time()))
    else:
        Stream(sys.stderr).write("The cache is empty.\n")


def contents(home: Any) -> list[dict[str, Any]]:
    from cache.contents import entries, stage_of
    from cache.runs import list_runs, open_run
    from weights.errors import RelayError

    users: dict[str, list[str]] = {}
    for summary in list_runs(home):
        try:
            stages = open_run(home, summary.id).state().stages.values()
        except RelayError:  # damaged, newer, or deleted in this moment
            continue
        for key in {key for stage in stages for key in stage.keys}:
            users.setdefault(key, []).append(summary.id)
    return [
        {
            "key": entry.key,
            "kind": entry.kind,
            "stage": stage_of(entry),
            "bytes": entry.bytes,
            "used": entry.used,
            "runs": users.get(entry.key, []),
            "paths": [str(path) for path in entry.paths],
        }
        for entry in reversed(entries(home))
    ]


def contents_lines(records: Sequence[Mapping[str, Any]], now: float) -> Iterator[Line]:
    for record in records:
        kind = str(record["kind"])
        name = kind if kind in STYLES else stage_label(str(record["stage"]))
        runs = record["runs"]
        words = f"{runs[0]}{f' and {len(runs) - 1} more' if len(runs) > 1 else ''}" if runs else ""
        yield [
            (f"{name:<9}", STYLES.get(kind, "bold")),
            (f"{file_size(record['bytes']):>9}  ", ""),
            (f"{ago(now - record['used']):>9}  ", "dim"),
            (f"{record['key'][:12]}  ", "dim"),
            (words, "dim"),
        ]
    yield []
    kinds = Counter(str(record["kind"]) for record in records)
    total = sum(record["bytes"] for record in records)
    damaged = f", {kinds['damaged']} damaged" if kinds["damaged"] else ""
    yield [(f"{count(len(records), 'result')}, {file_size(total)}{damaged}", "")]


def ago(seconds: float) -> str:
    return f"{int(seconds // 86400)} days" if seconds >= 2 * 86400 else duration(max(0.0, seconds))


def verify_command(home: Home = None, json: Json = False, debug: Debug = False) -> None:
    """Read everything in the cache, and set aside what is damaged; it is computed again when it is needed.

    Ends with 7 when something was damaged.
    """
    from cache.contents import entries, verify

    at, read, damaged = chosen_home(home), 0, 0
    for entry in entries(at):
        if entry.kind == "damaged":
            continue
        problem = verify(at, entry)
        read += 1
        if json:
            write_json({"key": entry.key, "kind": entry.kind, "whole": problem is None, "problem": problem})
        elif problem is not None:
            Stream(sys.stderr).write(f"{problem}\n")
        damaged += problem is not None
    if damaged:
        raise ArtifactError(
            f"{damaged} of {count(read, 'result')} {'was' if damaged == 1 else 'were'} damaged.",
            advice="Each is set aside, and is computed again when a run needs it.",
        )
    if not json:
        Stream(sys.stdout).write(f"{count(read, 'result')}, all whole.\n")


def prune_command(
    max_size: Annotated[
        str | None,
        option(
            "--max-size", metavar="SIZE", default="LTX_RELAY_CACHE_SIZE, or 50GB", panel=PROGRAM,
            help="Remove the least recently used until so much is left: 20GB; 0 removes all.",
        ),
    ] = None,
    older_than: Annotated[
        str | None,
        option("--older-than", metavar="TIME", help="Remove what was not used for so long: 30d, 12h.", panel=PROGRAM),
    ] = None,
    home: Home = None,
    json: Json = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Remove old results, damaged files and leftovers.

    Never what a run under way needs. Runs and finished videos outside of the cache stay; a run whose results are gone
    computes them again.
    """
    from cache.prune import limit_from, parse_age, parse_size, prune, pruned_words

    age = None if older_than is None else parse_age(older_than, "--older-than")
    size: int | None = None
    if max_size is not None:
        size = parse_size(max_size, "--max-size")
    elif older_than is None:
        size = limit_from(os.environ)
    result = prune(chosen_home(home), max_bytes=size, max_age=age)
    if json:
        write_json(vars(result))
        return
    Stream(sys.stdout).write(f"{pruned_words(result)}\n")
    if size is not None and result.kept_bytes > size:
        Stream(sys.stderr).write("note: what is left over that size is needed by a run under way.\n")
