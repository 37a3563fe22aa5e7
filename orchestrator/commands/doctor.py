"""`doctor`: the findings as they come, what to do about each, and how it all ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from orchestrator.commands.asked import absolute
from orchestrator.commands.options import PROGRAM, Debug, Home, Json, option
from orchestrator.commands.sheet import Line, hanging, write_lines
from orchestrator.display.streams import Stream
from orchestrator.display.words import count
from weights.errors import RelayError

if TYPE_CHECKING:
    from orchestrator.doctor import Finding

STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(
    self_test: Annotated[
        bool, option("--self-test/--no-self-test", default="on", help="Make a small video too.", panel=PROGRAM)
    ] = True,
    home: Home = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Look at this machine: what is there, what is wrong, what to do about it.

    System and memory, MLX and its back end, video codecs, disk, weights; then a small video with the tiny model, in
    some ten seconds. Ends with 0 when nothing is broken, warnings or not, and with 7 when something is.
    """
    from cache.home import home_folder
    from orchestrator.doctor import document, examine, looks

    place = Path(absolute(home)) if home else home_folder(os.environ)
    found: list[Finding] = []
    for finding in examine(looks(place, self_test)):
        found.append(finding)
        if not json:
            write_lines(lines(finding))
    if json:
        from orchestrator.display.machine import json_line

        Stream(sys.stdout).write(json_line(document(found)))
    problems, warnings = (sum(finding.state == state for finding in found) for state in ("problem", "warning"))
    if problems:
        raise RelayError(f"{count(problems, 'problem')} and {count(warnings, 'warning')} were found.")
    if not json:
        write_lines([[(f"Nothing is broken; {count(warnings, 'warning')}.", "")]])


def lines(finding: Finding) -> Iterator[Line]:
    label = [(f"{finding.state:<8}", STYLES[finding.state]), (f"{finding.subject:<10}", "bold")]
    yield from hanging(label, finding.message)
    if finding.advice:
        yield from hanging([(" " * 18, "")], finding.advice, "dim")
