"""Small safetensors files with given values, and selections of them, for tests of reading."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np

from tests.weights.sparse import header_json, pack
from weights.header import read_header
from weights.select import Selection, Stored

_NAMES = {mx.float32: "F32", mx.bfloat16: "BF16", mx.float16: "F16", mx.uint8: "F8_E4M3", mx.uint32: "U32"}
_WORDS = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32}


def write_arrays(path: Path, arrays: dict[str, mx.array]) -> Path:
    """Arrays of any dtype that weights come in; uint8 counts as 8-bit floats."""
    header, _ = header_json({name: (_NAMES[array.dtype], array.shape) for name, array in arrays.items()})
    path.write_bytes(pack(header, b"".join(bytes_of(array) for array in arrays.values())))
    return path


def bytes_of(array: mx.array) -> bytes:
    return np.array(array.view(_WORDS[array.dtype.size])).tobytes() if array.size else b""


def selection_of(path: Path, prefix: str = "", shapes: dict[str, tuple[int, ...]] | None = None) -> Selection:
    """The tensors of a file under a prefix. shapes: of weights that are not stored in their own shape."""
    header = read_header(path)
    tensors = {n.removeprefix(prefix): Stored(path, n, info) for n, info in header.tensors.items() if prefix in n}
    logical = {name: stored.info.shape for name, stored in tensors.items()} | (shapes or {})
    beside = (".scales", ".biases", "_scale")
    needed = {name: shape for name, shape in logical.items() if not name.endswith(beside)}
    return Selection("transformer", path, None, tensors, {path: header.signature}, needed)
