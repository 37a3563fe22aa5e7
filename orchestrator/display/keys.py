"""Keys that are pressed while lines are redrawn: not echoed, so that an Enter does not push the lines apart.

What was typed still goes to the shell afterwards, and Ctrl-C works as ever. Only a program in the foreground may change
a terminal: one in the background would be stopped by the kernel for it (SIGTTOU).
"""

from __future__ import annotations

import atexit
import os
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

LOCAL_FLAGS = 3
"""Index of the local flags, ECHO among them, in what `termios.tcgetattr` returns."""


def silence(file: TextIO) -> Callable[[], None]:
    """Turns the echo off until the function that is returned is called; also the program's end does that."""
    try:
        descriptor = file.fileno()
        modes = termios.tcgetattr(descriptor)
    except (OSError, ValueError, termios.error):
        return lambda: None

    def set_echo(on: int) -> None:
        with suppress(OSError, termios.error):
            if os.tcgetpgrp(descriptor) == os.getpgrp():
                now = termios.tcgetattr(descriptor)
                now[LOCAL_FLAGS] = now[LOCAL_FLAGS] & ~termios.ECHO | on
                termios.tcsetattr(descriptor, termios.TCSANOW, now)

    def restore() -> None:
        set_echo(modes[LOCAL_FLAGS] & termios.ECHO)
        atexit.unregister(restore)

    set_echo(0)
    atexit.register(restore)
    return restore
