"""What a block's tensors become on their way in: the compute dtype, LoRAs added, quantised.

One function, `held`, for blocks that stay in memory and for blocks that come at every step: both have the same bits.

A LoRA goes onto a dense weight before that is quantised on load. Onto a weight that is stored quantised or as 8-bit
floats it goes by way of float32: decoded, changed, and encoded again in the same form (for 8-bit floats as ltx-core
1.0.0 does it), so that LoRAs cost no memory; a little of the LoRA is lost to the second rounding. Whoever wants none
lost quantises a 16-bit checkpoint on load.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx

from weights import fp8
from weights.header import Signature
from weights.lora import LoraMatch
from weights.lora_fuse import add, product, scaled
from weights.quantize import dequantise, quantise
from weights.quantize_names import BIASES, FP8, FP8_SCALE, PACKED, SCALES, companions, layer, quantisable
from weights.reader import in_memory
from weights.select import Selection, Stored
from weights.stream_slots import copied

Raw = dict[str, mx.array]
"""Tensors as stored, by the names of `Block.wanted`."""

_SMALL = 0.05
"""Share of a block's bytes that may be converted without the block counting as converted: tables in float32."""


@dataclass(frozen=True)
class Form:
    """dtype: of everything that is not quantised. bits: of linear layers, quantised on load; None: as stored."""

    dtype: mx.Dtype
    bits: int | None = None


class Block(NamedTuple):
    """The tensors of one block by their own names, and the LoRAs on them with their strengths."""

    selection: Selection
    loras: tuple[tuple[LoraMatch, float], ...] = ()

    @property
    def wanted(self) -> dict[str, Stored]:
        """Everything that is read for it: its tensors, and its LoRAs' by names that no tensor has."""
        wanted = dict(self.selection.tensors)
        for index, (lora, _) in enumerate(self.loras):
            for name, pair in lora.pairs.items():
                for part, stored in zip(("a", "b", "alpha"), pair.stored, strict=False):
                    wanted[_half(index, part, name)] = stored
        return wanted

    @property
    def signatures(self) -> dict[Path, Signature]:
        """Of every file that is read."""
        return {**self.selection.signatures, **{lora.path: lora.signature for lora, _ in self.loras}}


def converted(block: Block, form: Form) -> bool:
    """Whether most of what is read is not what is held: then the memory that it was read into is free at once."""
    same = sum(
        stored.info.nbytes
        for name, stored in block.selection.tensors.items()
        if not _remade(block, form, name) and in_memory(name, stored.info.dtype, form.dtype) is None
    )
    return same < (1 - _SMALL) * sum(stored.info.nbytes for stored in block.wanted.values())


def held(block: Block, form: Form, raw: Raw, *, own: bool) -> dict[str, mx.array]:
    """The block as the networks take it, evaluated. `raw` is emptied. own: no result shares the memory of `raw`."""
    result: dict[str, mx.array] = {}
    done: set[str] = set()
    for name, stored in block.selection.tensors.items():
        if name in done:
            continue
        if _remade(block, form, name):
            made = _made(block, form, name, raw)
            done |= set(companions(name, stored.info.dtype))
        else:
            array, dtype = raw.pop(name), in_memory(name, stored.info.dtype, form.dtype)
            made = {name: array.astype(dtype) if dtype is not None else copied(array) if own else array}
        mx.eval(made)
        result |= made
    return result


def _remade(block: Block, form: Form, name: str) -> bool:
    """Whether this weight is changed by a LoRA or quantised on load."""
    return any(name in lora.pairs for lora, _ in block.loras) or _bits(block, form, name) is not None


def _bits(block: Block, form: Form, name: str) -> int | None:
    """That this weight is quantised to on load: None for one that is quantised already."""
    shape, stored = block.selection.shapes.get(name), block.selection.tensors[name].info.dtype
    return None if shape is None or stored == PACKED or not quantisable(name, shape) else form.bits


def _made(block: Block, form: Form, name: str, raw: Raw) -> dict[str, mx.array]:
    selection, stem = block.selection, layer(name)
    stored, (_, inputs) = selection.tensors[name].info.dtype, selection.shapes[name]
    weight, bits, group = raw.pop(name), _bits(block, form, name), None
    if stored == PACKED:
        bits, scales = 32 * weight.shape[-1] // inputs, raw.pop(stem + SCALES).astype(mx.float32)
        group = inputs // scales.shape[-1]
        weight = dequantise(weight, scales, raw.pop(stem + BIASES).astype(mx.float32), inputs)
    elif stored == FP8:
        weight = fp8.decode(weight, raw.pop(stem + FP8_SCALE), mx.float32)
    else:
        weight = weight.astype(form.dtype)
    products = []
    for index, (lora, strength) in enumerate(block.loras):
        if name in lora.pairs:
            factor = scaled(strength, raw.pop(_half(index, "alpha", name), None), lora.pairs[name].rank)
            a, b = raw.pop(_half(index, "a", name)), raw.pop(_half(index, "b", name))
            products.append(product(a, b, factor, mx.bfloat16 if stored == FP8 else weight.dtype))
    if products:
        weight = add(weight, products)
        mx.eval(weight)
        del products
    if bits is not None:
        packed, scales, biases = quantise(weight, bits, group, form.dtype)
        return {name: packed, stem + SCALES: scales, stem + BIASES: biases}
    if stored == FP8:
        codes, largest = fp8.encode(weight)
        return {name: codes, stem + FP8_SCALE: largest}
    return {name: weight}


def _half(index: int, part: str, name: str) -> str:
    return f"lora {index} {part} {name}"
