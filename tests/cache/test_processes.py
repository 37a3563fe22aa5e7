"""Marks: a living process is never called dead."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import time

import pytest

from cache import processes
from cache.processes import MARK, alive, own_mark


def test_this_process_lives_under_its_mark() -> None:
    assert re.fullmatch(MARK, own_mark())
    assert alive(own_mark()) is True
    assert own_mark() == own_mark()


def test_a_child_has_a_mark_of_its_own_and_is_dead_when_it_is_a_zombie() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, own_mark().encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        mark = pipe.read()
    assert mark.split("-")[1] == str(child)
    deadline = time.monotonic() + 30
    while alive(mark) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert alive(mark) is False
    os.waitpid(child, 0)
    assert alive(mark) is False


def test_another_process_lives_until_it_is_killed() -> None:
    program = "from cache.processes import own_mark; print(own_mark(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        mark = process.stdout.readline().strip()
        assert alive(mark) is True
        process.kill()
        process.wait()
        assert alive(mark) is False


def test_a_later_process_with_the_same_number_is_another() -> None:
    machine, pid, start = own_mark().split("-")
    assert alive(f"{machine}-{pid}-{int(start) + 1}") is False


def test_another_machine_is_unknown() -> None:
    machine, pid, start = own_mark().split("-")
    other = "00000000" if machine != "00000000" else "00000001"
    assert alive(f"{other}-{pid}-{start}") is None
    for text in ("", "x", own_mark() + "-1", "../" + own_mark()):
        assert alive(text) is None


def test_a_process_that_cannot_be_looked_at_counts_as_living(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_start", lambda pid: processes._UNKNOWN)
    assert alive(own_mark()) is True


@pytest.mark.skipif(sys.platform != "linux", reason="psutil is the only way elsewhere, and the other tests use it")
def test_the_way_of_other_systems_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil  # noqa: F401  before the platform seems to be another

    monkeypatch.setattr(sys, "platform", "darwin")
    ours = processes._start(os.getpid())
    assert ours > processes._UNKNOWN
    assert processes._start(os.getpid()) == ours
    assert processes._start(2**22 + 1) == processes._GONE


def test_a_change_of_the_clock_does_not_move_the_start_on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    class Library:
        def __init__(self, path: str) -> None:
            assert "libSystem" in path

        def proc_pid_rusage(self, pid: object, flavour: object, buffer: object) -> int:
            struct.pack_into("=10Q", buffer, 16, *range(100, 110))  # type: ignore[arg-type]
            return 0

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(processes.ctypes, "CDLL", Library)
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: pytest.fail("it is corrected for the clock"))
    assert processes._start(os.getpid()) == 108, "ri_proc_start_abstime"
