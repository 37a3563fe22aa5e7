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
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    for line in lines:
        with console.capture() as capture:
            text = Text.assemble(*((visible(text), style) for text, style in line))
            text.truncate(console.width)
            console.print(text, soft_wrap=True)
        stream.write(capture.get())


def visible(text: str) -> str:
    """Printable, with its leading and trailing spaces."""
    body = text.strip(" ")
    start = len(text) - len(text.lstrip(" "))
    return text if not body else " " * start + printable_spaced(body) + " " * (len(text) - start - len(body))


def printable_spaced(text: str) -> str:
    """Like `printable`, but runs of spaces stay: they align columns."""
    return " ".join(printable(word) if word else "" for word in text.split(" "))
