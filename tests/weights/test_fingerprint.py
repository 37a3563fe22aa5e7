"""Fingerprints: the same content has the same, other content another; and the memo never lies."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import weights.fingerprint
from tests.weights.sparse import pack, write_sparse
from weights.errors import WeightsError
from weights.fingerprint import SAMPLE_BYTES, SAMPLES, fingerprint, unchanged
from weights.header import read_header

LARGE = SAMPLES * SAMPLE_BYTES * 3
OLD = 1_600_000_000


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A sparse safetensors file that is sampled, not hashed whole."""
    return write_sparse(tmp_path / "large", {"a": ("U8", (1000,)), "b": ("U8", (LARGE,))}, {"x": "1"})


def poke(path: Path, at: int, byte: bytes = b"\x01") -> None:
    with open(path, "r+b") as file:
        file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        file.write(byte)


def settle(path: Path) -> None:
    """As if the file had been written long ago, as far as that can be pretended."""
    os.utime(path, (OLD, OLD))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour later: nothing is too fresh for the memo."""
    now = weights.fingerprint.time.time_ns
    monkeypatch.setattr("weights.fingerprint.time.time_ns", lambda: now() + 3600 * 10**9)


def test_content_alone_counts(large: Path, tmp_path: Path) -> None:
    first = fingerprint(large)
    assert len(first) == 64
    assert int(first, 16) >= 0
    copy = write_sparse(
        tmp_path / "elsewhere" / "other-name", {"a": ("U8", (1000,)), "b": ("U8", (LARGE,))}, {"x": "1"}
    )
    assert fingerprint(copy) == first
    settle(large)
    os.link(large, tmp_path / "link")
    assert fingerprint(large) == first == fingerprint(tmp_path / "link")


def test_header_size_and_samples_count(large: Path, tmp_path: Path) -> None:
    seen = {fingerprint(large)}
    others = [
        ({"a": ("U8", (1000,)), "b": ("U8", (LARGE,))}, {"x": "2"}),
        ({"a": ("U8", (1000,)), "c": ("U8", (LARGE,))}, {"x": "1"}),
        ({"a": ("U8", (1000,)), "b": ("U8", (LARGE + 1,))}, {"x": "1"}),
        ({"a": ("U8", (999,)), "b": ("U8", (LARGE + 1,))}, {"x": "1"}),
    ]
    for tensors, metadata in others:
        seen.add(fingerprint(write_sparse(tmp_path / "other", tensors, metadata)))
    for at in (9, read_header(large).header_size, read_header(large).header_size + 500_000, -1, -SAMPLE_BYTES):
        poke(large, at)
        seen.add(fingerprint(large))
    assert len(seen) == 10


def test_no_two_samples_leave_more_than_their_share_unseen(large: Path) -> None:
    """4 MiB in a row are always noticed: the gaps are smaller."""
    seen = {fingerprint(large)}
    places = range(0, large.stat().st_size - (4 << 20), 17 << 20)
    for start in places:
        poke(large, start, b"\x01" * (4 << 20))
        seen.add(fingerprint(large))
    assert len(seen) == 1 + len(places)


def test_the_size_of_any_large_file_counts(tmp_path: Path) -> None:
    seen = set()
    for size in (LARGE, LARGE + 1, 2 * LARGE):
        with open(tmp_path / "zeros", "wb") as file:
            file.truncate(size)
        seen.add(fingerprint(tmp_path / "zeros"))
    assert len(seen) == 3


def test_every_byte_of_a_small_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "small"
    content = pack({"a": {"dtype": "U8", "shape": [200], "data_offsets": [0, 200]}}, bytes(200))
    seen = set()
    for at in range(0, len(content), 7):
        path.write_bytes(content[:at] + b"\xaa" + content[at + 1 :])
        seen.add(fingerprint(path))
    assert len(seen) == len(range(0, len(content), 7))
    for text in ("", "a", "aa"):
        path.write_text(text)
        seen.add(fingerprint(path))
    assert len(seen) == len(range(0, len(content), 7)) + 3


def test_a_file_in_a_hugging_face_cache(large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs, snapshot = tmp_path / "m" / "blobs", tmp_path / "m" / "snapshots" / "1"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    os.link(large, blobs / ("ab" * 32))
    (snapshot / "x.safetensors").symlink_to("../../blobs/" + "ab" * 32)
    monkeypatch.setattr("weights.fingerprint._parts", None)  # no sample is read
    first = fingerprint(snapshot / "x.safetensors")
    os.rename(blobs / ("ab" * 32), blobs / ("cd" * 32))
    (snapshot / "x.safetensors").unlink()
    (snapshot / "x.safetensors").symlink_to("../../blobs/" + "cd" * 32)
    assert fingerprint(snapshot / "x.safetensors") != first
    # Someone writes through the link: the name stays, the header changes.
    second = fingerprint(snapshot / "x.safetensors")
    poke(blobs / ("cd" * 32), 9)
    assert fingerprint(snapshot / "x.safetensors") != second


@pytest.mark.usefixtures("clock")
def test_a_cached_file_has_one_fingerprint_whatever_was_hashed_before(large: Path, tmp_path: Path) -> None:
    """Its blob by its own name is the same file, and has another."""
    blob = tmp_path / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    os.link(large, blob)
    (tmp_path / "x.safetensors").symlink_to(blob)
    expected = fingerprint(tmp_path / "x.safetensors"), fingerprint(blob)
    for number, order in enumerate([(0, 1), (1, 0)]):
        memo, paths = tmp_path / f"memo {number}", (tmp_path / "x.safetensors", blob)
        found = {index: fingerprint(paths[index], memo) for index in order}
        assert (found[0], found[1]) == expected


@pytest.mark.usefixtures("clock")
def test_the_memo_saves_reading(large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memo = tmp_path / "home" / "fingerprints.json"
    first = fingerprint(large, memo)
    with monkeypatch.context() as patch:
        patch.setattr("weights.fingerprint._update", None)
        assert fingerprint(large, memo) == first
    assert [path.name for path in memo.parent.iterdir()] == [memo.name]
    poke(large, -1)
    assert fingerprint(large, memo) != first


@pytest.mark.usefixtures("clock")
def test_touching_replacing_and_copying_is_noticed(large: Path, tmp_path: Path) -> None:
    memo = tmp_path / "memo"
    first = fingerprint(large, memo)
    # The same size and the same times, set back by hand: the change time tells.
    status = large.stat()
    poke(large, -1)
    os.utime(large, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert large.stat().st_mtime_ns == status.st_mtime_ns
    assert fingerprint(large, memo) != first
    other = write_sparse(tmp_path / "other", {"a": ("U8", (1000,)), "b": ("U8", (LARGE,))}, {"x": "1"})
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, large)
    assert fingerprint(large, memo) == first


def test_a_fresh_file_is_not_memoised(tmp_path: Path) -> None:
    path, memo = write_sparse(tmp_path / "x", {"a": ("U8", (10,))}), tmp_path / "memo"
    fingerprint(path, memo)
    assert not memo.exists()


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("damage", ["garbage", "cut", "flipped", "huge", "folder", "spliced"])
def test_a_damaged_memo_costs_time_only(tmp_path: Path, damage: str) -> None:
    one, two = (write_sparse(tmp_path / name, {name: ("U8", (10,))}) for name in "xy")
    memo = tmp_path / "memo"
    expected = fingerprint(one), fingerprint(two)
    assert (fingerprint(one, memo), fingerprint(two, memo)) == expected
    content = memo.read_bytes()
    lines = content.splitlines()
    assert len(lines) == 2
    if damage == "garbage":
        memo.write_bytes(os.urandom(3000))
    elif damage == "cut":
        memo.write_bytes(content[: len(content) - 40])
    elif damage == "flipped":
        memo.write_bytes(content.replace(b"0", b"1"))
    elif damage == "huge":
        memo.write_bytes(b"x" * (3 << 20))
    elif damage == "folder":
        memo.unlink()
        memo.mkdir()
    else:  # the key of one with the value of the other
        memo.write_bytes(b" ".join([lines[0].split()[0], *lines[1].split()[1:]]) + b"\n")
    assert (fingerprint(one, memo), fingerprint(two, memo)) == expected
    assert (fingerprint(one, memo), fingerprint(two, memo)) == expected
    if damage == "huge":
        assert memo.stat().st_size < 1000


@pytest.mark.usefixtures("clock")
def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    memo = tmp_path / "memo"
    paths = [write_sparse(tmp_path / f"f{n}", {f"t{n}": ("U8", (n + 1,))}) for n in range(40)]
    threads = [threading.Thread(target=lambda some=paths[n::4]: [fingerprint(p, memo) for p in some]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(weights.fingerprint._read_memo(memo)) == 40


def test_a_memo_that_cannot_be_written(tmp_path: Path) -> None:
    path = write_sparse(tmp_path / "x", {"a": ("U8", (10,))})
    settle(path)
    assert fingerprint(path, tmp_path / "x" / "memo") == fingerprint(path)


def test_a_text_encoder_is_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "gemma"
    for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        write_sparse(folder / name, {name: ("U8", (10,))})
    (folder / "config.json").write_text("{}")
    seen = [fingerprint(folder)]
    (folder / "README.md").write_text("about")
    assert fingerprint(folder) == seen[0]
    for name, text in (
        ("config.json", "{ }"),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", "[]"),
        ("tokenizer.model", "x"),
    ):
        (folder / name).write_text(text)
        seen.append(fingerprint(folder))
    (folder / "model-00002-of-00002.safetensors").rename(folder / "model-00003-of-00002.safetensors")
    seen.append(fingerprint(folder))
    assert len(set(seen)) == 6
    with pytest.raises(WeightsError, match="holds no weights"):
        fingerprint(tmp_path)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        fingerprint(tmp_path / "absent")


def test_a_file_that_changes_meanwhile(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update = weights.fingerprint._update

    def slow(*arguments: object) -> None:
        poke(large, -1, os.urandom(1))
        os.utime(large)
        update(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("weights.fingerprint._update", slow)
    with pytest.raises(WeightsError, match="changed while it was read"):
        fingerprint(large)


def test_unchanged(tmp_path: Path) -> None:
    path = write_sparse(tmp_path / "x", {"a": ("U8", (10,))})
    settle(path)
    signature = read_header(path).signature
    assert unchanged(path, signature)
    poke(path, -1)
    assert not unchanged(path, signature)
    settle(path)
    assert unchanged(path, signature)
    write_sparse(tmp_path / "y", {"a": ("U8", (10,))})
    settle(tmp_path / "y")
    os.replace(tmp_path / "y", path)
    assert not unchanged(path, signature)
    path.unlink()
    assert not unchanged(path, signature)
