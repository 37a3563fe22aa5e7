"""How a command that did not do what was asked ends: what it says on standard error, and its exit code.

    the message, and on a second line the advice; after them, and last, the command that resumes where there is one

Every exception becomes a `RelayError` first; the traceback is shown with --debug only.
"""

from __future__ import annotations

import sys
import time
import traceback
from typing import Any

from orchestrator.display.streams import Stream, is_terminal
from orchestrator.display.words import printable
from weights.errors import Interrupted, RelayError, UsageError

DEBUG_ADVICE = "This is a mistake in ltx-relay. Run again with --debug to see where, and report it."

READABLE = {
    "Input should be a valid integer, unable to parse string as an integer": "it must be a whole number",
    "Input should be a valid number, unable to parse string as a number": "it must be a number",
}
"""Words of Typer's about values, and ours."""


class Ended(Exception):
    """A run ended early: why, the command line that resumes it, and whether its `error` event was shown."""

    def __init__(self, cause: BaseException, resume: str | None, announced: bool) -> None:
        super().__init__(str(cause))
        self.cause, self.resume, self.announced = cause, resume, announced


def relay_error(error: BaseException) -> RelayError:
    """The error as one of ours, with an exit code: usage errors of Typer are 2, what nobody foresaw is 7."""
    if isinstance(error, RelayError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("Interrupted.")
    if isinstance(error, MemoryError):
        return RelayError("The command line itself ran out of memory.", advice="Close other programs and try again.")
    usage = getattr(error, "format_message", None)  # Typer's and click's errors, whichever package they come from
    if usage is not None:
        return usage_error(error, " ".join(str(usage()).split()))
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return RelayError(f"Something went wrong that should not have: {words}.", advice=DEBUG_ADVICE)


def usage_error(error: Any, message: str) -> UsageError:
    """A sentence for what Typer could not read."""
    message = message[:1].upper() + message[1:]
    for theirs, ours in READABLE.items():
        message = message.replace(theirs, ours)
    if "unexpected extra argument" in message:
        message = message.rstrip(".") + ": put the prompt in quotes."
    else:
        message = message if message.endswith((".", "?", "!", ")")) else message + "."
    path = getattr(getattr(error, "ctx", None), "command_path", None)
    advice = f"`{path} --help` lists what there is." if path else ""
    if path == "ltx-relay" and "No such command" in message:
        advice = (
            "`ltx-relay --help` lists what there is; a prompt goes in quotes, and after `generate` if it is one word."
        )
    return UsageError(message, advice=advice)


def report(error: BaseException, *, json: bool, debug: bool) -> int:
    """Says what happened, on standard error and with --json as an `error` event, and returns the exit code."""
    resume, announced = None, False
    if isinstance(error, Ended):
        resume, announced, error = error.resume, error.announced, error.cause
    known = relay_error(error)
    if json and not announced:
        from orchestrator.display.machine import json_line

        event = {"event": "error", "time": time.time(), "run": None, "exit_code": known.exit_code}
        event |= {"message": known.message, "advice": known.advice, "resume": resume}
        Stream(sys.stdout).write(json_line(event))
    stderr = Stream(sys.stderr)
    if debug:
        stderr.write("".join(traceback.format_exception(error)))
    label = "Error:" if known.exit_code < 128 else "Stopped:"
    if is_terminal(sys.stderr) and not no_color():
        label = f"\x1b[1;31m{label}\x1b[0m"
    stderr.write(f"{label} {printable(known.message)}\n")
    if known.advice:
        stderr.write(f"{printable(known.advice)}\n")
    if resume:
        stderr.write(f"{printable(resume)}\n")
    return known.exit_code


def no_color() -> bool:
    import os

    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
