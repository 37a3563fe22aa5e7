"""The header parser: right on real files, and nothing but WeightsError for everything else."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import weights.header
from tests.weights.sparse import header_json, inventory, pack, write_inventory, write_sparse
from weights.errors import WeightsError
from weights.header import DTYPE_BITS, MAX_HEADER, MAX_TENSORS, TensorInfo, read_config, read_header
from weights.header_json import plain, read_json

GOOD = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}


def refused(path: Path, *words: str) -> WeightsError:
    with pytest.raises(WeightsError) as caught:
        read_header(path)
    message = caught.value.message
    assert str(path) in message
    for word in words:
        assert word in message
    return caught.value


def test_reads_names_shapes_offsets_and_metadata(tmp_path: Path) -> None:
    tensors = {"b.weight": ("BF16", (2, 3)), "a": ("F32", ()), "empty": ("F16", (0, 5))}
    path = write_sparse(tmp_path / "x.safetensors", tensors, {"config": '{"z": 1}'})
    header = read_header(path)
    start = header.header_size
    assert dict(header.tensors) == {
        "b.weight": TensorInfo("BF16", (2, 3), start, start + 12),
        "a": TensorInfo("F32", (), start + 12, start + 16),
        "empty": TensorInfo("F16", (0, 5), start + 16, start + 16),
    }
    assert header.file_size == path.stat().st_size == start + 16
    assert header.data_bytes == 16
    assert header.metadata == {"config": '{"z": 1}'}
    assert read_config(header) == {"z": 1}
    assert header.signature.inode == path.stat().st_ino


def test_reads_the_full_size_header(tmp_path: Path) -> None:
    path = write_inventory(tmp_path / "dev.safetensors", "ltx-2-19b-dev")
    header = read_header(path)
    expected = inventory("ltx-2-19b-dev")["tensors"]
    assert {name: [info.dtype, list(info.shape)] for name, info in header.tensors.items()} == expected
    assert header.data_bytes == 43_284_455_114
    assert read_config(header)["transformer"]["num_layers"] == 48


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write_sparse(tmp_path / "x", {"a": ("F32", (2,))})
    assert list(read_header(path).tensors) == ["a"]
    write_sparse(tmp_path / "y", {"b": ("F32", (2,))})
    os.replace(tmp_path / "y", path)
    assert list(read_header(path).tensors) == ["b"]


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 20, 60, 70, -1])
def test_truncated(tmp_path: Path, kept: int) -> None:
    whole = pack(GOOD, bytes(24))
    path = tmp_path / "x.safetensors"
    path.write_bytes(whole[:kept])
    error = refused(path)
    if kept >= 20 or kept == -1:
        assert f"truncated: {len(whole[:kept]):,} of" in error.message
        assert "fetch it again" in error.advice
    if kept in (70, -1):
        assert f"of {'at least ' if kept == 70 else ''}{len(whole) if kept == -1 else len(whole) - 24:,} bytes" in (
            error.message
        )


def entry(dtype: object = "F32", shape: object = (2, 3), offsets: object = (0, 24)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("header", "word"),
    [
        ({"a": entry(), "b": entry(offsets=[12, 36])}, "overlaps"),
        ({"a": entry(), "b": entry()}, "overlaps"),
        ({"a": entry(offsets=[4, 28])}, "gap after the header"),
        ({"a": entry(), "b": entry(offsets=[28, 52])}, "b leaves a gap after a"),
        ({"a": entry(offsets=[24, 0])}, "data_offsets"),
        ({"a": entry(offsets=[-24, 0])}, "data_offsets"),
        ({"a": entry(offsets=[0, 24.0])}, "data_offsets"),
        ({"a": entry(offsets=[0])}, "data_offsets"),
        ({"a": entry(offsets=[0, 24, 24])}, "data_offsets"),
        ({"a": entry(offsets={"0": 24})}, "data_offsets"),
        ({"a": entry(offsets=[0, 10**30])}, "data_offsets"),
        ({"a": entry(offsets=[0, 23])}, "23 bytes"),
        ({"a": entry(offsets=[0, 28])}, "28 bytes"),
        ({"a": entry(shape=[3, 3])}, "takes 36"),
        ({"a": entry(shape=[-2, -3])}, "shape"),
        ({"a": entry(shape=[2**31, 0], offsets=[0, 0])}, "shape"),
        ({"a": entry(shape=[True, 6])}, "shape"),
        ({"a": entry(shape=[2.0, 3])}, "shape"),
        ({"a": entry(shape=None)}, "shape"),
        ({"a": entry(shape="6")}, "shape"),
        ({"a": entry(shape=[1] * 17)}, "shape"),
        ({"a": entry(shape=[2**31 - 1] * 16)}, "bytes"),
        ({"a": entry(dtype="F33")}, "unknown dtype F33"),
        ({"a": entry(dtype=["F32"])}, "unknown dtype"),
        ({"a": entry(dtype="F4", shape=[3], offsets=[0, 1])}, "takes 1.5"),
        ({"a": {"dtype": "F32", "shape": [2, 3]}}, "entry of a"),
        ({"a": {**entry(), "more": 1}}, "entry of a"),
        ({"a": [0, 24]}, "entry of a"),
        ({"": entry()}, "is named"),
        ({"a\n\x1b[2Jb": entry()}, "is named"),
        ({"a" * 501: entry()}, "is named"),
        ({"__metadata__": {"config": {"a": 1}}, **GOOD}, "__metadata__"),
        ({"__metadata__": {"config": None}, **GOOD}, "__metadata__"),
        ({"__metadata__": ["config"], **GOOD}, "__metadata__"),
        ('{"a": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}, "a": 1}', "a is there twice"),
        ('{"a": {"dtype": "F32", "shape": [6], "shape": [6], "data_offsets": [0, 24]}}', "shape is there twice"),
        ('{"__metadata__": {}, "__metadata__": {}}', "__metadata__ is there twice"),
        ('{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 24]}}', "NaN"),
        ('{"a": {"dtype": "F32", "shape": [Infinity], "data_offsets": [0, 24]}}', "Infinity"),
        ('{"a": ' + "9" * 5000 + "}", "cannot be read"),
        ('{"a": 1e999}', "entry of a"),
        ('{"\\ud800": 1}', "not Unicode"),
        ('{"__metadata__": {"x": "\\udfff"}}', "not Unicode"),
        (b'{"a\xff": 1}', "UTF-8"),
        ('{"a":' + "[" * 100_000, "nested"),
        ('{"a":' * 100_000, "nested"),
        ("{]", "cannot be read"),
        ('{"a": 1} trailing', "cannot be read"),
        ("{" + " " * 1000, "cannot be read"),
    ],
)
def test_a_damaged_header_is_refused(tmp_path: Path, header: object, word: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(pack(header, bytes(60)))
    refused(path, "header of", "damaged", word)


def test_trailing_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(pack(GOOD, bytes(25)))
    refused(path, "1 bytes follow its last tensor")


def test_too_many_tensors_are_refused_before_they_are_parsed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    row = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    path.write_bytes(pack({str(index): row for index in range(MAX_TENSORS + 1)}))
    refused(path, "limit is 50,000")
    path.write_bytes(pack('{"a": [' + "[]," * 13 * MAX_TENSORS))
    refused(path, "too many entries")


def test_the_length_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for length in (MAX_HEADER + 1, 2**63, 2**64 - 1):
        path.write_bytes(struct.pack("<Q", length) + b"{" + bytes(100))
        refused(path, "no safetensors file")
    path.write_bytes(struct.pack("<Q", MAX_HEADER) + b"{" + bytes(100))
    refused(path, "truncated: 109 of at least 100,000,008 bytes")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 43\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
        (b"\n\n  <html><body>404</body></html>", "a web page"),
        (b'{"error": "Access to this model is restricted"}', "a JSON text"),
        (b"GGUF\x03\x00\x00\x00" + bytes(50), "a GGUF file"),
        (b"PK\x03\x04\x14\x00\x08\x08" + bytes(50), "a zip archive"),
        (b"\x80\x02}q\x00(X\x05\x00\x00" + bytes(50), "a PyTorch pickle"),
        ("Zugriff verweigert: größer\n".encode() * 30, "a text"),
        (b"hello", "a text"),
        (os.urandom(16) + b"\x00\xff" * 50, "no safetensors file"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    refused(path, f"is {words}")


def test_what_is_no_readable_file(tmp_path: Path) -> None:
    refused(tmp_path / "absent", "does not exist")
    refused(tmp_path, "is a folder")
    os.symlink(tmp_path / "nowhere", tmp_path / "link")
    refused(tmp_path / "link", "link to a file that does not exist")
    os.symlink(tmp_path / "loop", tmp_path / "loop")
    refused(tmp_path / "loop", "cannot be read")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "not a regular file")
    (tmp_path / "empty").touch()
    refused(tmp_path / "empty", "is empty")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_header("a\0b")


@pytest.mark.parametrize("text", [None, "[1]", "{", "[" * 100_000, "NaN", '{"a": 1, "a": 2}'])
def test_a_bad_config_is_refused(tmp_path: Path, text: str | None) -> None:
    path = write_sparse(tmp_path / "x", {}, {} if text is None else {"config": text})
    with pytest.raises(WeightsError, match="config"):
        read_config(read_header(path))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"{}" + b" " * 100, "larger than 100 bytes"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b"[]", "no JSON object"),
        (b'{"a": 1, "a": 2}', "a is there twice"),
        (b"<html>", "cannot be read"),
        (None, "does not exist"),
    ],
)
def test_a_bad_json_file_is_refused(tmp_path: Path, content: bytes | None, word: str) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=word) as caught:
        read_json(path, max_bytes=100)
    assert str(path) in caught.value.message


def test_names_are_printed_safely() -> None:
    assert plain("a.b") == "a.b"
    assert plain("a\x1b]0;x\x07\ud800").isprintable()
    assert len(plain("\U0010ffff" * 1000)) == 100


names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20)
shapes = st.lists(st.integers(0, 5), max_size=5)
simple = st.dictionaries(names, st.tuples(st.sampled_from(["F32", "BF16", "F16", "U8"]), shapes), max_size=8)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tensors=simple, metadata=st.dictionaries(st.text(st.characters(codec="utf-8")), st.text(max_size=20)))
@example(tensors={}, metadata={})
def test_what_was_written_is_read(tmp_path: Path, tensors: dict, metadata: dict) -> None:
    tensors.pop("__metadata__", None)
    header = read_header(write_sparse(tmp_path / "x.safetensors", tensors, metadata))
    assert {name: (info.dtype, list(info.shape)) for name, info in header.tensors.items()} == tensors
    assert header.metadata == metadata
    assert sum(info.nbytes for info in header.tensors.values()) == header.data_bytes


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
near_misses = st.dictionaries(
    st.sampled_from(["a", "b", "c", "__metadata__"]),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(sorted(DTYPE_BITS)) | json_values,
            "shape": st.lists(st.integers(-1, 9), max_size=4) | json_values,
            "data_offsets": st.lists(st.integers(-1, 80), min_size=2, max_size=2) | json_values,
        }
    )
    | json_values,
    max_size=4,
)


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=near_misses, size=st.integers(0, 80))
def test_any_header_is_read_or_refused(tmp_path: Path, header: object, size: int) -> None:
    check_accepted_only_if_sound(tmp_path / "x.safetensors", pack(header, bytes(size)))


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_mutation_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    tensors = {"a.weight": ("F32", (2, 2)), "b": ("BF16", (3,)), "c": ("F16", (1, 1))}
    header, size = header_json(tensors, {"config": "{}"})
    content = bytearray(pack(header, bytes(size)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        byte = data.draw(st.sampled_from(b'0123456789"[]{},:\\-.eE \x00\xff') | st.integers(0, 255))
        if data.draw(st.booleans()):
            content[at] = byte
        elif data.draw(st.booleans()):
            content.insert(at, byte)
        else:
            del content[at:]
            content.append(byte)
    check_accepted_only_if_sound(tmp_path / "x.safetensors", bytes(content))


def check_accepted_only_if_sound(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    weights.header._read.cache_clear()  # rewritten within one tick of the clock
    try:
        header = read_header(path)
    except WeightsError as error:
        message = error.message
    else:
        message = ""
    if message:
        assert str(path) in message
        assert message.replace(str(path), "").isprintable()
        return
    assert header.file_size == len(content)
    position = header.header_size
    assert position == 8 + int.from_bytes(content[:8], "little")
    for info in header.tensors.values():
        elements = 1
        for dim in info.shape:
            elements *= dim
        assert info.start == position
        assert info.nbytes * 8 == elements * DTYPE_BITS[info.dtype]
        position = info.end
    assert position == len(content)
    json.loads(content[8 : header.header_size])
