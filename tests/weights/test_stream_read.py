"""A reading is of one file: one that is written while it is read is noticed, also when all its bytes came."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from weights.errors import WeightsError
from weights.header import Signature, TensorInfo
from weights.select import Stored
from weights.stream_read import ByteReader, Target


def target(path: Path, size: int) -> Target:
    return Target(Stored(path, "a", TensorInfo("U8", (size,), 0, size)), memoryview(bytearray(size)))


def signatures(path: Path) -> dict[Path, Signature]:
    return {path: Signature.of(os.stat(path))}


def test_a_file_that_is_written_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a" * 1000)

    def written(read: Path, size: int) -> None:
        assert (read, size) == (path, 1000)
        os.utime(path, ns=(1, 1))

    reader = ByteReader(signatures(path), on_read=written)
    try:
        with pytest.raises(WeightsError, match="changed"):
            reader.start([target(path, 1000)]).wait()
    finally:
        reader.close()


def test_a_file_that_is_another_already(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a" * 1000)
    known = signatures(path)
    os.utime(path, ns=(1, 1))
    reader = ByteReader(known)
    try:
        with pytest.raises(WeightsError, match="changed"):
            reader.start([target(path, 1000)])
    finally:
        reader.close()


def test_a_file_that_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(range(250)) * 4)
    reader, wanted = ByteReader(signatures(path)), target(path, 1000)
    try:
        reader.start([wanted]).wait()
    finally:
        reader.close()
    assert bytes(wanted.memory) == path.read_bytes()
