"""One press asks, the second kills; without a worker a press ends the program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.interrupts import Interrupts
from weights.errors import Interrupted

INT, TERM, HUP, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What is sent, instead of sending it."""
    sent: list[tuple[str, int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append(("process", pid, number)))
    monkeypatch.setattr(os, "killpg", lambda pid, number: sent.append(("group", pid, number)))
    return sent


@pytest.mark.parametrize(("number", "code"), [(INT, 130), (TERM, 143), (HUP, 129)])
def test_without_a_worker_a_signal_ends_the_program(number: signal.Signals, code: int, clock: Clock) -> None:
    interrupts = Interrupts(clock)
    with pytest.raises(Interrupted) as caught:
        interrupts.receive(number)
    assert caught.value.exit_code == code
    assert interrupts.requested
    with pytest.raises(Interrupted):
        interrupts.check()


def test_the_first_asks_the_worker_and_the_second_kills_its_group(
    clock: Clock, signals: list[tuple[str, int, int]]
) -> None:
    interrupts = Interrupts(clock)
    with interrupts.worker():
        interrupts.attach(4242)
        interrupts.receive(INT)
        assert signals == [("process", 4242, TERM)]
        clock.now += 1
        interrupts.receive(TERM)
        assert signals[1:] == [("group", 4242, KILL)]
        clock.now += 1
        interrupts.receive(INT)
        assert len(signals) == 2
        assert interrupts.sent == [TERM, KILL]
    assert interrupts.exit_code == 130  # the first decides


def test_signals_at_the_same_moment_are_one_press(clock: Clock, signals: list[tuple[str, int, int]]) -> None:
    interrupts = Interrupts(clock)
    with interrupts.worker():
        interrupts.attach(4242)
        interrupts.receive(HUP)
        clock.now += 0.05
        interrupts.receive(TERM)
    assert signals == [("process", 4242, TERM)]
    assert interrupts.exit_code == 129


def test_a_signal_before_the_worker_is_there_reaches_it(clock: Clock, signals: list[tuple[str, int, int]]) -> None:
    interrupts = Interrupts(clock)
    with interrupts.worker():
        interrupts.receive(INT)
        assert signals == []
        interrupts.attach(4242)
    assert signals == [("process", 4242, TERM)]


def test_nothing_is_sent_to_a_worker_that_is_gone(clock: Clock, signals: list[tuple[str, int, int]]) -> None:
    interrupts = Interrupts(clock)
    with interrupts.worker():
        interrupts.attach(4242)
        interrupts.detach()
        interrupts.receive(INT)
    assert signals == []
    assert interrupts.requested


def test_a_worker_that_just_died_is_no_error(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(pid: int, number: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", gone)
    interrupts = Interrupts(clock)
    with interrupts.worker():
        interrupts.attach(4242)
        interrupts.receive(INT)
    assert interrupts.sent == []


@pytest.fixture
def handlers() -> Iterator[dict[signal.Signals, Any]]:
    before = {number: signal.getsignal(number) for number in (INT, TERM, HUP)}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


def test_handlers_are_put_back(handlers: dict[signal.Signals, Any]) -> None:
    with Interrupts():
        assert all(signal.getsignal(number) is not handler for number, handler in handlers.items())
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_what_was_ignored_stays_ignored(handlers: dict[signal.Signals, Any]) -> None:
    signal.signal(HUP, signal.SIG_IGN)
    with Interrupts() as interrupts:
        os.kill(os.getpid(), HUP)
        assert signal.getsignal(HUP) is signal.SIG_IGN
        assert not interrupts.requested
    assert signal.getsignal(HUP) is signal.SIG_IGN


def test_a_real_signal_ends_a_program_that_waits() -> None:
    code = (
        "import time\n"
        "from orchestrator.interrupts import Interrupts\n"
        "from weights.errors import Interrupted\n"
        "import sys\n"
        "with Interrupts() as interrupts:\n"
        "    try:\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "    except Interrupted as error:\n"
        "        sys.exit(error.exit_code)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(TERM)
        assert process.wait(timeout=30) == 143  # long before the sleep is over
