"""The header of a safetensors file: the one parser of the project, safe for files from strangers.

Guarantees of a `Header`: every tensor lies inside the file, has a dtype that safetensors knows and exactly the bytes
that its shape needs; the tensors follow each other without gap or overlap up to the end of the file; names are unique,
printable and of sane length; metadata maps strings to strings. Reading costs no more than `MAX_HEADER` bytes and
`MAX_TENSORS` entries, whatever the file claims. Every failure is a WeightsError that names the file.
Not here: the values. A flipped bit inside a tensor is not noticed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from weights.errors import WeightsError
from weights.header_json import MalformedError, no_access, parse_json, plain

MAX_HEADER = 100_000_000
"""Bytes of JSON; the safetensors library's own limit."""
MAX_TENSORS = 50_000
"""The largest official file has 6,404. A tensor of five dimensions takes 12 commas and brackets of JSON."""
_MAX_DIMS = 16
_MAX_DIM = 2**31 - 1
"""MLX holds sizes in 32 bits."""
_MAX_NAME = 500
DTYPE_BITS: Mapping[str, int] = MappingProxyType(
    {
        "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
        "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
        "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64,
    }
)  # fmt: skip
"""Bits per element of every dtype that safetensors 0.8 knows."""


@dataclass(frozen=True)
class Signature:
    """What the operating system says of a file without reading it. It changes when the file is replaced or written."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @staticmethod
    def of(status: os.stat_result) -> Signature:
        return Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class TensorInfo:
    """`shape` as in the file (PyTorch layout); the bytes are `[start, end)` counted from the file's beginning."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Header:
    """`header_size`: where the tensors' bytes begin. `tensors` are in the order in which they lie in the file."""

    path: Path
    file_size: int
    header_size: int
    tensors: Mapping[str, TensorInfo] = field(repr=False)
    metadata: Mapping[str, str] = field(repr=False)
    signature: Signature = field(repr=False)

    @property
    def data_bytes(self) -> int:
        return self.file_size - self.header_size


def read_header(path: Path | str) -> Header:
    """The header of the file at `path`. WeightsError when it is missing, truncated, damaged or no safetensors file."""
    path = Path(path)
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise WeightsError(f"{path} is a folder; a safetensors file is needed here.")
        if not stat.S_ISREG(status.st_mode):
            raise WeightsError(f"{path} is not a regular file.")
        header = _read(path, Signature.of(status))
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise WeightsError(no_access(path, error)) from error
    return header


def read_config(header: Header) -> dict[str, Any]:
    """The JSON object that LTX-2 files carry as `config` in their metadata. WeightsError when there is none."""
    text = header.metadata.get("config")
    if text is None:
        raise WeightsError(
            f"{header.path} carries no `config` in its metadata, so its network cannot be built.",
            advice="Use the official file: conversions by others often drop the metadata.",
        )
    try:
        config = parse_json(text)
    except MalformedError as fault:
        raise WeightsError(f"The `config` in the metadata of {header.path} is damaged: {fault}.") from fault
    if not isinstance(config, dict):
        raise WeightsError(f"The `config` in the metadata of {header.path} is no JSON object.")
    return config


@lru_cache(maxsize=16)
def _read(path: Path, signature: Signature) -> Header:
    """Cached by what identifies the file, since recognising, planning and reading all want the header."""
    with open(path, "rb") as file:
        return read_open_header(file, path)


def read_open_header(file: BinaryIO, path: Path) -> Header:
    """The header of a file that is open at its beginning, never from the cache: for who reads on in the same file.

    `path` is for messages. WeightsError as `read_header`; OSError when reading fails.
    """
    status = os.fstat(file.fileno())
    size = status.st_size
    if size == 0:
        raise WeightsError(f"{path} is empty.", advice="Fetch it again.")
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or size < 10 or length > MAX_HEADER or file.read(1) != b"{":
        raise _not_safetensors(path, start + file.read(4096))
    if 8 + length > size:
        raise _truncated(path, size, f"at least {8 + length:,}")
    raw = b"{" + file.read(length - 1)
    try:
        tensors, metadata = _entries(raw, 8 + length)
    except MalformedError as fault:
        raise WeightsError(
            f"The safetensors header of {path} is damaged: {fault}.", advice="Fetch the file again."
        ) from fault
    end = max((tensor.end for tensor in tensors.values()), default=8 + length)
    if end > size:
        raise _truncated(path, size, f"{end:,}")
    if end < size:
        raise WeightsError(
            f"{path} is damaged: {size - end:,} bytes follow its last tensor.", advice="Fetch the file again."
        )
    return Header(path, size, 8 + length, tensors, metadata, Signature.of(status))


def _entries(raw: bytes, data_start: int) -> tuple[Mapping[str, TensorInfo], Mapping[str, str]]:
    if len(raw) < data_start - 8:
        raise MalformedError("the file ended while it was read")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError("it is not UTF-8") from error
    top = parse_json(text, max_entries=12 * MAX_TENSORS)
    if not isinstance(top, dict):
        raise MalformedError("it is no JSON object")
    metadata = _metadata(top.pop("__metadata__", {}))
    if len(top) > MAX_TENSORS:
        raise MalformedError(f"it names {len(top):,} tensors; the limit is {MAX_TENSORS:,}")
    tensors = {name: _tensor(name, entry, data_start) for name, entry in top.items()}
    ordered = dict(sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)))
    previous, position = "the header", data_start
    for name, tensor in ordered.items():
        if tensor.start != position:
            what = "overlaps" if tensor.start < position else "leaves a gap after"
            raise MalformedError(f"the tensor {plain(name)} {what} {plain(previous)}")
        previous, position = name, tensor.end
    return MappingProxyType(ordered), MappingProxyType(metadata)


_KEYS = frozenset({"dtype", "shape", "data_offsets"})


def _tensor(name: str, entry: Any, data_start: int) -> TensorInfo:
    if not name or len(name) > _MAX_NAME or not name.isprintable():
        raise MalformedError(f"a tensor is named {plain(name)!r}")
    if not isinstance(entry, dict) or entry.keys() != _KEYS:
        raise MalformedError(f"the entry of {plain(name)} is not dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    bits = DTYPE_BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None:
        raise MalformedError(f"{plain(name)} has the unknown dtype {plain(str(dtype))}")
    if not _whole_numbers(shape, _MAX_DIM) or len(shape) > _MAX_DIMS:
        raise MalformedError(f"{plain(name)} has the shape {plain(str(shape))}")
    if not _whole_numbers(offsets, 2**63) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise MalformedError(f"{plain(name)} has the data_offsets {plain(str(offsets))}")
    span, needed = offsets[1] - offsets[0], prod(shape) * bits
    if span * 8 != needed:
        raise MalformedError(f"{plain(name)} has {span:,} bytes, but {dtype} {shape} takes {needed / 8:,.15g}")
    return TensorInfo(dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _whole_numbers(values: Any, limit: int) -> bool:
    if not isinstance(values, list):
        return False
    for value in values:  # noqa: SIM110 -- a loop is faster, and a header has thousands of these lists
        if type(value) is not int or not 0 <= value <= limit:
            return False
    return True


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise MalformedError("its __metadata__ is not made of strings")
    return value


def _truncated(path: Path, size: int, needed: str) -> WeightsError:
    return WeightsError(
        f"{path} is truncated: {size:,} of {needed} bytes.",
        advice="The download was not finished; fetch it again.",
    )


_FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "Run `git lfs pull` in that clone."),
    (b"GGUF", "a GGUF file", "Fetch the safetensors file of the official repository."),
    (b"PK\x03\x04", "a zip archive or a PyTorch checkpoint", "Fetch the safetensors file instead."),
    (b"\x80\x02", "a PyTorch pickle", "Fetch the safetensors file instead."),
    (b"<", "a web page", "The download failed; fetch it again (a gated repository needs `hf auth login`)."),
    (b"{", "a JSON text", "The download may have failed; fetch it again."),
)
"""How a file that is no safetensors file begins, what it is, and what to do."""


def _not_safetensors(path: Path, start: bytes) -> WeightsError:
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, what, advice in _FOREIGN:
        if start.startswith(magic):
            return WeightsError(f"{path} is {what}.", advice=advice)
    what = "a text" if _is_text(start) else "no safetensors file"
    return WeightsError(f"{path} is {what}.", advice="A safetensors file is needed here.")


def _is_text(start: bytes) -> bool:
    """Whether there are no control characters but line ends and tabs, and no broken UTF-8 but a cut at the end."""
    text = start.decode("utf-8", "replace")
    return text.rstrip("\ufffd").translate({9: 32, 10: 32, 12: 32, 13: 32}).isprintable() and "\ufffd" not in text[:-3]
