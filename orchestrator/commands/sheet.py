"""Lines of styled text on standard output: coloured on a terminal, plain and whole in a pipe."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Iterator

from orchestrator.display.streams import Stream, is_terminal
from orchestrator.display.words import printable

LEAST_ROOM = 24
Line = list[tuple[str, str]]
"""Pieces of one line: text and rich style."""
WHOLE = "none"
"""The style of a piece that somebody may copy, a path: its line is never cut. (Rich's name of no style.)"""


def write_lines(lines: Iterable[Line]) -> None:
    """On a terminal styled, and cut at its width; elsewhere as they are. Control characters are shown as `?`."""
    stream = Stream(sys.stdout)
    width = terminal_columns()
    if width is None:
        for line in lines:
            stream.write("".join(visible(text) for text, _ in line).rstrip() + "\n")
        return
    from rich.text import Text

    from orchestrator.display.ansi import Ansi

    ansi = Ansi(sys.stdout)
    for line in lines:
        text = Text.assemble(*((visible(piece), style) for piece, style in line))
        if all(style != WHOLE for _, style in line):
            text.truncate(width, overflow="ellipsis")
        stream.write(ansi(text) + "\n")


def terminal_columns() -> int | None:
    """How wide the terminal is that standard output goes to; None where it goes elsewhere."""
    if not is_terminal(sys.stdout):
        return None
    from orchestrator.display.screen import terminal_size

    return terminal_size(sys.stdout)[0]


def hanging(label: Line, text: str, style: str = "") -> Iterator[Line]:
    """A label and a sentence: on a terminal the sentence goes on below its beginning, or all of it below the label."""
    indent = sum(len(piece) for piece, _ in label)
    width = terminal_columns()
    if width is None:
        yield [*label, (text, style)]
        return
    below = width - indent < LEAST_ROOM
    if below:
        indent = 4
    lines = textwrap.wrap(visible(text), max(1, width - indent), break_on_hyphens=False) or [""]
    yield [*label] if below else [*label, (lines[0], style)]
    for line in lines if below else lines[1:]:
        yield [(" " * indent, ""), (line, style)]


def visible(text: str) -> str:
    """Printable, with its leading and trailing spaces."""
    body = text.strip(" ")
    start = len(text) - len(text.lstrip(" "))
    return text if not body else " " * start + printable_spaced(body) + " " * (len(text) - start - len(body))


def printable_spaced(text: str) -> str:
    """Like `printable`, but runs of spaces stay: they align columns."""
    return " ".join(printable(word) if word else "" for word in text.split(" "))
