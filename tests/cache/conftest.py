"""Failpoints: the n-th call to the operating system fails, or the process is killed there with SIGKILL."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cache.home import Home, open_home

OPERATIONS = ("open", "write", "pwrite", "ftruncate", "fsync", "replace", "rename", "link", "unlink", "mkdir", "close")


@dataclass
class Calls:
    """The calls made so far, as (name, arguments); `action` is asked at each one, and may raise or kill."""

    action: Callable[[int, str, Callable[[], Any]], Any]
    made: list[tuple[str, tuple[Any, ...]]]


def _watch(monkeypatch: pytest.MonkeyPatch, action: Callable[[int, str, Callable[[], Any]], Any]) -> Calls:
    calls = Calls(action, [])

    def wrapped(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            calls.made.append((name, arguments))
            return calls.action(len(calls.made), name, lambda: original(*arguments, **named))

        return call

    for name in OPERATIONS:
        monkeypatch.setattr(os, name, wrapped(name, getattr(os, name)))
    return calls


@pytest.fixture(autouse=True)
def fsync_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS syncs files by another call, which one test of its own looks at; the others watch os.fsync."""
    monkeypatch.delattr(fcntl, "F_FULLFSYNC", raising=False)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Calls]:
    """watch(action) puts `action(n, name, do)` around every file operation of `os`; without one, they are recorded."""

    def start(action: Callable[[int, str, Callable[[], Any]], Any] = lambda n, name, do: do()) -> Calls:
        return _watch(monkeypatch, action)

    return start


@pytest.fixture
def order(watch: Callable[..., Calls]) -> Callable[[], list[str]]:
    """order(): a list that fills with what is written, synced, linked and renamed from then on."""

    def start() -> list[str]:
        steps: list[str] = []
        kinds: dict[int, str] = {}

        def action(n: int, name: str, do: Callable[[], Any]) -> Any:
            arguments = calls.made[-1][1]
            if name == "fsync" and kinds[arguments[0]] == "file":
                steps.append(f"fsync file of {os.fstat(arguments[0]).st_size}")
            elif name == "fsync":
                steps.append("fsync folder")
            elif name == "write":
                steps.append(f"write {len(arguments[1])}")
            elif name in ("replace", "rename", "link"):
                steps.append(f"{name} -> {Path(arguments[1]).name}")
            result = do()
            if name == "open":
                kinds[result] = "folder" if arguments[1] & os.O_DIRECTORY else "file"
            return result

        calls = watch(action)
        return steps

    return start


MODES = ("before", "after", "half")


def killed_at(task: Callable[[], object], at: int, mode: str) -> bool:
    """Runs `task` in a forked process that kills itself at its `at`-th file operation; False when it came to its end.

    mode: before the call, after it, or, of a write, after half of its bytes.
    """
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            return True
        assert os.WEXITSTATUS(status) == 0, "the task failed"
        return False
    try:
        real_write = os.write

        def action(n: int, name: str, do: Callable[[], Any]) -> Any:
            if n == at and mode == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            if n == at and mode == "half" and name == "write":
                descriptor, data = calls.made[-1][1]
                real_write(descriptor, data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            result = do()
            if n == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        calls = _watch(pytest.MonkeyPatch(), action)
        task()
    except BaseException:
        os._exit(1)
    os._exit(0)


def kill_everywhere(task: Callable[[], object], check: Callable[[str], object], prepare: Callable[[], object]) -> int:
    """Kills `task` at each of its file operations in each mode; `check` looks after every kill. Returns the kills."""
    kills = 0
    for mode in MODES:
        at = 1
        prepare()
        while killed_at(task, at, mode):
            check(f"{mode} {at}")
            prepare()
            kills, at = kills + 1, at + 1
            assert at < 200
    return kills


@pytest.fixture
def everywhere() -> Callable[..., int]:
    return kill_everywhere


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
        mounted = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"needs a small tmpfs, and there is no mount: {error}")
    if mounted.returncode:
        pytest.skip(f"needs root to mount a small tmpfs: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def temporaries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.name.startswith(".relay-"))


@pytest.fixture
def leftovers() -> Callable[[Path], list[Path]]:
    """leftovers(folder): temporary files in it and below."""
    return temporaries
