"""Bytes of weights as a worker holds them, from headers alone.

Floats become the compute dtype, convolutions are turned; packed weights and 8-bit floats stay as they are stored;
`bits` says that the blocks' linear layers are quantised on load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from orchestrator.memory_backends import ITEM_BYTES
from weights.lora import LoraMatch
from weights.quantize_names import DENSE, FP8, FP8_SCALE, PACKED, quantisable, quantised_bytes
from weights.select import Selection, Stored

_NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_SMALL = 0.05
"""As in weights/stream_form.py: small tables may change their dtype without the block counting as converted."""


@dataclass(frozen=True)
class Layers:
    """A network of equal blocks. Bytes: `top` is everything outside the blocks, `block` the largest block as held.

    raw: of the largest block as it is read, with its LoRAs. converted: whether what is held of some block is not what
    was read, so that both are there while it comes in (as `weights.stream` has it); mixed: and of others it is.
    largest: a block's largest tensor as held. decoded: the largest weight that is decoded where it is used;
    decoded_block: all of a block's.
    """

    top: int
    block: int
    count: int
    raw: int
    converted: bool
    mixed: bool
    largest: int
    decoded: int
    decoded_block: int

    @property
    def resident(self) -> int:
        return self.top + self.count * self.block

    @property
    def loading(self) -> int:
        """Beyond what stays, while the blocks that stay are read."""
        return self.raw if self.converted else 0

    def streamed(self, resident_blocks: int, prefetch: int) -> int:
        """With so many blocks kept, one in use, and so many read ahead of it."""
        ahead = max(1, prefetch) * self.raw if self.converted else prefetch * self.block
        if self.mixed:  # memory for one that stays where it was read, and for one that is converted
            ahead += self.raw
        return self.top + self.block * (resident_blocks + 1) + ahead


def held_bytes(selection: Selection, dtype: str, bits: int | None = None) -> int:
    """Of a whole selection."""
    return sum(tensor_bytes(selection, name, stored, dtype, bits) for name, stored in selection.tensors.items())


def largest_bytes(selection: Selection, dtype: str) -> int:
    """What loading one tensor after the other needs beyond the tensors: the largest that is converted or turned."""
    changed = (
        stored.info.nbytes
        for stored in selection.tensors.values()
        if len(stored.info.shape) >= 4 or (stored.info.dtype in DENSE and stored.info.dtype != _NAMES[dtype])
    )
    return max(changed, default=0)


def tensor_bytes(selection: Selection, name: str, stored: Stored, dtype: str, bits: int | None) -> int:
    kind, shape = stored.info.dtype, selection.shapes.get(name, stored.info.shape)
    if bits is not None and kind != PACKED and quantisable(name, shape):
        return quantised_bytes(shape, bits, ITEM_BYTES[dtype])
    if kind not in DENSE or name.endswith(FP8_SCALE):
        return stored.info.nbytes
    return prod(stored.info.shape) * ITEM_BYTES[dtype]


def decoded_bytes(selection: Selection, dtype: str, bits: int | None) -> list[int]:
    """Of each weight that is decoded where it is used; none when all are held as they are multiplied."""
    return [
        prod(selection.shapes[name]) * ITEM_BYTES[dtype]
        for name, stored in selection.tensors.items()
        if name in selection.shapes
        and (stored.info.dtype in (PACKED, FP8) or (bits is not None and quantisable(name, selection.shapes[name])))
    ]


def layers(
    selection: Selection,
    prefix: str,
    count: int,
    dtype: str,
    bits: int | None = None,
    loras: Sequence[LoraMatch] = (),
) -> Layers:
    """The blocks `<prefix>0.` to `<prefix><count - 1>.` of a selection, and what is beside them."""
    held, raw, kept = [0] * count, [0] * count, [0] * count
    changed = {name for lora in loras for name in lora.pairs}
    top = largest = 0
    for name, stored in selection.tensors.items():
        size = tensor_bytes(selection, name, stored, dtype, bits)
        if name.startswith(prefix):
            index = int(name[len(prefix) :].partition(".")[0])
            held[index] += size
            largest = max(largest, size)
            raw[index] += stored.info.nbytes
            if name not in changed and _stays(selection, name, stored, dtype, bits):
                kept[index] += stored.info.nbytes
        else:
            top += size
    for lora in loras:
        for name, pair in lora.pairs.items():
            if name.startswith(prefix):
                raw[int(name[len(prefix) :].partition(".")[0])] += pair_bytes(pair)
    converted = [same < (1 - _SMALL) * read for same, read in zip(kept, raw, strict=True)]
    coded = decoded_bytes(selection, dtype, bits)
    return Layers(
        top,
        max(held, default=0),
        count,
        max(raw, default=0),
        any(converted),
        any(converted) and not all(converted),
        largest,
        max(coded, default=0),
        -(-sum(coded) // max(1, count)),
    )


def _stays(selection: Selection, name: str, stored: Stored, dtype: str, bits: int | None) -> bool:
    """Whether a tensor is held as it was read, as `weights.stream_form` has it."""
    kind = stored.info.dtype
    if bits is not None and kind != PACKED and quantisable(name, selection.shapes.get(name, stored.info.shape)):
        return False
    return kind not in DENSE or name.endswith(FP8_SCALE) or kind == _NAMES[dtype]


def pair_bytes(pair: Any) -> int:
    """Of a LoRA's halves for one weight."""
    return int(sum(stored.info.nbytes for stored in pair.stored))
