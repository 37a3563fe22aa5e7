"""The machine stays awake for as long as this process lives and works: both systems' programs, as fakes on PATH."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.power import Awake, awake_command, battery_warning

CAFFEINATE = """
echo "$$ $@" >> {log}
while kill -0 "$3" 2>/dev/null; do sleep 0.05; done
"""
INHIBIT = """
echo "$$ $@" >> {log}
for last; do :; done
exec "$last"
"""
PROGRAMS = {"darwin": ("caffeinate", CAFFEINATE), "linux": ("systemd-inhibit", INHIBIT)}


def put(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def fake(tmp_path: Path) -> Callable[[str], tuple[Callable[[str], str | None], Path]]:
    """`which`, and the log with `pid arguments` of each start, of a system's program."""

    def make(platform: str) -> tuple[Callable[[str], str | None], Path]:
        name, script = PROGRAMS[platform]
        path, log = tmp_path / name, tmp_path / "log"
        put(tmp_path, name, script.format(log=log))
        return lambda wanted: str(path) if wanted == name else shutil.which(wanted), log

    return make


def started(log: Path) -> list[str]:
    """Words of the one start, waited for."""
    for _ in range(1500):
        if log.exists() and log.read_text().endswith("\n"):
            return log.read_text().split()
        time.sleep(0.02)
    raise AssertionError("it never started")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_caffeinate_keeps_the_system_awake_and_not_the_display() -> None:
    assert awake_command("darwin", lambda name: f"/usr/bin/{name}", 7) == ["/usr/bin/caffeinate", "-i", "-w", "7"]


def test_systemd_inhibit_holds_idle_and_sleep_while_a_pipe_is_open() -> None:
    command = awake_command("linux", lambda name: f"/usr/bin/{name}", 7)
    assert command is not None
    assert (command[0], command[1], command[-1]) == ("/usr/bin/systemd-inhibit", "--what=idle:sleep", "/usr/bin/cat")


@pytest.mark.parametrize("platform", ["darwin", "linux", "freebsd14"])
def test_without_a_program_nothing_is_started(platform: str) -> None:
    assert awake_command(platform, lambda name: None, 7) is None
    with Awake(platform, lambda name: None) as awake:
        awake.begin()


@pytest.mark.parametrize("platform", PROGRAMS)
def test_it_runs_from_begin_to_the_end(platform: str, fake: Callable[[str], tuple[Callable, Path]]) -> None:
    which, log = fake(platform)
    with Awake(platform, which) as awake:
        assert not log.exists()
        awake.begin()
        awake.begin()
        pid = int(started(log)[0])
        assert awake.holds(0.05)
    assert not alive(pid)
    assert len(log.read_text().splitlines()) == 1


@pytest.mark.parametrize("platform", PROGRAMS)
def test_it_ends_when_this_process_is_killed(platform: str, fake: Callable[[str], tuple[Callable, Path]]) -> None:
    which, log = fake(platform)
    name = PROGRAMS[platform][0]
    source = (
        "import shutil, sys, time; from orchestrator.power import Awake\n"
        f"which = lambda n: {which(name)!r} if n == {name!r} else shutil.which(n)\n"
        f"Awake({platform!r}, which).begin(); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", source], cwd=Path(__file__).parents[2])
    pid = int(started(log)[0])
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(1500):
        if not alive(pid):
            break
        time.sleep(0.02)
    assert not alive(pid)


@pytest.mark.parametrize("platform", PROGRAMS)
@pytest.mark.parametrize("script", ["exit 1", "exec 0<&-; exec sleep 60"])
def test_a_program_that_fails_or_hangs_disturbs_nobody(
    platform: str, script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.power._END_SECONDS", 0.2)
    path = put(tmp_path, "program", f"trap '' TERM\n{script}")
    with Awake(platform, lambda name: str(path)) as awake:
        awake.begin()
        if script == "exit 1":
            assert not awake.holds(60)


def test_a_program_that_cannot_be_started_disturbs_nobody(tmp_path: Path) -> None:
    with Awake("linux", lambda name: str(tmp_path / "gone")) as awake:
        awake.begin()


def battery(percent: float, plugged: bool | None, left: int = -1) -> Callable[[], object]:
    return lambda: SimpleNamespace(percent=percent, secsleft=left, power_plugged=plugged)


@pytest.mark.parametrize(
    "read",
    [lambda: None, battery(5, True), battery(5, None), battery(40, False), battery(-1, False), battery(80, False)],
)
def test_no_warning_on_mains_or_with_enough(read: Callable[[], object]) -> None:
    assert battery_warning(read) is None


def test_a_low_battery_is_said_with_what_is_known() -> None:
    assert "On battery, 23% left, about 40m 00s: plug" in (battery_warning(battery(23.4, False, 2400)) or "")
    assert "On battery, 7% left: plug" in (battery_warning(battery(7, False, -1)) or "")


def test_reading_the_battery_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("no such file")

    monkeypatch.setattr("psutil.sensors_battery", broken, raising=False)
    assert battery_warning() is None
