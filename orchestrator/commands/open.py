"""`runs open`: a run's report, made anew, in a browser; where there is none, its path."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from orchestrator.commands.generate import chosen_home
from orchestrator.commands.options import PROGRAM, Debug, Home, RunName, option
from orchestrator.display.streams import Stream


def open_command(
    run: RunName = "last",
    print_path: Annotated[
        bool, option("--print-path", help="Only make it and print where it is.", panel=PROGRAM)
    ] = False,
    home: Home = None,
    debug: Debug = False,
) -> None:
    """Open a run's report in the browser: what was made, by which workers, in which time, with how much memory.

    Its path is printed; without a screen, that is all.
    """
    from cache.runs import open_run
    from orchestrator.report.write import write_report

    at = chosen_home(home)
    path = write_report(at, open_run(at, run))
    Stream(sys.stdout).write_path(str(path))
    if not print_path and has_screen(os.environ, sys.platform):
        show(path)


def has_screen(environment: Mapping[str, str], platform: str) -> bool:
    """Whether a browser with a window can be there: a text browser would take over the terminal."""
    if platform == "darwin":
        return not environment.get("SSH_CONNECTION")
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def show(path: Path) -> None:
    import webbrowser

    if not webbrowser.open(path.as_uri()):
        Stream(sys.stderr).write("No browser was found; open that file in one.\n")
