"""Every error that a person may see, with the exit code that it ends the program with.

    RelayError                      7
    ├── UsageError                  2   the command line, the recipe or the output path
    ├── WeightsError                3   weights missing, incomplete, damaged or of the wrong kind
    ├── DoesNotFit                  4   memory budget or disk
    ├── OutOfMemory                 5   a worker died of memory
    ├── GpuFailure                  6   the GPU's watchdog or a command buffer
    ├── WorkerFailed                7   a worker failed otherwise
    ├── ArtifactError               7   a file of ours is damaged; callers set it aside and compute it again
    └── Interrupted               130   Ctrl-C (SIGTERM 143, SIGHUP 129)

The tree lives in `weights` because that is the bottom of the import order: all four packages may raise from it.
A message is a sentence for a person: what is wrong, in which file or flag; `advice` says what to do.
"""

from __future__ import annotations

MESSAGE_LIMIT = 1_500
"""Characters: a message may quote what a stranger's file says, and stays a message all the same."""


class RelayError(Exception):
    """Base of all; `str(error)` is the message, `advice` what to do about it (may be empty)."""

    exit_code = 7

    def __init__(self, message: str, *, advice: str = "", exit_code: int | None = None) -> None:
        if len(message) > MESSAGE_LIMIT:
            message = f"{message[: MESSAGE_LIMIT - 6]} [...]"
        super().__init__(message)
        self.message = message
        self.advice = advice
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(RelayError):
    exit_code = 2


class WeightsError(RelayError):
    exit_code = 3


class DoesNotFit(RelayError):
    exit_code = 4


class OutOfMemory(RelayError):
    exit_code = 5


class GpuFailure(RelayError):
    exit_code = 6


class WorkerFailed(RelayError):
    exit_code = 7


class ArtifactError(RelayError):
    exit_code = 7


class Interrupted(RelayError):
    exit_code = 130
