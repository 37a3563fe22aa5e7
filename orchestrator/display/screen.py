"""A block of lines at the bottom of a terminal, redrawn in place.

Every update is one write: cursor up, each line overwritten and its rest erased, nothing blanked first, so nothing
flickers. Lines stay one column short of the width, so they never wrap by themselves. When the window got narrower, the
terminal has wrapped the lines of the last drawing; how many rows they take now is computed, and the block goes on where
it stood. The cursor rests below the block and stays visible: a killed program leaves a clean line for the shell.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TextIO

from rich.text import Text

from orchestrator.display.ansi import Ansi
from orchestrator.display.streams import Stream

BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"
"""Synchronised update: terminals that know it show the whole drawing at once, the others ignore it."""

Size = tuple[int, int]


class Screen:
    """Draws on `file`; `size` gives (columns, rows)."""

    def __init__(self, file: TextIO, size: Callable[[], Size] | None = None) -> None:
        self._stream = Stream(file)
        self._size = size or (lambda: terminal_size(file))
        self._ansi = Ansi(file)
        self._drawn: tuple[int, ...] = ()
        """Cells that each line of the last drawing takes."""
        self._last = ""
        self._columns = 0

    @property
    def columns(self) -> int:
        """Cells that a line may take."""
        return max(10, self._size()[0] - 1)

    def draw(self, block: Sequence[Text], above: Sequence[Text] = (), picture: str = "") -> None:
        """Replaces the block; the lines `above` are printed once, before it, as long as they are, and stay.

        picture: what shows one in this terminal, printed after those lines.
        """
        columns, rows = self._size()
        width = self.columns
        block = [fitted(line, width) for line in block[-max(1, rows - 2) :]] if block else []
        lines = [self._ansi(line) + "\x1b[K\r\n" for line in (*above, *block)]
        if picture:
            lines.insert(len(above), "\x1b[J" + picture)
        body = "".join(lines)
        up = sum(max(1, -(-cells // max(1, columns))) for cells in self._drawn)
        drawing = f"{body}@{up}"
        if drawing == self._last and not above and not picture:
            return
        back = f"\r\x1b[{up}A" if up else "\r"
        if columns != self._columns:  # rows that were wrapped stay joined in the terminal's mind until they are erased
            back += "\x1b[J"
            self._columns = columns
        self._stream.write(BEGIN + back + body + "\x1b[J" + END)
        self._drawn = tuple(line.cell_len for line in block)
        self._last = drawing


def fitted(line: Text, width: int) -> Text:
    """At most `width` cells, and no line break."""
    line = line.copy()
    line.truncate(width)
    return line


def terminal_size(file: TextIO) -> Size:
    try:
        size = os.get_terminal_size(file.fileno())
    except (OSError, ValueError):
        return 80, 24
    return size.columns or 80, size.lines or 24
