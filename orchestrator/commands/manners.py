"""What a run does beside its work, so that one can leave it alone: the machine stays awake, others come first, and
somebody is told at the end.

    --nice N         this program and its workers leave the processor to others, as `nice -n N` would
    --on-done CMD    a shell command that runs when the command has ended, well or not, with these variables:

        LTX_RELAY_STATUS      done, failed or interrupted
        LTX_RELAY_OUTPUT      the finished videos, one path a line; empty when there is none
        LTX_RELAY_RUN         the run's id; empty when none was begun
        LTX_RELAY_EXIT_CODE   what the command ends with
        LTX_RELAY_SECONDS     wall time, a whole number

Nothing here is in a recipe or a key, and nothing here changes an exit code.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from orchestrator.commands.ends import Ended, relay_error
from orchestrator.display import Display
from orchestrator.display.streams import Stream
from weights.errors import UsageError

MOST_NICE = 19
HOOK_SECONDS = 60
"""A command of --on-done that takes longer is stopped: whoever waits for this program's end is not made to wait."""


class Manners:
    """Around everything that a command does after its flags were read; `attend` while the run is carried out."""

    def __init__(self, *, nice: int | None = None, on_done: str | None = None, json: bool = False) -> None:
        """UsageError for a niceness out of range, and for an empty command."""
        if nice is not None and not 0 <= nice <= MOST_NICE:
            raise UsageError(f"--nice {nice} is out of range: it must be between 0 and {MOST_NICE}.")
        if on_done is not None and not on_done.strip():
            raise UsageError("--on-done names no command.")
        self._nice, self._on_done, self._json = nice, on_done, json
        self._started = time.monotonic()
        self._display: Display | None = None
        self._held = ExitStack()

    def __enter__(self) -> Manners:
        if self._nice:
            with contextlib.suppress(OSError):
                os.nice(self._nice)  # workers inherit it
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()
        if self._on_done is None:
            return
        with contextlib.suppress(KeyboardInterrupt):  # that is for the command of --on-done, which was stopped
            trouble = run_hook(self._on_done, self._told(error))
            if trouble:
                self._say(f"--on-done {trouble}; the run itself is not changed by that.")

    def attend(self, display: Display) -> Callable[[dict[str, Any]], None]:
        """What takes the run's events in the place of `display.event`: when work begins, the machine stays awake."""
        from orchestrator.power import Awake, battery_warning

        self._display = display
        awake = self._held.enter_context(Awake())
        begun = False

        def event(event: dict[str, Any]) -> None:
            nonlocal begun
            if event.get("event") == "stage_started" and not begun:
                begun = True
                awake.begin()
                if warning := battery_warning():
                    display.note(warning)
            display.event(event)

        return event

    def _told(self, error: BaseException | None) -> dict[str, str]:
        cause = error.cause if isinstance(error, Ended) else error
        code = 0 if cause is None else relay_error(cause).exit_code
        view = None if self._display is None else self._display.view
        return {
            "LTX_RELAY_STATUS": "done" if code == 0 else "interrupted" if code > 128 else "failed",
            "LTX_RELAY_OUTPUT": "\n".join(view.paths) if view is not None else "",
            "LTX_RELAY_RUN": (view.run or "") if view is not None else "",
            "LTX_RELAY_EXIT_CODE": str(code),
            "LTX_RELAY_SECONDS": str(round(time.monotonic() - self._started)),
        }

    def _say(self, sentence: str) -> None:
        if self._json:
            from orchestrator.display.machine import json_line

            event = {"event": "warning", "time": time.time(), "message": sentence}
            Stream(sys.stdout).write(json_line(event))
        else:
            Stream(sys.stderr).write(f"note: {sentence}\n")


def run_hook(command: str, variables: Mapping[str, str], seconds: float = HOOK_SECONDS) -> str:
    """Runs it in a shell, with what it prints on standard error; what went wrong in words, or nothing.

    KeyboardInterrupt stops it and is passed on.
    """
    try:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=2,  # standard output carries results only
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return f"could not be started ({error})"
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        _stop(process)
        return f"took longer than {seconds:g} seconds and was stopped"
    except BaseException:
        _stop(process)
        raise
    if code < 0:
        return f"was ended by signal {-code}"
    return f"ended with exit status {code}" if code else ""


def _stop(process: subprocess.Popen[bytes]) -> None:
    """With all that it started."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
