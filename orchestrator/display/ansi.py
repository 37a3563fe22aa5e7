"""Styled text as the characters that a terminal understands, without writing to it."""

from __future__ import annotations

import io
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text


class Ansi:
    """Renders for `file`: with the colours that it and NO_COLOR allow, and with none when it is no terminal."""

    def __init__(self, file: TextIO) -> None:
        real = Console(file=file)
        colours: Any = real.color_system
        self._console = Console(
            file=io.StringIO(),  # rich writes to the file of a console even while it captures
            force_terminal=real.is_terminal,
            color_system=colours,
            no_color=real.no_color,
            width=100_000,
            highlight=False,
            markup=False,
            emoji=False,
        )

    def __call__(self, line: Text) -> str:
        with self._console.capture() as capture:
            self._console.print(line, end="", soft_wrap=True)
        return capture.get()
