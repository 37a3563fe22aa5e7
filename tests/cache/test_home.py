"""The home: where it is, what is made, and every way in which it cannot be used."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cache.durable import publish_text
from cache.home import FORMAT, Home, home_folder, open_home, sweep_home
from cache.processes import own_mark
from weights.errors import DoesNotFit, UsageError

KEY = "ab" * 32


def test_where_the_home_is(tmp_path: Path) -> None:
    assert home_folder({"HOME": "/users/ann"}) == Path("/users/ann/.cache/ltx-relay")
    assert home_folder({"HOME": "/users/ann", "LTX_RELAY_HOME": ""}) == Path("/users/ann/.cache/ltx-relay")
    assert home_folder({"HOME": "/users/ann", "LTX_RELAY_HOME": "/big/disk"}) == Path("/big/disk")
    assert home_folder({"HOME": "/users/ann", "LTX_RELAY_HOME": "~/videos"}) == Path("/users/ann/videos")
    assert home_folder({"LTX_RELAY_HOME": "here"}) == Path.cwd() / "here"


def test_no_home_folder_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(UsageError, match="no home folder"):
        home_folder({})
    assert home_folder({"LTX_RELAY_HOME": "/big"}) == Path("/big")


def test_the_paths() -> None:
    home = Home(Path("/h"))
    assert home.object_path(KEY) == Path(f"/h/objects/ab/{KEY}.safetensors")
    assert home.object_path(KEY, ".mp4") == Path(f"/h/objects/ab/{KEY}.mp4")
    assert home.partial_path(KEY) == Path(f"/h/partial/{KEY}.safetensors")
    assert home.run_folder("20261122-1") == Path("/h/runs/20261122-1")
    assert home.lock_path("gpu-0") == Path("/h/locks/gpu-0.lock")


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "a/b", "/etc", "a\0b", ".hidden", "-rf", "a b", "ä", "x" * 129, "a\n"]
)
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    home = Home(Path("/h"))
    for make in (home.object_path, home.partial_path, home.run_folder, home.lock_path):
        with pytest.raises(UsageError, match="cannot be the name"):
            make(name)
    with pytest.raises(UsageError, match="ending"):
        home.object_path(KEY, "/../x")


def test_a_new_home_is_private_and_complete(tmp_path: Path) -> None:
    home = open_home(tmp_path / "deep" / "home")
    for folder in (home.root, *home.folders):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    assert (home.root / "format").read_text() == f"{FORMAT}\n"
    assert open_home(home.root) == home, "opening it again is fine"
    assert sorted(path.name for path in home.root.iterdir()) == ["format", "locks", "objects", "partial", "runs", "tmp"]
    assert list(home.tmp.iterdir()) == []


def test_a_kill_anywhere_while_it_is_made_is_repaired(tmp_path: Path, everywhere: Callable[..., int]) -> None:
    root, made = tmp_path / "home", [0]

    def prepare() -> None:
        made[0] += 1
        if root.exists():
            root.rename(tmp_path / f"old-{made[0]}")

    def check(where: str) -> None:
        home = open_home(root)
        sweep_home(home)
        assert all(folder.is_dir() for folder in home.folders), where
        assert not [path for path in root.rglob("*") if path.name.startswith(".relay-")], where

    assert everywhere(lambda: open_home(root), check, prepare) >= 40


def test_a_newer_home_is_refused(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    publish_text(tmp_path / "format", f"{FORMAT + 1}\n")
    with pytest.raises(UsageError, match="newer version") as caught:
        open_home(home.root)
    assert caught.value.exit_code == 2
    assert "Update" in caught.value.advice


@pytest.mark.parametrize("content", [b"", b"one", b"\xff\xfe", b"-1", b"1" * 10_000])
def test_a_damaged_marker_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    open_home(tmp_path)
    (tmp_path / "format").write_bytes(content)
    with pytest.raises(UsageError, match="not a number"):
        open_home(tmp_path)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is not a folder"):
        open_home(tmp_path / "file")
    with pytest.raises(UsageError, match="cannot be used"):
        open_home(tmp_path / "file" / "home")
    with pytest.raises(UsageError, match="cannot be used"):
        open_home(Path("nul\0l"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "objects").write_text("x")
    with pytest.raises(UsageError, match="cannot be used: file exists"):
        open_home(tmp_path / "home")


def test_a_read_only_home_is_refused(small_disk: Path) -> None:
    root = small_disk / "home"
    open_home(root)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(UsageError, match="read-only file system") as caught:
        open_home(root)
    assert "LTX_RELAY_HOME" in caught.value.advice
    with pytest.raises(UsageError, match="read-only file system"):
        open_home(small_disk / "other")


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.EACCES, UsageError), (errno.EROFS, UsageError), (errno.ENOSPC, DoesNotFit)]
)
def test_an_error_anywhere_is_one_in_words(
    tmp_path: Path, watch: Callable[..., Any], code: int, kind: type[Exception]
) -> None:
    """Every call in turn is refused, while a home is made and while one is opened again."""
    state, failures = {"at": 0}, 0

    def action(n: int, name: str, do: Callable[[], Any]) -> Any:
        if n == state["at"] and name not in ("close", "unlink", "fsync"):
            raise OSError(code, os.strerror(code))
        return do()

    calls = watch(action)
    for again in (False, True):
        for at in range(1, 60):
            root = tmp_path / f"{again} {at}"
            state["at"] = 0
            if again:
                open_home(root)
            calls.made.clear()
            state["at"] = at
            try:
                open_home(root)
            except kind:  # type: ignore[misc]
                failures += 1
            if len(calls.made) < at:
                break
    # A folder that cannot be opened for syncing (EACCES) is no failure.
    assert failures >= 8


def test_the_sweep_of_a_home(home: Home) -> None:
    machine, pid, start = own_mark().split("-")
    dead = f".relay-{machine}-{pid}-{int(start) + 1}-00000000.tmp"
    run = home.runs / "20261122-193000-4f2a"
    folders = [*home.folders, home.objects / "ab", run, run / "previews"]
    for folder in folders:
        folder.mkdir(exist_ok=True)
        (folder / dead).touch()
        (folder / "keep").touch()
    assert sweep_home(home) == len(folders)
    assert all([path.name for path in folder.iterdir() if path.is_file()] == ["keep"] for folder in folders)
