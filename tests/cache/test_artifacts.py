"""Artifacts: what was written comes back bit for bit, and nothing else ever does."""

from __future__ import annotations

import math
import os
import random
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache.artifacts import FORMAT, ITEM_BYTES, Tensor, digest, find, publish, read, serialize
from cache.durable import sweep
from cache.keys import canonical_json
from weights.errors import ArtifactError, DoesNotFit

METADATA = {
    "key": "0123abcd",
    "stage": "text",
    "about": canonical_json({"prompt": "Bälle\n", "cfg": 5.0}),
    "x": "\x1f\\",
}
SMALL = {
    "video": Tensor("BF16", (1, 2, 3), bytes(range(12))),
    "mask": Tensor("U8", (5,), b"\x01\x00\x01\x00\x01"),
    "scale": Tensor("F32", (), struct.pack("<f", 0.5)),
}


def joined(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    return b"".join(serialize(tensors, metadata))


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(sorted(ITEM_BYTES)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    size = math.prod(shape) * ITEM_BYTES[dtype]
    return Tensor(dtype, shape, draw(st.binary(min_size=size, max_size=size)))


NAMES = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20).filter("__metadata__".__ne__)
TEXTS = st.dictionaries(st.text(max_size=10), st.text(max_size=30), max_size=4)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(NAMES, tensors(), max_size=4), TEXTS)
def test_round_trip(tmp_path: Path, content: dict[str, Tensor], metadata: dict[str, str]) -> None:
    path = tmp_path / "artifact.safetensors"
    assert publish(path, content, metadata) == path.stat().st_size
    artifact = read(path)
    assert artifact.tensors == content
    assert artifact.sha256 == digest(content) == artifact.metadata["sha256"]
    for name in metadata.keys() - {"format", "sha256", "seal"}:
        assert artifact.metadata[name] == metadata[name]
    assert artifact.metadata["format"] == FORMAT
    assert sorted(os.listdir(tmp_path)) == ["artifact.safetensors"]


@settings(max_examples=50)
@given(st.dictionaries(NAMES, tensors(), max_size=4))
def test_the_library_reads_the_same(content: dict[str, Tensor]) -> None:
    found = dict(safetensors.deserialize(joined(content, METADATA)))
    assert {name: (entry["dtype"], tuple(entry["shape"]), bytes(entry["data"])) for name, entry in found.items()} == {
        name: (tensor.dtype, tensor.shape, bytes(tensor.data)) for name, tensor in content.items()
    }


def test_the_same_content_is_the_same_file_whatever_its_order() -> None:
    backwards = dict(reversed(SMALL.items()))
    assert joined(backwards, dict(reversed(METADATA.items()))) == joined(SMALL, METADATA)


def test_tensors_are_aligned_to_their_elements(tmp_path: Path) -> None:
    raw = joined({"a": Tensor("U8", (3,), b"abc"), "b": Tensor("F64", (1,), bytes(8)), **SMALL}, {})
    header = 8 + int.from_bytes(raw[:8], "little")
    assert header % 8 == 0
    assert raw[header : header + 8] == bytes(8), "the widest comes first"


def test_the_digest_is_over_name_dtype_shape_and_bytes() -> None:
    base = {"a": Tensor("F32", (2, 1), bytes(8)), "b": Tensor("U8", (0,), b"")}
    others = [
        {"c": base["a"], "b": base["b"]},
        {"a": Tensor("I32", (2, 1), bytes(8)), "b": base["b"]},
        {"a": Tensor("F32", (1, 2), bytes(8)), "b": base["b"]},
        {"a": Tensor("F32", (2, 1), bytes(7) + b"\x01"), "b": base["b"]},
        {"a": base["a"]},
        {"a": base["a"], "b": Tensor("U8", (0, 1), b"")},
    ]
    assert len({digest(base), *map(digest, others)}) == 7
    assert digest(dict(reversed(base.items()))) == digest(base)


def test_known_digest() -> None:
    # sha256(b'["x","U8",[2]]\nhi'): the definition, for who verifies an artifact with other tools.
    assert digest({"x": Tensor("U8", (2,), b"hi")}) == (
        "8a671c2f0185a8b5b39f46e745757d53f41eb6f3413ef8ddb578b16a324ff50f"
    )


@pytest.mark.parametrize("array", [np.zeros((0, 3), np.float32), np.float32(3), np.arange(6.0).reshape(2, 3)])
def test_arrays_are_taken_as_buffers(tmp_path: Path, array: Any) -> None:
    dtype = {"float32": "F32", "float64": "F64"}[str(array.dtype)]
    path = tmp_path / "artifact"
    publish(path, {"x": Tensor(dtype, array.shape, memoryview(array))}, {})
    tensor = read(path).tensors["x"]
    assert np.array_equal(np.frombuffer(tensor.data, array.dtype).reshape(tensor.shape), array)


@pytest.mark.parametrize(
    ("dtype", "shape", "size"), [("F32", (2,), 7), ("F31", (1,), 4), ("F4", (2,), 1), ("U8", (-1, -1), 1)]
)
def test_a_tensor_that_contradicts_itself_is_a_mistake_of_ours(dtype: str, shape: tuple[int, ...], size: int) -> None:
    with pytest.raises(ValueError, match=r"takes|no dtype"):
        Tensor(dtype, shape, bytes(size))


def test_mistakes_in_a_call_are_errors_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="must be text"):
        publish(tmp_path / "a", SMALL, {"step": 3})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="named"):
        publish(tmp_path / "a", {"__metadata__": SMALL["mask"]}, {})
    assert list(tmp_path.iterdir()) == []


def damaged_copies(raw: bytes) -> dict[str, bytes]:
    """Every single flipped bit of a small file."""
    copies = {}
    for position in range(len(raw)):
        for bit in range(8):
            flipped = bytearray(raw)
            flipped[position] ^= 1 << bit
            copies[f"bit {bit} of byte {position}"] = bytes(flipped)
    return copies


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path, raw = tmp_path / "artifact", joined(SMALL, METADATA)
    for where, copy in damaged_copies(raw).items():
        path.write_bytes(copy)
        try:
            read(path)
        except ArtifactError:
            continue
        pytest.fail(f"{where} was not noticed")


def test_flips_in_a_larger_artifact_are_found(tmp_path: Path) -> None:
    path, random_bytes = tmp_path / "artifact", random.Random(0)
    content = {"video": Tensor("BF16", (1, 128, 4, 8, 11), random_bytes.randbytes(128 * 4 * 8 * 11 * 2))}
    raw = joined(content, METADATA)
    for _ in range(100):
        copy = bytearray(raw)
        copy[random_bytes.randrange(len(raw))] ^= 1 << random_bytes.randrange(8)
        path.write_bytes(copy)
        with pytest.raises(ArtifactError):
            read(path)


def test_every_truncation_and_every_addition_is_found(tmp_path: Path) -> None:
    path, raw = tmp_path / "artifact", joined(SMALL, METADATA)
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        with pytest.raises(ArtifactError):
            read(path)
    for more in (b"\0", raw):
        path.write_bytes(raw + more)
        with pytest.raises(ArtifactError):
            read(path)
    path.write_bytes(raw)
    read(path)


def test_a_header_in_another_form_is_refused(tmp_path: Path) -> None:
    """The same meaning, so no hash can tell; but we did not write it."""
    path, raw = tmp_path / "artifact", joined(SMALL, METADATA)
    length = int.from_bytes(raw[:8], "little")
    text, data = raw[8 : 8 + length], raw[8 + length :]
    for other in (text + b" " * 8, text.replace(b'"dtype":', b'"dtype": '), text.replace(rb"\u001f", rb"\u001F")):
        assert other != text
        path.write_bytes(len(other).to_bytes(8, "little") + other + data)
        with pytest.raises(ArtifactError, match="header"):
            read(path)


def test_zeros_instead_of_the_end_are_found(tmp_path: Path) -> None:
    """What some file systems leave after a power cut: the right size, and no data."""
    path, raw = tmp_path / "artifact", joined(SMALL, METADATA)
    for length in range(0, len(raw) - 1, 37):
        path.write_bytes(raw[:length].ljust(len(raw), b"\0"))
        with pytest.raises(ArtifactError):
            read(path)


def test_another_artifact_is_refused_by_key_and_stage(tmp_path: Path) -> None:
    path = tmp_path / "artifact"
    publish(path, SMALL, METADATA)
    read(path, key="0123abcd", stage="text")
    with pytest.raises(ArtifactError, match="its key is '0123abcd', not 'ffff'"):
        read(path, key="ffff")
    with pytest.raises(ArtifactError, match="its stage is 'text', not 'stage1'"):
        read(path, stage="stage1")
    publish(path, SMALL, {})
    with pytest.raises(ArtifactError, match="key is None"):
        read(path, key="0123abcd")


def test_foreign_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "artifact"
    foreign = joined(SMALL, METADATA).replace(b"ltx-relay/1", b"ltx-relay/2")
    path.write_bytes(foreign)
    with pytest.raises(ArtifactError, match="another version"):
        read(path)
    path.write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(ArtifactError, match="is no artifact"):
        read(path)
    for raw in (b"", b"\x80\x02pickle", b"\xff" * 100, (10**15).to_bytes(8, "little") + b"{}"):
        path.write_bytes(raw)
        with pytest.raises(ArtifactError):
            read(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        read(tmp_path / "absent")
    with pytest.raises(ArtifactError, match="not a file"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactError, match="not a file"):
        read(tmp_path / "pipe")
    with pytest.raises(ArtifactError):
        read(Path("nul\0l"))


def test_an_unreadable_file_is_an_artifact_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "artifact"
    publish(path, SMALL, METADATA)

    def refuse(*arguments: Any, **named: Any) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ArtifactError, match="input/output error"):
        read(path)


def test_find_sets_a_damaged_one_aside_and_tells(tmp_path: Path) -> None:
    path, told = tmp_path / "artifact", list[str]()
    assert find(path, key="0123abcd", stage="text", on_damage=told.append) is None
    assert told == []
    publish(path, SMALL, METADATA)
    found = find(path, key="0123abcd", stage="text", on_damage=told.append)
    assert found is not None
    assert found.tensors == SMALL
    path.write_bytes(path.read_bytes()[:-1])
    assert find(path, key="0123abcd", stage="text", on_damage=told.append) is None
    assert len(told) == 1
    assert "truncated" in told[0]
    assert [entry.suffix for entry in tmp_path.iterdir()] == [".corrupt"]


def test_replacing_one_while_it_is_read_gives_one_of_both(tmp_path: Path) -> None:
    """Readers beside a writer of the same path: always a whole artifact, never an error."""
    path = tmp_path / "artifact"
    versions = [{"x": Tensor("U8", (1000 + n,), bytes([n]) * (1000 + n))} for n in range(4)]
    publish(path, versions[0], METADATA)
    child = os.fork()
    if child == 0:
        try:
            for n in range(400):
                publish(path, versions[n % 4], METADATA)
        finally:
            os._exit(0)
    seen, done = set(), False
    while not done:
        done = os.waitpid(child, os.WNOHANG)[0] != 0
        seen.add(read(path).sha256)
    assert seen <= {digest(version) for version in versions}
    assert len(seen) > 1


def test_four_writers_of_one_path_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "objects" / "aa" / "artifact"
    versions = [{"x": Tensor("U8", (2000 + n,), bytes([n]) * (2000 + n))} for n in range(4)]
    children = []
    for version in versions:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for _ in range(50):
                    publish(path, version, METADATA)
                    read(path)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0, 0]
    assert read(path).sha256 in map(digest, versions)
    assert [entry.name for entry in path.parent.iterdir()] == ["artifact"]


def test_a_kill_anywhere_leaves_a_whole_artifact_or_none(
    tmp_path: Path, everywhere: Callable[..., int], leftovers: Callable[[Path], list[Path]]
) -> None:
    path = tmp_path / "objects" / "ab" / "artifact"

    def check(where: str) -> None:
        if path.exists():
            assert read(path).tensors == SMALL, where
        sweep(path.parent)
        assert leftovers(tmp_path) == [], where
        publish(path, SMALL, METADATA)  # and the next run does it

    def prepare() -> None:
        path.unlink(missing_ok=True)

    assert everywhere(lambda: publish(path, SMALL, METADATA), check, prepare) >= 30


def test_a_full_disk(small_disk: Path) -> None:
    path = small_disk / "objects" / "aa" / "artifact"
    with pytest.raises(DoesNotFit, match=r"needs 2\.0 MB; .* too little"):
        publish(path, {"x": Tensor("F32", (500_000,), bytes(2_000_000))}, METADATA)
    assert list(path.parent.iterdir()) == []
    publish(path, SMALL, METADATA)
    read(path)
