"""What a quantised copy of a weights file will look like: every tensor, the header, the size. From headers alone.

The copy has the official layout: the same names, order and metadata, with `<layer>.weight` packed and `<layer>.scales`
and `<layer>.biases` behind it for every linear layer of a block (see `quantize_names`), audio's included. Everything
else is copied byte by byte. 8-bit floats lose their scales with their form. The metadata says "quantization".
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from weights.catalogue import CHECKPOINT, GEMMA, identify
from weights.errors import WeightsError
from weights.header import DTYPE_BITS, Header, TensorInfo, read_header
from weights.header_folder import read_folder
from weights.quantize_names import (
    BIASES,
    DENSE,
    FP8,
    FP8_INPUT_SCALE,
    FP8_SCALE,
    GROUPS,
    PACKED,
    SCALES,
    affine_shapes,
    layer,
    quantisable,
)
from weights.select import select

QUANTIZATION = "quantization"
"""Key of the metadata, and of a text encoder's config.json."""
SCALE_DTYPE = "BF16"
_ALIGNMENT = 8


@dataclass(frozen=True)
class Part:
    """A tensor of the source. quantised: its layer's weight is packed; else it is copied. scale: of 8-bit floats."""

    name: str
    info: TensorInfo
    quantised: bool
    scale: str | None = None


@dataclass(frozen=True)
class FilePlan:
    """header: the first bytes of the copy. size: of the whole copy."""

    source: Header = field(repr=False)
    bits: int
    parts: tuple[Part, ...] = field(repr=False)
    header: bytes = field(repr=False)
    size: int

    @property
    def layers(self) -> int:
        """How many are quantised."""
        return sum(part.quantised for part in self.parts)


@dataclass(frozen=True)
class QuantizePlan:
    """Of a checkpoint (one file) or of a text encoder's folder; `kind` is `catalogue`'s."""

    path: Path
    kind: str
    bits: int
    files: tuple[FilePlan, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def layers(self) -> int:
        return sum(file.layers for file in self.files)


def plan(path: Path, bits: int) -> QuantizePlan:
    """WeightsError when the file is of another kind, does not fit its config, or is quantised already."""
    found = identify(path)
    if found.kind not in (CHECKPOINT, GEMMA):
        raise WeightsError(
            f"{path} is a {found.kind.replace('-', ' ')}; only checkpoints and text encoders are quantised.",
            advice="A LoRA goes onto a quantised model as it is; the upscalers are small.",
        )
    selection = select(found.path, "transformer" if found.kind == CHECKPOINT else "gemma")
    if selection.affine is not None:
        raise WeightsError(
            f"{path} is quantised to {selection.affine.bits} bits already.", advice="Use the 16-bit file."
        )
    name, stored = next(iter(selection.tensors.items()))
    prefix = stored.name.removesuffix(name)
    headers = (read_header(found.path),) if found.kind == CHECKPOINT else read_folder(found.path).headers
    return QuantizePlan(found.path, found.kind, bits, tuple(plan_file(header, bits, prefix) for header in headers))


def plan_file(source: Header, bits: int, prefix: str) -> FilePlan:
    """prefix: of the tensors of the network whose blocks are quantised."""
    parts = tuple(_parts(source.tensors, prefix))
    entries: dict[str, object] = {"__metadata__": {**source.metadata, QUANTIZATION: json.dumps(stated(bits))}}
    end = 0
    for part in parts:
        for name, dtype, shape in outputs(part, bits):
            size = prod(shape) * DTYPE_BITS[dtype] // 8
            entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
            end += size
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    header = struct.pack("<Q", len(text)) + text
    return FilePlan(source, bits, parts, header, len(header) + end)


def stated(bits: int) -> dict[str, object]:
    """How files say that they are quantised, as MLX's do."""
    return {"mode": "affine", "bits": bits, "group_size": GROUPS[0]}


def outputs(part: Part, bits: int) -> list[tuple[str, str, tuple[int, ...]]]:
    """(name, dtype, shape) of what is written for a part."""
    if not part.quantised:
        return [(part.name, part.info.dtype, part.info.shape)]
    (outer, inner), stem = part.info.shape, layer(part.name)
    packed, scales = affine_shapes((outer, inner), bits)
    return [
        (part.name, PACKED, packed),
        (stem + SCALES, SCALE_DTYPE, scales),
        (stem + BIASES, SCALE_DTYPE, scales),
    ]


def _parts(tensors: Mapping[str, TensorInfo], prefix: str) -> Iterator[Part]:
    chosen = {
        name
        for name, info in tensors.items()
        if name.startswith(prefix) and info.dtype in (*DENSE, FP8) and quantisable(name[len(prefix) :], info.shape)
    }
    dropped = {
        layer(name) + end for name in chosen if tensors[name].dtype == FP8 for end in (FP8_SCALE, FP8_INPUT_SCALE)
    }
    for name, info in tensors.items():
        if name in chosen:
            yield Part(name, info, True, layer(name) + FP8_SCALE if info.dtype == FP8 else None)
        elif name not in dropped:
            yield Part(name, info, False)
