"""Memory for the tensors of one block, as MLX arrays that are filled in place and used again for the next block.

MLX's arrays are values: nothing may still refer to what a slot gave when it is filled again, and everything that was
computed from it must have been evaluated. In return a block's bytes go from the file to where the GPU reads them
without a copy, without an allocation and without touching fresh pages (measured on a Linux CPU from page cache: 5 to 7
GB/s, against 1.2 to 1.5 GB/s into new arrays each time).

Not for CUDA, where memory that the CPU writes to is moved back and forth page by page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from weights.select import Stored
from weights.stream_read import Target

_WORDS = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32}
_TYPES: Mapping[str, mx.Dtype] = {
    "F32": mx.float32,
    "BF16": mx.bfloat16,
    "F16": mx.float16,
    "F8_E4M3": mx.uint8,
    "U32": mx.uint32,
}


class Slot:
    """Arrays by tensor name, kept as long as the next block's tensors have the same sizes."""

    def __init__(self) -> None:
        self._words: dict[str, mx.array] = {}

    def targets(self, wanted: Mapping[str, Stored]) -> list[Target]:
        """Where the bytes of these tensors go; what the slot held before is lost."""
        self._words = {name: words for name, words in self._words.items() if name in wanted}
        for name, stored in wanted.items():
            dtype = _TYPES[stored.info.dtype]
            kind, count = _WORDS[dtype.size], stored.info.nbytes // dtype.size
            words = self._words.get(name)
            if words is None or words.dtype != kind or words.size != count:
                self._words.pop(name, None)
                self._words[name] = mx.zeros((count,), kind)
                mx.eval(self._words[name])
        filled = [name for name, stored in wanted.items() if stored.info.nbytes]
        return [Target(wanted[name], _memory(self._words[name])) for name in filled]

    def arrays(self, wanted: Mapping[str, Stored]) -> dict[str, mx.array]:
        """The tensors in their own dtypes and shapes, sharing the slot's memory; 8-bit floats as their codes."""
        return {
            name: self._words[name].view(_TYPES[stored.info.dtype]).reshape(stored.info.shape)
            for name, stored in wanted.items()
        }


def _memory(words: Any) -> memoryview:
    return memoryview(words).cast("B")


def copied(array: mx.array) -> mx.array:
    """The same bits in memory of their own; not evaluated."""
    words = array.view(_WORDS[array.dtype.size])
    return (words | mx.array(0, dtype=words.dtype)).view(array.dtype)
