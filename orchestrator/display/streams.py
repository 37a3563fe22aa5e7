"""Standard output and standard error as they really are: closed, a pipe whose reader left, ASCII only, a dumb terminal.

Output is never worth a run: a stream that fails once is written to no more, and nobody is told (there is nowhere to say
it). A path goes out as the bytes that the file system knows, whatever the locale.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TextIO


class Stream:
    """A text stream that never raises."""

    def __init__(self, file: TextIO | None) -> None:
        self.file = file

    def write(self, text: str) -> None:
        """Writes and flushes; characters that the encoding lacks become `?` or an escape."""
        if self.file is None:
            return
        try:
            try:
                self.file.write(text)
            except UnicodeEncodeError:
                encoding = self.file.encoding or "ascii"
                self.file.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self.file.flush()
        except (OSError, ValueError):
            self._give_up()

    def write_path(self, path: str) -> None:
        """A path on a line of its own, in the file system's own bytes."""
        if self.file is None:
            return
        buffer = getattr(self.file, "buffer", None)
        if buffer is None:
            self.write(f"{path}\n")
            return
        try:
            self.file.flush()
            buffer.write(os.fsencode(path) + b"\n")
            buffer.flush()
        except (OSError, ValueError):
            self._give_up()

    def _give_up(self) -> None:
        """What is left in a buffer would fail again when the interpreter flushes it at exit: send it nowhere."""
        with suppress(OSError, ValueError, AttributeError):
            if self.file is not None and self.file in (sys.stdout, sys.stderr):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.file.fileno())
                os.close(nowhere)
        self.file = None


def open_standard_streams() -> None:
    """Descriptors 0 to 2 exist afterwards, and `sys.stdout` and `sys.stderr` can be written to.

    A program started with `2>&-` would otherwise give number 2 to the next file that it opens, and whatever a library
    writes to standard error would land in that file.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (lives as long as the program)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure and not is_utf8(stream):
            reconfigure(errors="backslashreplace")


def is_utf8(file: TextIO | None) -> bool:
    return (getattr(file, "encoding", None) or "").lower().replace("-", "").replace("_", "") == "utf8"


def is_terminal(file: TextIO | None) -> bool:
    try:
        return file is not None and file.isatty()
    except (OSError, ValueError):
        return False


def can_move_cursor(file: TextIO | None, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether lines can be redrawn in place: a terminal, and one that is not dumb."""
    return is_terminal(file) and environment.get("TERM", "").lower() not in ("", "dumb", "unknown")
