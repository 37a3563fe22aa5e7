"""What a person or a program sees of a run while it is under way.

    words     seconds, bytes, sizes as text
    view      a run's events folded into a frozen view
    stages    that view as lines of text
    screen    lines redrawn in place on a terminal; ansi: their styles
    keys      no echo meanwhile
    images    pictures in terminals that show them
    live, plain, machine    the displays: a terminal, a log, a program (JSON lines; quiet)
    streams   standard output and error that may be closed, ASCII only, or without a reader

Standard output carries results only: JSON lines with `--json`, otherwise the paths of the finished videos at the very
end. Progress, notes and errors go to standard error. No display ever ends a run by failing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, Protocol

from orchestrator.display.streams import can_move_cursor
from orchestrator.display.view import RunView


class Display(Protocol):
    """Takes the events of one run. `close` may be called more than once; the paths are printed by the first."""

    view: RunView

    def note(self, message: str) -> None:
        """A remark in one line, outside of any stage."""

    def event(self, event: Mapping[str, Any]) -> None:
        """One event of the run (see `orchestrator.run`)."""

    def close(self) -> None:
        """The run has ended, well or not."""


def open_display(*, json: bool = False, quiet: bool = False) -> Display:
    """The display that the flags and the terminal call for, on the process's own standard streams."""
    if json:
        from orchestrator.display.machine import JsonDisplay

        return JsonDisplay(sys.stdout)
    if quiet:
        from orchestrator.display.machine import QuietDisplay

        return QuietDisplay(sys.stdout)
    if can_move_cursor(sys.stderr):
        from orchestrator.display.images import protocol
        from orchestrator.display.live import LiveDisplay

        return LiveDisplay(sys.stderr, sys.stdout, images=protocol(os.environ))
    from orchestrator.display.plain import PlainDisplay

    return PlainDisplay(sys.stderr, sys.stdout)
