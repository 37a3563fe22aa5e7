"""Ctrl-C, SIGTERM and SIGHUP in the orchestrator.

    while a worker runs    the first asks it to end after its step (one SIGTERM), the second kills its process group
    otherwise              `Interrupted` is raised where the program is, with the exit code 130, 143 or 129

Signals that come within a quarter of a second are one: a closing session sends two kinds at once. A signal that was
ignored when the program started (nohup, a background job) stays ignored. Handlers do nothing but send signals;
whoever watches the worker tells the person.

    with Interrupts() as interrupts:
        end = run_worker(job, ..., interrupts=interrupts)
        interrupts.check()
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

from weights.errors import Interrupted

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
_NAMES = {130: "Ctrl-C", 143: "SIGTERM", 129: "the end of the terminal (SIGHUP)"}
_ONE_PRESS_SECONDS = 0.25


class Interrupts:
    """One per program. Without `with` it changes no handler, and only keeps what `receive` is told."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._previous: dict[signal.Signals, Any] = {}
        self._busy = 0
        self._pid: int | None = None
        self._last = 0.0
        self.presses = 0
        self.exit_code: int | None = None
        self.sent: list[signal.Signals] = []

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in CODES:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return self.exit_code is not None

    def check(self) -> None:
        """Raise `Interrupted` if a signal came; call it between stages."""
        if self.exit_code is not None:
            raise Interrupted(f"Interrupted by {_NAMES[self.exit_code]}.", exit_code=self.exit_code)

    @contextlib.contextmanager
    def worker(self) -> Iterator[None]:
        """While this is open, signals are for the worker, and raise nothing here."""
        self.sent = []
        self._busy += 1
        try:
            yield
        finally:
            self.detach()
            self._busy -= 1

    def attach(self, pid: int) -> None:
        """The worker runs, as the leader of a process group of its own. What came before is passed on now."""
        self._pid = pid
        if self.presses:
            self._pass_on()

    def detach(self) -> None:
        """The worker is gone; its id may be another process's soon."""
        self._pid = None

    def receive(self, number: signal.Signals) -> None:
        """What the handlers do."""
        now = self._clock()
        if self.presses and now - self._last < _ONE_PRESS_SECONDS:
            return
        self._last = now
        self.presses += 1
        if self.exit_code is None:
            self.exit_code = CODES[number]
        if self._busy:
            self._pass_on()
        else:
            self.check()

    def stop_worker(self) -> None:
        """Ask the worker to end after its step, without any signal to this program."""
        self._send(signal.SIGTERM)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.receive(signal.Signals(number))

    def _pass_on(self) -> None:
        self._send(signal.SIGTERM if self.presses == 1 else signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self._pid is None or number in self.sent:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if number is signal.SIGKILL:
                os.killpg(self._pid, number)
            else:
                os.kill(self._pid, number)
            self.sent.append(number)
