"""Durable writes: the order of the calls, kills and errors at every one of them, full disks, and the sweep."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cache import durable
from cache.durable import publish_bytes, publish_text, set_aside, sweep, temporary_path, write_error
from cache.processes import own_mark
from weights.errors import DoesNotFit, RelayError


def test_the_order_is_write_sync_rename_sync_folder(tmp_path: Path, order: Callable[[], list[str]]) -> None:
    steps = order()
    publish_bytes(tmp_path / "file", b"content")
    assert steps == ["write 7", "fsync file of 7", "replace -> file", "fsync folder"]


def test_new_folders_are_durable_too(tmp_path: Path, watch: Callable[..., Any]) -> None:
    opened: list[Any] = []

    def action(n: int, name: str, do: Callable[[], Any]) -> Any:
        if name == "fsync":
            opened.append(os.readlink(f"/proc/self/fd/{calls.made[-1][1][0]}"))
        return do()

    if not Path("/proc/self/fd").exists():
        pytest.skip("only Linux tells which folder was synced")
    calls = watch(action)
    publish_bytes(tmp_path / "a" / "b" / "file", b"")
    assert opened[:2] == [str(tmp_path), str(tmp_path / "a")]
    assert opened[-1] == str(tmp_path / "a" / "b")


def test_macos_flushes_the_drive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda descriptor, command: asked.append(command))
    publish_bytes(tmp_path / "file", b"x")
    assert asked == [51]

    def unsupported(descriptor: int, command: int) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    fsynced = []
    monkeypatch.setattr(fcntl, "fcntl", unsupported)
    monkeypatch.setattr(os, "fsync", fsynced.append)
    publish_bytes(tmp_path / "file", b"x")
    assert len(fsynced) == 2, "the file and its folder"


def test_a_kill_anywhere_leaves_the_old_or_the_new_content(
    tmp_path: Path, everywhere: Callable[..., int], leftovers: Callable[[Path], list[Path]]
) -> None:
    path, old, new = tmp_path / "file", b"old" * 100, b"new" * 5000
    seen = set()

    def check(where: str) -> None:
        found = path.read_bytes()
        assert found in (old, new), where
        seen.add(found)
        sweep(tmp_path)
        assert leftovers(tmp_path) == [], where

    kills = everywhere(lambda: publish_bytes(path, new), check, lambda: publish_bytes(path, old))
    assert kills >= 20
    assert seen == {old, new}, "kills fell on both sides of the rename"


def test_a_kill_at_any_moment_of_a_real_process(tmp_path: Path, leftovers: Callable[[Path], list[Path]]) -> None:
    program = (
        "import sys; from pathlib import Path; from cache.durable import publish_bytes\n"
        "number = 0\n"
        "while True:\n"
        "    publish_bytes(Path(sys.argv[1]), (b'%08d' % number) * 50_000)\n"
        "    print(number, flush=True); number += 1\n"
    )
    path = tmp_path / "file"
    for attempt in range(12):
        with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.0007 * attempt)
            process.kill()
            promised = max([0, *(int(line) for line in process.stdout.read().split())])
        found = path.read_bytes()
        assert found == found[:8] * 50_000
        assert int(found[:8]) >= promised, "what was reported as written is there"
        sweep(tmp_path)
        assert leftovers(tmp_path) == []
        path.unlink()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_an_error_anywhere_leaves_no_temporary(
    tmp_path: Path, watch: Callable[..., Any], leftovers: Callable[[Path], list[Path]], code: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    state = {"at": 0}

    def action(n: int, name: str, do: Callable[[], Any]) -> Any:
        if n == state["at"]:
            if name == "close":
                do()
            raise OSError(code, os.strerror(code))
        return do()

    calls = watch(action)
    told: list[RelayError] = []
    for at in range(1, 30):
        calls.made.clear()
        state["at"] = at
        try:
            publish_bytes(path, b"new")
        except RelayError as error:
            told.append(error)
        if len(calls.made) < at:
            break
        state["at"] = 0
        assert path.read_bytes() in (b"old", b"new")
        assert leftovers(tmp_path) == [], at
    assert len(told) >= 7
    assert all(isinstance(error, DoesNotFit) == (code != errno.EIO) and str(path) in error.message for error in told)


def test_a_keyboard_interrupt_leaves_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leftovers: Callable[[Path], list[Path]]
) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish_bytes(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    publish_bytes(tmp_path / "file", bytes(range(100)))
    assert (tmp_path / "file").read_bytes() == bytes(range(100))


def test_a_full_disk_says_by_how_much(small_disk: Path, leftovers: Callable[[Path], list[Path]]) -> None:
    path = small_disk / "file"
    publish_bytes(path, b"old")
    with pytest.raises(DoesNotFit, match=r"needs 3\.0 MB; the disk has 1\.0 MB free, 2\.0 MB too little") as caught:
        publish_bytes(path, bytes(3_000_000))
    assert caught.value.exit_code == 4
    assert path.read_bytes() == b"old"
    assert leftovers(small_disk) == []
    publish_bytes(path, bytes(900_000))  # the space is free again


def test_errors_of_writing_in_words(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert "quota does not allow 1.2 kB" in write_error(OSError(errno.EDQUOT, "x"), path, 1234).message
    assert "no room for more files" in write_error(OSError(errno.ENOSPC, "x"), path, 0).message
    assert isinstance(write_error(OSError(errno.EFBIG, "x"), path, 5), DoesNotFit)
    refused = write_error(OSError(errno.EACCES, "Permission denied"), path, 5)
    assert refused.message == f"{path} could not be written: permission denied."
    assert refused.exit_code == 7


def test_a_path_below_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RelayError, match="could not be written"):
        publish_text(tmp_path / "file" / "below", "x")


def test_text_that_is_no_unicode_can_be_written(tmp_path: Path) -> None:
    publish_text(tmp_path / "file", "a\udcffé")
    assert (tmp_path / "file").read_bytes() == b"a\\udcff\xc3\xa9"


def test_files_get_the_users_own_mode(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        publish_bytes(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_the_sweep_takes_only_the_dead(tmp_path: Path) -> None:
    machine, pid, start = own_mark().split("-")
    dead, other = f"{machine}-{pid}-{int(start) + 1}", f"{'0' * 8}-1-2"
    mine = temporary_path(tmp_path, ".mp4")
    fresh, old = tmp_path / f".relay-{other}-00000000.tmp", tmp_path / f".relay-{other}-00000001.tmp"
    kept = [mine, fresh, tmp_path / "clip.mp4", tmp_path / f"x.relay-{dead}-00000000.tmp", tmp_path / ".relay-1.tmp"]
    swept = [old, tmp_path / f".relay-{dead}-0a0b0c0d.tmp", tmp_path / f".relay-{dead}-0a0b0c0d.mp4"]
    for path in [*kept, *swept]:
        path.touch()
    folder = tmp_path / f".relay-{dead}-0a0b0c0d"
    (folder / "logs").mkdir(parents=True)
    link = tmp_path / f".relay-{dead}-0a0b0c0e.tmp"
    link.symlink_to(tmp_path / "clip.mp4")
    os.utime(old, (0, 0))
    assert sweep(tmp_path) == len(swept) + 2
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    assert sweep(tmp_path / "absent") == 0


def test_setting_aside_keeps_every_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    asides = []
    for content in (b"one", b"two"):
        path.write_bytes(content)
        asides.append(set_aside(path))
        assert not path.exists()
    assert [aside.read_bytes() for aside in asides] == [b"one", b"two"]
    assert all(aside.name.startswith("file.") and aside.suffix == ".corrupt" for aside in asides)
    assert not set_aside(path).exists(), "another process was quicker"


def test_setting_aside_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(RelayError, match="could not be set aside: permission denied"):
        set_aside(tmp_path / "file")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (26_085_417_216, "26.1 GB")],
)
def test_sizes_in_words(count: int, text: str) -> None:
    assert durable.size_text(count) == text
