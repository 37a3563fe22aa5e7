"""Writes what `quantize_plan` planned: the bytes of a quantised copy, tensor after tensor.

Memory stays at a few times the largest tensor, whatever the file's size. Every byte that is copied is the source's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import mlx.core as mx
import numpy as np

from weights import fp8
from weights.errors import WeightsError
from weights.header_json import plain
from weights.quantize import Quantised, quantise
from weights.quantize_names import FP8
from weights.quantize_plan import FilePlan, Part
from weights.reader import OnRead
from weights.select import Stored
from weights.stream_read import ByteReader, Target
from weights.stream_slots import Slot

COPY_BYTES = 64 << 20
"""Bytes of a copied tensor that are in memory at once."""


def chunks(
    plan: FilePlan, *, on_read: OnRead | None = None, on_layer: Callable[[str], None] = lambda name: None
) -> Iterator[memoryview]:
    """The copy's bytes in order. `on_layer` is called after each layer that was quantised, `on_read` as in `reader`.

    WeightsError when the source changed since its header was read, or holds values that are not finite.
    """
    yield memoryview(plan.header)
    source = plan.source
    reader = ByteReader({source.path: source.signature}, on_read=on_read)
    slot = Slot()
    try:
        for part in plan.parts:
            if part.quantised:
                for array in _quantised(plan, part, reader, slot):
                    yield _bytes_of(array)
                on_layer(part.name)
            else:
                yield from _copied(plan, part, reader)
    finally:
        reader.close()


def _quantised(plan: FilePlan, part: Part, reader: ByteReader, slot: Slot) -> Quantised:
    path = plan.source.path
    wanted = {"weight": Stored(path, part.name, part.info)}
    if part.scale is not None:
        wanted["scale"] = Stored(path, part.scale, plan.source.tensors[part.scale])
    reader.start(slot.targets(wanted)).wait()
    arrays = slot.arrays(wanted)
    weight = arrays["weight"]
    if part.info.dtype == FP8:
        weight = fp8.decode(weight, arrays["scale"], mx.float32)
    made = quantise(weight, plan.bits, dtype=mx.bfloat16)
    if not (mx.isfinite(made.scales).all() & mx.isfinite(made.biases).all()).item():
        raise WeightsError(
            f"{plain(part.name)} of {path} has values that are not finite.", advice="Fetch the file again."
        )
    return made


def _copied(plan: FilePlan, part: Part, reader: ByteReader) -> Iterator[memoryview]:
    info = part.info
    for start in range(info.start, info.end, COPY_BYTES):
        end = min(info.end, start + COPY_BYTES)
        memory = memoryview(bytearray(end - start))
        piece = Stored(plan.source.path, part.name, type(info)(info.dtype, (end - start,), start, end))
        reader.start([Target(piece, memory)]).wait()
        yield memory


def _bytes_of(array: mx.array) -> memoryview:
    words = array.view(mx.uint16) if array.dtype == mx.bfloat16 else array
    return np.ascontiguousarray(np.array(words, copy=False)).data.cast("B")
