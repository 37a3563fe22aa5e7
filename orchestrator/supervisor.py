"""Runs one worker from its start to its end, and says how it ended.

Guarantees: whatever happens here or there, no zombie, no orphan and nothing of the worker's process group is left;
whatever the worker writes to its event pipe or prints, `on_event` gets only events of the protocol; a worker that
closes its pipe is still waited for. `on_event` is called in the caller's thread. Not guaranteed: that a worker that
hangs is ended. It is reported as stalled; ending it is for the person.

Events of the supervisor's own, besides `workers.protocol.EVENTS`:

    sample         resident, peak    bytes of the worker, seen from outside, about every two seconds
    stalled        seconds           no event for so long: more than max(120 s, 8 x the median step)
    interrupting   message           a signal was passed on to the worker
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from orchestrator import cgroup
from orchestrator.ends import Evidence, classify
from orchestrator.event_lines import Event, EventLines
from orchestrator.interrupts import Interrupts
from orchestrator.machine import total_memory
from orchestrator.observed import STALL_SECONDS, Observed
from orchestrator.vitals import read_vitals
from weights.errors import WorkerFailed
from workers.protocol import EVENT_FD_VARIABLE, Job

_TICK_SECONDS = 0.1
_SHORT_SECONDS = 0.001
_SAMPLE_SECONDS = 0.2
_SAMPLES_PER_EVENT = 10
_READ_BYTES = 1 << 16
_LOG_TAIL_BYTES = 16 << 10
_COUNTING_ERROR = 16 << 20
_LOG_TAIL_LINES = 20

_ASKED = "Finishing this step and saving; press again to kill."
_KILLED = "Killing the worker."


@dataclass(frozen=True)
class WorkerEnd:
    """How a worker ended, and what it took. Bytes; `seconds` of wall time, of the process from outside.

    code, kind, message, advice: of `orchestrator.ends`. process_peak: the largest of what the worker said, what was
    sampled and what the kernel kept. bytes_read: per file. maxima: the worker's largest samples of memory.
    signal: the one that ended it, or None.
    """

    code: int
    kind: str
    message: str
    advice: str
    pid: int
    seconds: float
    process_peak: int
    mlx_peak: int
    bytes_read: Mapping[str, int]
    maxima: Mapping[str, int]
    signal: int | None
    last_log_lines: tuple[str, ...]


def run_worker(
    job: Job,
    *,
    job_path: Path,
    log_path: Path,
    environment: Mapping[str, str],
    on_event: Callable[[Event], None],
    interrupts: Interrupts,
    backend: str = "cpu",
    memory_limit: int | None = None,
    expected: int = 0,
    stall_seconds: float = STALL_SECONDS,
) -> WorkerEnd:
    """Write the job file, run `python -P -m workers` on it, and wait for its end.

    `environment` is the worker's whole environment (`WorkerEnvironment.variables`). The log is appended to.
    `memory_limit`: bytes at which this machine kills, by default all of its memory or its control group's limit.
    `expected`: bytes that the worker is to take at most, by the plan.

    Raises Interrupted when a signal came before the start, WorkerFailed when no process can be started, OSError when
    the job file or log cannot be written. An OSError of `on_event` (the terminal went away, a full disk) lets the
    worker finish its step first; any other exception of `on_event` kills the worker. Both are raised again here.
    """
    interrupts.check()
    job_path.write_text(job.to_json(), encoding="utf-8")
    with open(log_path, "ab") as log, interrupts.worker():
        log_start = log.seek(0, os.SEEK_END)
        worker = _Worker(job.stage, on_event, interrupts, stall_seconds)
        try:
            worker.watch(job_path, log, environment)
        finally:
            worker.bury()
    if worker.delivery_error is not None:
        raise worker.delivery_error
    limits = (memory_limit or total_memory(), job.limits.memory)
    return worker.end(limits, expected, backend, _log_tail(log_path, log_start))


class _Worker:
    """One process, from `watch` to `bury`."""

    def __init__(
        self, stage: str, on_event: Callable[[Event], None], interrupts: Interrupts, stall_seconds: float
    ) -> None:
        self.stage = stage
        self.on_event = on_event
        self.interrupts = interrupts
        self.delivery_error: OSError | None = None
        self.started = time.monotonic()
        self.seconds = 0.0
        self.observed = Observed(last_event=self.started, stall_seconds=stall_seconds)
        self.oom_kills = cgroup.oom_kills()
        own = read_vitals(os.getpid())
        self.own_peak = own.peak if own is not None else 0
        self.process: subprocess.Popen[bytes] | None = None
        self.status: int | None = None
        self.kernel_peak = 0
        self.exited = False
        self.events = -1
        self.selector = selectors.DefaultSelector()
        self.lines = EventLines()
        self.samples = 0
        self.next_sample = 0.0
        self.told: tuple[signal.Signals, ...] = ()

    # While it lives

    def watch(self, job_path: Path, log: IO[bytes], environment: Mapping[str, str]) -> None:
        """Start it, and go on until it has exited and everything that it said is delivered."""
        self.process, self.events = _start(job_path, log, environment)
        self.selector.register(self.events, selectors.EVENT_READ)
        self.interrupts.attach(self.process.pid)
        pause = _SHORT_SECONDS
        while not self._has_exited(self.process.pid):
            if not self.selector.get_map():
                # Its pipe is closed, so nothing wakes us any more: most often it is just about to exit.
                time.sleep(pause)
                pause = min(2 * pause, _TICK_SECONDS / 2)
            elif self.selector.select(_TICK_SECONDS):
                self._read()
            self._sample(self.process.pid)
            self._tell_interrupts()
            silence = self.observed.stall(time.monotonic())
            if silence is not None:
                self._tell("stalled", seconds=silence)
        self.seconds = time.monotonic() - self.started
        self.interrupts.detach()
        self._tell_interrupts()
        while self.selector.get_map() and self._read():
            pass
        self._deliver_all(self.lines.finish())

    def _read(self) -> bool:
        """One read of the event pipe; False when there is nothing to read now."""
        try:
            data = os.read(self.events, _READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._deliver_all(self.lines.feed(data))
        else:
            self.selector.unregister(self.events)
        return bool(data)

    def _deliver_all(self, events: list[Event]) -> None:
        for event in events:
            self.observed.event(event, time.monotonic())
            self._deliver(event)

    def _deliver(self, event: Event) -> None:
        if self.delivery_error is not None:
            return
        try:
            self.on_event(event)
        except OSError as error:
            self.delivery_error = error
            self.interrupts.stop_worker()

    def _tell(self, kind: str, **fields: Any) -> None:
        self._deliver({"event": kind, "time": time.time(), "stage": self.stage, **fields})

    def _sample(self, pid: int) -> None:
        now = time.monotonic()
        if now < self.next_sample:
            return
        self.next_sample = now + _SAMPLE_SECONDS
        vitals = read_vitals(pid)
        if vitals is None:
            return
        self.observed.vitals(vitals)
        if self.samples % _SAMPLES_PER_EVENT == 1:
            self._tell("sample", resident=vitals.resident, peak=self.observed.peak)
        self.samples += 1

    def _tell_interrupts(self) -> None:
        sent = tuple(self.interrupts.sent)
        if sent != self.told:
            self.told = sent
            self._tell("interrupting", message=_KILLED if signal.SIGKILL in sent else _ASKED)

    def _has_exited(self, pid: int) -> bool:
        """Without reaping, where the system can: so its id, and its group's, stay its own until `bury`."""
        if not self.exited:
            if hasattr(os, "waitid"):
                options = os.WEXITED | os.WNOHANG | os.WNOWAIT
                self.exited = os.waitid(os.P_PID, pid, options) is not None
            else:  # macOS before Python 3.13
                self._reap(pid, os.WNOHANG)
        return self.exited

    # When it is over, one way or the other

    def bury(self) -> None:
        """Kill what is left of its group, reap it, close everything. Also the way out of any exception."""
        self.interrupts.detach()
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            if self.status is None:
                self._reap(self.process.pid, 0)
            self.process.returncode = self.status
            if self.process.stdin is not None:
                self.process.stdin.close()
            os.close(self.events)
        self.selector.close()

    def _reap(self, pid: int, options: int) -> None:
        reaped, status, usage = os.wait4(pid, options)
        if reaped == pid:
            self.exited = True
            self.status = os.waitstatus_to_exitcode(status)
            # Linux, KiB. It starts at the size of this process at the fork, so only more than that is the worker's;
            # clearly more, because the kernel's counts of both are a little late.
            peak = usage.ru_maxrss * 1024
            if sys.platform == "linux" and peak > self.own_peak + _COUNTING_ERROR:
                self.kernel_peak = peak

    def end(self, limits: tuple[int | None, ...], expected: int, backend: str, log_tail: tuple[str, ...]) -> WorkerEnd:
        """All of it in one record."""
        assert self.process is not None
        assert self.status is not None
        oom_kills = cgroup.oom_kills()
        end = classify(
            Evidence(
                stage=self.stage,
                status=self.status,
                done=self.observed.done is not None,
                error=self.observed.error,
                oom_kills=(oom_kills or 0) - (self.oom_kills or 0),
                sent=tuple(self.interrupts.sent),
                interrupted=self.interrupts.exit_code,
                usages=self.observed.usages(limits),
                own_usages=self.observed.own_usages(expected),
                backend=backend,
                log_tail=log_tail,
            )
        )
        return WorkerEnd(
            code=end.code,
            kind=end.kind,
            message=end.message,
            advice=end.advice,
            pid=self.process.pid,
            seconds=self.seconds,
            process_peak=max(self.observed.peak, self.kernel_peak),
            mlx_peak=self.observed.mlx_peak,
            bytes_read=self.observed.counts("bytes_read"),
            maxima=self.observed.counts("maxima"),
            signal=-self.status if self.status < 0 else None,
            last_log_lines=log_tail,
        )


def _start(job_path: Path, log: IO[bytes], environment: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], int]:
    """The process, and our end of its event pipe."""
    ours, theirs = os.pipe()
    try:
        os.set_blocking(ours, False)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "workers", str(job_path.absolute())],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs,),
            start_new_session=True,
            env={**environment, EVENT_FD_VARIABLE: str(theirs)},
        )
    except OSError as error:
        os.close(ours)
        raise WorkerFailed(f"No worker process can be started: {error}.") from error
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return process, ours


def _log_tail(path: Path, start: int) -> tuple[str, ...]:
    """The last lines since `start`, without control characters."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - _LOG_TAIL_BYTES))
            text = file.read(_LOG_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return ()
    lines = ("".join(letter if letter.isprintable() else " " for letter in line).rstrip() for line in text.splitlines())
    return tuple([line for line in lines if line][-_LOG_TAIL_LINES:])
