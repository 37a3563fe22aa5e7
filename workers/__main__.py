"""The program of every worker: `python -P -m workers JOB.json` computes one job, and ends.

It sets up the signals and the watch on its parent, reads the job, sets MLX's limits, and runs
`workers.stages.<stage>.run(job, context)`. Its last event is `done` or `error`; its exit status is 0 or the error's
exit code. A traceback goes to the log, a sentence to the event. It leaves by `os._exit`, so that a late signal or a
library's exit handler cannot turn finished work into a failure.

    usage        2        memory       5        stopped    130
    weights      3        gpu          6
    fit, disk    4        failed       7
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cache import failpoints
from weights.errors import RelayError, UsageError
from weights.own_limits import near_own_limit
from weights.symptoms import failure_kind
from workers.channel import EventChannel, end_with_parent
from workers.context import Context, Stopped
from workers.protocol import Job

_KINDS = {2: "usage", 3: "weights", 4: "fit", 5: "memory", 6: "gpu", 130: "stopped"}


@dataclass(frozen=True)
class Failure:
    """What the `error` event says."""

    kind: str
    message: str
    advice: str
    exit_code: int


def main(arguments: list[str]) -> NoReturn:
    """Run the job file named in the arguments, and leave the process."""
    started = time.monotonic()
    channel = EventChannel.from_environment()
    code = 0
    try:
        if channel.supervised:
            end_with_parent()
        # Until the job is known there is nothing to save: a signal may end the process as it likes.
        job = read_job(arguments)
        failpoints.enter(job.stage)
        context = Context(job, channel)
        listen_to_signals(context, forever=channel.supervised)
        channel.emit("started", stage=job.stage, pid=os.getpid())
        run(job, context)
        channel.emit("done", seconds=time.monotonic() - started, **context.totals())
    except BaseException as error:
        if not isinstance(error, Stopped):
            with contextlib.suppress(OSError, ValueError):  # a full disk must not keep the event from being sent
                traceback.print_exc()
        failure = describe(error)
        code = failure.exit_code
        channel.emit(
            "error", kind=failure.kind, message=failure.message, advice=failure.advice, exit_code=failure.exit_code
        )
    leave(code)


def listen_to_signals(context: Context, *, forever: bool) -> None:
    """SIGTERM and SIGINT ask for the end after the next saved step; not `forever`: a second one ends at once."""

    def handle(number: int, frame: object) -> None:
        context.request_stop(number)
        if not forever:
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


def read_job(arguments: list[str]) -> Job:
    """The job in the one file that the arguments name; UsageError otherwise."""
    if len(arguments) != 1:
        raise UsageError("A worker takes one argument, its job file.", advice="Use ltx-relay; it starts the workers.")
    try:
        text = Path(arguments[0]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The job file {arguments[0]} cannot be read: {error}.") from error
    return Job.from_json(text)


def run(job: Job, context: Context) -> None:
    """Buffers and limits first, then the stage's own module, which imports what it needs."""
    from workers.limits import apply_limits, take_the_blas_buffers, volunteer_for_the_oom_killer
    from workers.waking import wake_the_card

    volunteer_for_the_oom_killer()
    take_the_blas_buffers()
    apply_limits(job.limits)
    wake_the_card(job.stage)
    stage = importlib.import_module(f"workers.stages.{job.stage}")
    context.check_stop()
    stage.run(job, context)


def describe(error: BaseException) -> Failure:
    """The class, sentence and exit code of whatever ended the stage."""
    if isinstance(error, RelayError) and error.exit_code != RelayError.exit_code:
        return Failure(_KINDS.get(error.exit_code, "failed"), error.message, error.advice, error.exit_code)
    chain, limit = _chain(error), near_own_limit()
    at_limit = f" This process may have no more than {limit.words}." if limit else ""
    for cause in chain:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" while writing {cause.filename}" if cause.filename else ""
            return Failure("disk", f"The disk is full{where}.", "Free some space, then resume.", 4)
    for cause in chain:
        if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM):
            return Failure("memory", f"An allocation failed: {_sentence(cause)}{at_limit}", "", 5)
        kind = None if isinstance(cause, RelayError) else failure_kind(str(cause), starved=limit is not None)
        if kind == "memory":
            return Failure("memory", f"{_telling(cause)}{at_limit}", "", 5)
        if kind == "gpu":
            return Failure("gpu", f"The GPU gave up: {_sentence(cause)}", "", 6)
    if isinstance(error, RelayError):
        return Failure("failed", error.message, error.advice, error.exit_code)
    return Failure("failed", f"{type(error).__name__}: {_sentence(error)}", "", RelayError.exit_code)


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what caused it, outermost first; bounded, because contexts may form a ring."""
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found and len(found) < 16:
        found.append(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return found


def _telling(error: BaseException) -> str:
    """The line that told: numpy's essay on imports that fail has many."""
    for line in str(error).splitlines():
        if failure_kind(line, starved=True) == "memory":
            return _sentence(RuntimeError(line))
    return _sentence(error)


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if text.endswith((".", "!", "?")) else text + "."


def leave(code: int) -> NoReturn:
    """End at once, with everything that was printed in the log."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
