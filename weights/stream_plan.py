"""Which blocks stay in memory, and what a block takes there; for the memory plan too, so it imports no mlx."""

from __future__ import annotations

from weights.lora import LoraMatch
from weights.quantize_names import FP8, FP8_SCALE, PACKED, companions, quantisable, quantised_bytes
from weights.select import Selection


def resident_indices(blocks: int, resident: int) -> tuple[int, ...]:
    """Spread evenly over all blocks, from the first on: so each block that is read has several others' compute to hide
    behind, where a row of them at the end would wait for the disk."""
    count = max(0, min(blocks, resident))
    return tuple(index * blocks // count for index in range(count))


def held_bytes(block: Selection, value_bytes: int, bits: int | None = None) -> int:
    """Of a block (or any selection) in memory when networks compute in values of `value_bytes`.

    bits: linear layers quantised on load. LoRAs change nothing.
    """
    total, gone = 0, set[str]()
    for name, stored in block.tensors.items():
        shape, info = block.shapes.get(name), stored.info
        if shape is not None and bits is not None and info.dtype != PACKED and quantisable(name, shape):
            total += quantised_bytes(shape, bits, value_bytes)
            gone |= set(companions(name, info.dtype))
        elif name in gone:
            continue
        elif info.dtype in (PACKED, FP8) or name.endswith(FP8_SCALE):
            total += info.nbytes
        else:
            total += value_bytes * _count(info.shape)
    return total


def read_bytes(block: Selection, loras: tuple[LoraMatch, ...] = ()) -> int:
    """Of a block in its files, with what LoRAs (already `within` it) add."""
    return block.bytes + sum(lora.bytes for lora in loras)


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total
