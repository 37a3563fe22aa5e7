"""Writes safetensors files for tests: from an inventory of an official file (sparse: the right header, the data one
hole), or small ones with given bytes.

An inventory is gzipped JSON: {"metadata": {"config", "model_version"}, "tensors": {name: [dtype, shape]}, ...}.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

INVENTORIES = Path(__file__).parent.parent / "data" / "inventories"
BYTES = {"F64": 8, "F32": 4, "I64": 8, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "U8": 1, "U32": 4}

Tensors = Mapping[str, tuple[str, Iterable[int]]]


def inventory(name: str) -> dict[str, Any]:
    with gzip.open(INVENTORIES / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        return json.load(file)


def header_json(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> tuple[dict[str, Any], int]:
    """The header's JSON object, and how many bytes of data follow it."""
    entries: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + prod(shape) * BYTES[dtype]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    return entries, end


def pack(header: Any, data: bytes = b"") -> bytes:
    """The bytes of a file with this header: a JSON value, or the text itself."""
    raw = header.encode() if isinstance(header, str) else header
    raw = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def write_sparse(path: Path, tensors: Tensors, metadata: Mapping[str, str] | None = None) -> Path:
    """The right header; the data is one hole and reads as zeros."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header, size = header_json(tensors, metadata)
    start = pack(header)
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(len(start) + size)
    return path


def metadata_of(document: Mapping[str, Any]) -> dict[str, str]:
    """The file metadata that an inventory describes."""
    found = {"format": "pt"}
    if document["metadata"]["config"] is not None:
        found["config"] = json.dumps(document["metadata"]["config"])
    if document["metadata"]["model_version"]:
        found["model_version"] = document["metadata"]["model_version"]
    return found


def write_inventory(path: Path, name: str) -> Path:
    """The official file `name` as a sparse file."""
    document = inventory(name)
    return write_sparse(path, document["tensors"], metadata_of(document))


def write_gemma(folder: Path, name: str = "gemma-3-12b-it") -> Path:
    """The official Gemma folder: config.json, index and sparse shards."""
    document = inventory(name)
    folder.mkdir(parents=True, exist_ok=True)
    weight_map = {}
    for shard, names in document["shards"].items():
        write_sparse(folder / shard, {key: document["tensors"][key] for key in names}, {"format": "pt"})
        weight_map |= dict.fromkeys(names, shard)
    index = {"metadata": {"total_size": document["data_bytes"]}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(document["model_config"]))
    return folder
