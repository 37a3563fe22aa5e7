"""Artifacts: tensors and string metadata in one safetensors file that is whole and verified, or refused.

The file is plain safetensors (any reader opens it) in one canonical form: the same tensors and metadata always give the
same bytes. We write it ourselves because the library's `serialize` takes other arguments in every other release, and
because only a canonical header lets `read` vouch for every byte:

    tensors     `sha256` in the metadata, see `digest`
    metadata    `seal`: SHA-256 of the canonical JSON of all other metadata, `sha256` included
    header      must be, byte for byte, what we would write for what it says

So any flipped bit, cut or exchange raises ArtifactError, with one exception that no check can find: another valid
artifact in its place; for that, give `key` and `stage`. Callers set a bad artifact aside and compute it again.
Published atomically and durably (see `durable`); bf16 is bytes like any other dtype, and never touches numpy.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from cache.durable import (
    Buffer,
    flat,
    publish_bytes,
    publish_chunks,
    publish_text,
    reason,
    set_aside,
    sweep,
    temporary_path,
)
from cache.keys import Json, canonical_json
from weights.errors import ArtifactError, UsageError, WeightsError
from weights.header import DTYPE_BITS, Header, read_open_header

__all__ = [
    "FORMAT",
    "Artifact",
    "Tensor",
    "digest",
    "find",
    "publish",
    "publish_bytes",
    "publish_text",
    "read",
    "serialize",
    "set_aside",
    "sweep",
    "temporary_path",
]

FORMAT = "ltx-relay/1"
ITEM_BYTES: Mapping[str, int] = {dtype: bits // 8 for dtype, bits in DTYPE_BITS.items() if bits % 8 == 0}
"""Bytes per element, by safetensors' name of the dtype."""
_AGAIN = "It is set aside and computed again."


@dataclass(frozen=True)
class Tensor:
    """`data`: the elements in row-major order, little-endian; its length is checked against dtype and shape."""

    dtype: str
    shape: tuple[int, ...]
    data: Buffer

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        object.__setattr__(self, "data", flat(self.data).toreadonly())
        if self.dtype not in ITEM_BYTES:
            raise ValueError(f"{self.dtype!r} is no dtype of an artifact: {', '.join(ITEM_BYTES)}.")
        needed = prod(self.shape) * ITEM_BYTES[self.dtype]
        if min(self.shape, default=0) < 0 or len(self.data) != needed:
            raise ValueError(f"{self.dtype} {list(self.shape)} takes {needed} bytes, not {len(self.data)}.")


@dataclass(frozen=True)
class Artifact:
    """A verified artifact. `sha256` is that of the tensors; the tensors share one buffer, the file's."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    sha256: str


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the tensors, whatever file they lie in.

    Over, for each tensor in the order of its name's code points: the canonical JSON of [name, dtype, shape], a newline,
    and the bytes.
    """
    state = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        state.update(canonical_json([name, tensor.dtype, tensor.shape]).encode() + b"\n")
        state.update(tensor.data)
    return state.hexdigest()


def serialize(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> list[Buffer]:
    """The file's bytes in pieces: the header, with `format`, `sha256` and `seal` added to the metadata; each tensor."""
    sealed = {**metadata, "format": FORMAT, "sha256": digest(tensors)}
    sealed["seal"] = _seal(sealed)
    return [_header_bytes(tensors, sealed), *(tensors[name].data for name in _file_order(tensors))]


def publish(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
    """Writes an artifact, atomically and durably, and returns its size in bytes.

    `metadata` should have `key` and `stage`, which `read` compares. Raises DoesNotFit when the disk or the quota is
    full (nothing is left behind then), RelayError when the path cannot be written otherwise.
    """
    for name, text in metadata.items():
        if not isinstance(text, str):
            raise TypeError(f"The metadata {name!r} must be text, not {text!r}.")
    if "__metadata__" in tensors or "" in tensors:
        raise ValueError("No tensor can be named '' or '__metadata__'.")
    chunks = serialize(tensors, metadata)
    return publish_chunks(path, chunks, sum(len(chunk) for chunk in chunks))


def read(path: Path, *, key: str | None = None, stage: str | None = None) -> Artifact:
    """The artifact at `path`, verified; with `key` and `stage`, it must be that one. ArtifactError otherwise."""
    try:
        if not path.is_file():  # opening a named pipe would hang
            raise ArtifactError(f"{path} is not a file." if path.exists() else f"{path} does not exist.", advice=_AGAIN)
        # One descriptor for all of it: the path may get a new file while we read.
        with open(path, "rb") as file:
            header = read_open_header(file, path)
            _check_identity(header, key, stage)
            file.seek(0)
            raw = file.read()
    except WeightsError as error:
        raise ArtifactError(error.message, advice=_AGAIN) from error
    except (OSError, ValueError) as error:
        text = reason(error) if isinstance(error, OSError) else str(error)
        raise ArtifactError(f"{path} cannot be read: {text}.") from error
    tensors = _tensors(header, raw)
    sha256 = _check_content(header, raw, tensors)
    return Artifact(tensors, dict(header.metadata), sha256)


def find(
    path: Path, *, key: str, stage: str, on_damage: Callable[[str], None] = lambda sentence: None
) -> Artifact | None:
    """The artifact at `path`, or None when it is not there. A bad one is set aside, and `on_damage` told about it."""
    if not os.path.lexists(path):
        return None
    try:
        return read(path, key=key, stage=stage)
    except ArtifactError as error:
        on_damage(error.message)
        set_aside(path)
        return None


def _check_identity(header: Header, key: str | None, stage: str | None) -> None:
    found = header.metadata.get("format", "")
    if found != FORMAT:
        newer = "was made by another version of this program" if found.startswith("ltx-relay/") else "is no artifact"
        raise ArtifactError(f"{header.path} {newer} (format {found!r}; this one reads {FORMAT!r}).", advice=_AGAIN)
    for name, wanted in (("key", key), ("stage", stage)):
        if wanted is not None and header.metadata.get(name) != wanted:
            raise ArtifactError(
                f"{header.path} is another artifact: its {name} is {header.metadata.get(name)!r}, not {wanted!r}.",
                advice=_AGAIN,
            )


def _tensors(header: Header, raw: bytes) -> dict[str, Tensor]:
    if len(raw) != header.file_size:
        raise ArtifactError(f"{header.path} changed while it was read.", advice=_AGAIN)
    view = memoryview(raw)
    try:
        return {
            name: Tensor(info.dtype, info.shape, view[info.start : info.end]) for name, info in header.tensors.items()
        }
    except ValueError as error:
        raise ArtifactError(f"{header.path} is damaged: {error}", advice=_AGAIN) from error


def _check_content(header: Header, raw: bytes, tensors: Mapping[str, Tensor]) -> str:
    """Vouches for every byte of the file; returns the tensors' hash."""
    try:
        canonical = _header_bytes(tensors, header.metadata)
        seal, sha256 = _seal(header.metadata), digest(tensors)
    except UsageError as error:
        raise ArtifactError(f"The header of {header.path} is damaged: {error.message}", advice=_AGAIN) from error
    if raw[: header.header_size] != canonical or header.metadata.get("seal") != seal:
        raise ArtifactError(f"The header of {header.path} is damaged.", advice=_AGAIN)
    if header.metadata.get("sha256") != sha256:
        raise ArtifactError(f"The tensors of {header.path} are damaged: their hash is another.", advice=_AGAIN)
    return sha256


def _seal(metadata: Mapping[str, str]) -> str:
    rest = {name: text for name, text in metadata.items() if name != "seal"}
    return hashlib.sha256(canonical_json(rest).encode()).hexdigest()


def _file_order(tensors: Mapping[str, Tensor]) -> list[str]:
    """Widest elements first, so that every tensor is aligned to its element; then by name."""
    return sorted(tensors, key=lambda name: (-ITEM_BYTES[tensors[name].dtype], name))


def _header_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The header's length as eight little-endian bytes, and its JSON, padded with spaces to a multiple of eight."""
    entries: dict[str, Json] = {"__metadata__": dict(metadata)}
    position = 0
    for name in _file_order(tensors):
        tensor = tensors[name]
        end = position + len(tensor.data)
        entries[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [position, end]}
        position = end
    text = canonical_json(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
