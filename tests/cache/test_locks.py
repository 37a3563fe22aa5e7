"""Locks: one holder at a time, waiting in words, and nothing that outlives a kill -9."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cache.artifacts import Tensor, publish, read
from cache.home import Home
from cache.keys import make_key
from cache.locks import hold, hold_all
from weights.errors import DoesNotFit, Interrupted, UsageError

HOLDER = """
import sys, time
from pathlib import Path
from cache.locks import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def start_holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def is_free(path: Path) -> bool:
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_held_inside_and_free_outside(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "a.lock"
    with hold(path):
        assert not is_free(path)
        assert f'"pid": {os.getpid()}' in path.read_text()
    assert is_free(path)
    assert path.read_text() == ""
    with pytest.raises(KeyError), hold(path):
        raise KeyError
    assert is_free(path)


def test_waiting_names_the_holder_once_and_ends_when_it_does(tmp_path: Path) -> None:
    path, told = tmp_path / "a.lock", list[str]()
    holder = start_holder(path)

    def on_wait(sentence: str) -> None:
        told.append(sentence)
        threading.Timer(0.3, lambda: holder.communicate()).start()  # closes its stdin: it ends

    with hold(path, on_wait=on_wait):
        assert not is_free(path)
    holder.wait()
    assert len(told) == 1
    assert told[0].startswith(f"Waiting for process {holder.pid} (")
    assert told[0].endswith(") to release a.")


def test_kill_9_of_the_holder_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    holder = start_holder(path)
    assert not is_free(path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert path.read_text(), "its name is still there"
    told: list[str] = []
    with hold(path, on_wait=told.append):
        assert f'"pid": {os.getpid()}' in path.read_text()
    assert told == []
    holder.communicate()


def test_a_program_that_the_holder_starts_does_not_keep_it(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with hold(path):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    assert is_free(path)
    child.kill()
    child.wait()


def test_stop_ends_the_waiting(tmp_path: Path) -> None:
    path, asked = tmp_path / "a.lock", list[int]()

    before = len(os.listdir("/dev/fd"))

    def stop() -> bool:
        asked.append(1)
        return len(asked) == 3

    with hold(path):
        with pytest.raises(Interrupted, match="waiting for a") as caught, hold(path, stop=stop):
            pytest.fail("two holders at once")
        assert not is_free(path)
    assert caught.value.exit_code == 130
    assert len(os.listdir("/dev/fd")) == before, "no descriptor is left open"


def test_ctrl_c_ends_the_waiting(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    program = (
        "import sys; from pathlib import Path; from cache.locks import hold\n"
        "with hold(Path(sys.argv[1]), on_wait=lambda words: print(words, flush=True)): pass"
    )
    with hold(path):
        waiter = subprocess.Popen(
            [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert waiter.stdout is not None
        assert f"process {os.getpid()} " in waiter.stdout.readline()
        waiter.send_signal(signal.SIGINT)
        _, errors = waiter.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors


def test_a_lock_file_that_was_removed_meanwhile_excludes_nobody(tmp_path: Path) -> None:
    """Who waited on the removed file must not take it for the lock."""
    path, entered = tmp_path / "a.lock", threading.Event()
    outer = ExitStack()
    outer.enter_context(hold(path))

    def wait_for_it() -> None:
        with hold(path, on_wait=lambda words: waiting.set()):
            held.append(os.stat(path).st_ino)
            entered.set()
            release.wait(30)

    waiting, release, held = threading.Event(), threading.Event(), list[int]()
    thread = threading.Thread(target=wait_for_it)
    thread.start()
    assert waiting.wait(30)
    path.unlink()
    outer.close()
    assert entered.wait(30)
    assert not is_free(path)
    assert held == [os.stat(path).st_ino]
    release.set()
    thread.join()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"pid": null, "command": 1}', b'{"pid": 1e999, "command": 1}', b"\xff" * 9000, b"[" * 4096],
)
def test_nonsense_in_the_lock_file_is_another_process(tmp_path: Path, content: bytes) -> None:
    path, told = tmp_path / "a.lock", list[str]()
    with hold(path):
        path.write_bytes(content)
        with pytest.raises(Interrupted), hold(path, on_wait=told.append, stop=lambda: True):
            pass
    assert told == ["Waiting for another process to release a."]


def test_a_strange_command_line_is_made_printable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, told = tmp_path / "a.lock", list[str]()
    monkeypatch.setattr(sys, "argv", ["/bin/ltx-relay", "generate", "a\n\x1b[31m\udcff" + "x" * 5000])
    with hold(path), pytest.raises(Interrupted), hold(path, on_wait=told.append, stop=lambda: True):
        pass
    assert told[0].isprintable()
    assert "ltx-relay generate" in told[0]
    assert len(told[0]) < 500


def test_many_locks_are_taken_in_one_order(tmp_path: Path) -> None:
    """Two processes that name the same locks the other way round would block each other for ever."""
    paths, counter = [tmp_path / f"{name}.lock" for name in "abc"], tmp_path / "counter"
    counter.write_text("0")
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.alarm(60)
                for turn in range(25):
                    order = paths if (number + turn) % 2 else paths[::-1]
                    with hold_all([*order, order[0]]):
                        counter.write_text(str(int(counter.read_text()) + 1))
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert counter.read_text() == "100"


def test_locks_are_taken_in_the_order_of_their_names(tmp_path: Path) -> None:
    a, b, c = (tmp_path / f"{name}.lock" for name in "abc")
    seen = []

    def stop() -> bool:
        seen.append((is_free(a), is_free(c)))
        return True

    with hold(b), pytest.raises(Interrupted), hold_all([c, b, a], stop=stop):
        pass
    assert seen == [(False, True)], "a is held and c not yet, while b is waited for"


def test_many_locks_are_all_released_when_one_cannot_be_had(tmp_path: Path) -> None:
    first, second = tmp_path / "a.lock", tmp_path / "b.lock"
    with hold(second), pytest.raises(Interrupted), hold_all([second, first], stop=lambda: True):
        pass
    assert is_free(first)
    with hold_all([]):
        pass


def test_the_same_lock_by_two_names_is_taken_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with hold_all([tmp_path / "real" / "a.lock", tmp_path / "link" / "a.lock"], stop=lambda: True):
        assert not is_free(tmp_path / "real" / "a.lock")


def test_four_processes_compute_one_artifact_once(home: Home) -> None:
    key = make_key({"stage": "text", "prompt": "a red ball"})
    path, computed = home.object_path(key), home.root / "computed"
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with hold(home.lock_path(key)):
                    if not path.exists():
                        with open(computed, "a") as file:
                            file.write(f"{number}\n")
                        publish(path, {"x": Tensor("U8", (1,), bytes([number]))}, {"key": key, "stage": "text"})
                read(path, key=key, stage="text")
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert len(computed.read_text().split()) == 1


def test_a_lock_that_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watch: Callable[..., Any]
) -> None:
    (tmp_path / "a.lock").mkdir()
    with pytest.raises(UsageError, match="cannot be opened"), hold(tmp_path / "a.lock"):
        pass

    def no_locks(*arguments: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(UsageError, match="has no locks"), hold(tmp_path / "b.lock"):
        pass

    def full(n: int, name: str, do: Callable[[], Any]) -> Any:
        raise OSError(28, "No space left on device")

    watch(full)
    with pytest.raises(DoesNotFit), hold(tmp_path / "c.lock"):
        pass


def test_a_full_disk_does_not_keep_a_lock_from_being_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.lock"
    monkeypatch.setattr(os, "pwrite", full)
    with hold(path):
        assert not is_free(path)


def test_a_link_in_place_of_the_lock_file_leads_nowhere(tmp_path: Path) -> None:
    """In a folder that others may write to, it would make us write to any file of ours."""
    precious = tmp_path / "precious"
    precious.write_text("content")
    path = tmp_path / "a.lock"
    path.symlink_to(precious)
    with pytest.raises(UsageError, match="cannot be opened"), hold(path):
        pass
    assert precious.read_text() == "content"
