"""Why a worker ended, told from the evidence alone. Pure: no process is touched here.

0                  it said `done`
130, 143, 129      we were interrupted and it stopped, or we killed it; or it got such a signal from elsewhere
2, 3, 4            its error says so
5                  its error or log names a failed allocation; SIGKILL that we did not send, and the cgroup's
                   oom_kill rose or its last sample was within 10% of a limit; on the CPU, SIGSEGV or SIGABRT there,
                   or where what it was still to take would not have been within a limit of its own
6                  its error or log names a command buffer or the GPU's watchdog
7                  anything else, also an exit status of 0 without `done`
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.display.words import memory_size
from weights.errors import (
    DoesNotFit,
    GpuFailure,
    Interrupted,
    OutOfMemory,
    RelayError,
    UsageError,
    WeightsError,
    WorkerFailed,
)
from weights.own_limits import NEAR
from weights.symptoms import failure_kind

MEMORY_ADVICE = (
    "Try a smaller size (--height, --width), fewer frames (--frames 33 or 49), tiles, or quantised or streamed weights."
)
GPU_ADVICE = (
    "Run it again: it goes on from the last finished step. If it happens again, close what else uses the GPU, "
    "or try a smaller size or fewer frames."
)
DISK_ADVICE = "Free some space, then resume: it goes on from the last finished step."
FAILURE_ADVICE = "The last lines of its log say more. Resuming goes on from the last finished step."

_CRASHES = (signal.SIGSEGV, signal.SIGABRT)
_ENDED_FROM_OUTSIDE = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}
_KINDS = {2: "usage", 3: "weights", 4: "fit", 5: "memory", 6: "gpu", 7: "failed"}
_CLASSES: Mapping[int, type[RelayError]] = {
    2: UsageError,
    3: WeightsError,
    4: DoesNotFit,
    5: OutOfMemory,
    6: GpuFailure,
    7: WorkerFailed,
    **dict.fromkeys((129, 130, 143), Interrupted),
}


@dataclass(frozen=True)
class Usage:
    """The last sample of some memory, and the limit that it was under. Bytes.

    ahead: what it may have asked for since. limited: the limit in words, where it is one of the process's own.
    """

    sample: int
    limit: int
    ahead: int = 0
    limited: str = ""

    @property
    def near(self) -> bool:
        return self.limit > 0 and self.sample + self.ahead >= NEAR * self.limit


@dataclass(frozen=True)
class Evidence:
    """What is known about the end of a worker.

    status: its exit status, or the negative of the signal that ended it. error: its `error` event. oom_kills: how
    far the cgroup's counter rose. sent: the signals that we sent to it. interrupted: the exit code of the signal that
    we got ourselves (130, 143, 129). usages: its last samples.
    """

    stage: str
    status: int
    done: bool = False
    error: Mapping[str, Any] | None = None
    oom_kills: int = 0
    sent: Sequence[signal.Signals] = ()
    interrupted: int | None = None
    usages: Sequence[Usage] = ()
    own_usages: Sequence[Usage] = ()
    backend: str = "cpu"
    log_tail: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True)
class End:
    """code: the exit code for the program. kind: done, usage, weights, fit, disk, memory, gpu, failed, interrupted."""

    code: int
    kind: str
    message: str
    advice: str


def classify(evidence: Evidence) -> End:
    """The class of an end, its sentence, and what to do about it."""
    if evidence.error is not None:
        return _by_error(evidence, evidence.error)
    if evidence.done:
        return End(0, "done", "", "")
    if evidence.status < 0:
        return _by_signal(evidence, -evidence.status)
    return _by_log(evidence, f"ended with exit status {evidence.status}, and said neither why nor that it was done")


def error_for(end: End) -> RelayError:
    """The exception that stands for an end other than `done`."""
    return _CLASSES.get(end.code, WorkerFailed)(end.message, advice=end.advice, exit_code=end.code)


def _by_error(evidence: Evidence, error: Mapping[str, Any]) -> End:
    code, kind = error["exit_code"], str(error["kind"])
    message, advice = str(error["message"]), str(error["advice"])
    if kind == "stopped" or code in _ENDED_FROM_OUTSIDE.values():
        return _interrupted(evidence, evidence.interrupted or 143, "stopped after its last saved step")
    if code not in _KINDS:
        code, kind = 7, "failed"
    if code == 4 and kind == "disk":
        return End(4, "disk", message, advice or DISK_ADVICE)
    if code == 5:
        message = f"The {evidence.stage} worker ran out of memory. {message}"
    return End(code, _KINDS[code], message, advice or _advice(code))


def _by_signal(evidence: Evidence, number: int) -> End:
    name = _signal_name(number)
    if evidence.interrupted is not None and number in evidence.sent:
        return _interrupted(evidence, evidence.interrupted, "was killed before it could save its step")
    if number in _ENDED_FROM_OUTSIDE:
        return _interrupted(evidence, _ENDED_FROM_OUTSIDE[signal.Signals(number)], f"got a {name} from elsewhere")
    if number == signal.SIGKILL and number not in evidence.sent:
        if evidence.oom_kills > 0:
            return _out_of_memory(evidence, "the kernel killed it")
        near = _nearest(evidence.usages)
        if near is not None:
            return _out_of_memory(evidence, f"it was killed at {_share(near)}")
        return _by_log(evidence, f"was killed by a {name} that did not come from here, with no sign of why")
    if number in _CRASHES and evidence.backend == "cpu":
        near = _nearest((*evidence.usages, *evidence.own_usages))
        if near is not None:
            return _out_of_memory(evidence, f"it crashed ({name}) at {_share(near)}")
    return _by_log(evidence, f"crashed ({name})")


def _by_log(evidence: Evidence, how: str) -> End:
    """What its last words tell; 7 when they tell nothing."""
    near = _nearest(evidence.own_usages)
    for line in reversed(evidence.log_tail):
        kind = failure_kind(line, starved=near is not None)
        if kind == "memory":
            return _out_of_memory(evidence, line.strip().removesuffix("."))
        if kind == "gpu":
            return End(6, "gpu", f"The GPU failed the {evidence.stage} worker: {line.strip()}", GPU_ADVICE)
    return End(7, "failed", f"The {evidence.stage} worker {how}.", FAILURE_ADVICE)


def _out_of_memory(evidence: Evidence, how: str) -> End:
    return End(5, "memory", f"The {evidence.stage} worker ran out of memory: {how}.", MEMORY_ADVICE)


def _interrupted(evidence: Evidence, code: int, how: str) -> End:
    return End(code, "interrupted", f"The {evidence.stage} worker {how}.", "Resuming goes on from the last saved step.")


def _advice(code: int) -> str:
    return {4: MEMORY_ADVICE, 5: MEMORY_ADVICE, 6: GPU_ADVICE, 7: FAILURE_ADVICE}.get(code, "")


def _nearest(usages: Sequence[Usage]) -> Usage | None:
    near = [usage for usage in usages if usage.near]
    return max(near, key=lambda usage: usage.sample / usage.limit, default=None)


def _share(usage: Usage) -> str:
    if usage.limited:
        return f"{memory_size(usage.sample)}, and may have {usage.limited}"
    return f"{memory_size(usage.sample)} of {memory_size(usage.limit)}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
