"""Lines of styled text on standard output: coloured on a terminal, plain and whole in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from orchestrator.display.streams import Stream, is_terminal
from orchestrator.display.words import printable

Line = list[tuple[str, str]]
"""Pieces of one line: text and rich style."""


def write_lines(lines: Iterable[Line]) -> None:
    """On a terminal styled, and cut at its width; elsewhere as they are. Control characters are shown as `?`."""
    stream = Stream(sys.stdout)
    if not is_terminal(sys.stdout):
        for line in lines:
            stream.write("".join(visible(text) for text, _ in line).rstrip() + "\n")
        return
    from rich.text import Text

    from orchestrator.display.ansi import Ansi
    from orchestrator.display.screen import terminal_size

    ansi, width = Ansi(sys.stdout), terminal_size(sys.stdout)[0]
    for line in lines:
        text = Text.assemble(*((visible(piece), style) for piece, style in line))
        text.truncate(width)
        stream.write(ansi(text) + "\n")


def visible(text: str) -> str:
    """Printable, with its leading and trailing spaces."""
    body = text.strip(" ")
    start = len(text) - len(text.lstrip(" "))
    return text if not body else " " * start + printable_spaced(body) + " " * (len(text) - start - len(body))


def printable_spaced(text: str) -> str:
    """Like `printable`, but runs of spaces stay: they align columns."""
    return " ".join(printable(word) if word else "" for word in text.split(" "))
