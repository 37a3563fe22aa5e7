"""What every stage does first: read exactly the tensors of its networks, and say so.

Small networks are read whole (`load`). Networks of many equal blocks are opened: `open_transformer` and `open_layers`
give what is outside the blocks and a stream of the blocks, of which some may stay in memory (`residency` in the job).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from weights import lora, reader
from weights.architecture.transformer import BLOCKS
from weights.header import read_header
from weights.lora import LoraMatch
from weights.select import Selection, bits_on_load, select
from weights.stream import BlockStream, read_whole
from weights.stream_form import Block, Form
from workers.context import Context
from workers.networks.ops import Weights
from workers.protocol import Job


def load(job: Job, context: Context, role: str, dtype: mx.Dtype) -> tuple[Any, dict[str, mx.array]]:
    """(config, weights in MLX's layout) of the file in that role. WeightsError names what is wrong."""
    use = job.use(role)
    selection = select(Path(use.path), role)
    began = time.monotonic()
    context.emit("loading", role=use.role, path=use.path, bytes=selection.bytes)
    weights = reader.load(selection, dtype, on_read=on_read(context))
    context.heartbeat()
    context.emit("loaded", role=use.role, seconds=time.monotonic() - began, bytes=selection.bytes)
    return selection.config, weights


@dataclass(frozen=True)
class Transformer:
    """`top`: the weights outside the blocks. `blocks()`: one visit of all blocks, for one step."""

    config: Any
    top: dict[str, mx.array]
    blocks: BlockStream


@contextmanager
def open_transformer(job: Job, context: Context, dtype: mx.Dtype, visits: int) -> Iterator[Transformer]:
    """The job's transformer with its LoRAs, quantised if the job says so; WeightsError names what is wrong.

    visits: the number of steps to come. Which blocks stay in memory (all, where the job says nothing) changes no bit.
    """
    use, began = job.use("transformer"), time.monotonic()
    selection = select(Path(use.path), "transformer")
    form = Form(dtype, bits_on_load(selection, job.params.get("quantize")))
    loras = [(lora.match(read_header(Path(one.path)), selection), one.strength) for one in use.loras]
    count = selection.config.num_layers
    residency = job.params.get("residency") or {"resident_blocks": count}
    context.emit("loading", role=use.role, path=use.path, bytes=selection.bytes)
    beside = Block(selection.outside(BLOCKS), tuple((match.outside(BLOCKS), s) for match, s in loras))
    top = read_whole(beside, form, on_read=on_read(context), beat=context.heartbeat)
    blocks = [
        Block(selection.within(prefix), tuple((match.within(prefix), s) for match, s in loras))
        for prefix in prefixes(BLOCKS, count)
    ]
    with BlockStream(
        blocks,
        form,
        resident=residency["resident_blocks"],
        prefetch=residency.get("prefetch", 1),
        visits=visits,
        on_read=on_read(context),
        beat=context.heartbeat,
    ) as stream:
        context.emit(
            "loaded",
            role=use.role,
            seconds=time.monotonic() - began,
            bytes=selection.bytes,
            blocks=count,
            resident_blocks=min(count, residency["resident_blocks"]),
            loras=[describe(match, strength) for match, strength in loras],
        )
        yield Transformer(selection.config, top, stream)


@contextmanager
def open_layers(
    selection: Selection, prefix: str, count: int, context: Context, dtype: mx.Dtype
) -> Iterator[BlockStream]:
    """A network's layers, each of them read once, in order, the next one while one is used."""
    blocks = [Block(selection.within(one)) for one in prefixes(prefix, count)]
    with BlockStream(
        blocks, Form(dtype), resident=0, visits=1, on_read=on_read(context), beat=context.heartbeat
    ) as stream:
        yield stream
    mx.clear_cache()


def prefixes(prefix: str, count: int) -> list[str]:
    """Of the blocks' names."""
    return [f"{prefix}{index}." for index in range(count)]


def on_read(context: Context) -> reader.OnRead:
    """Counts what is read, and says that reading goes on; from any thread."""

    def read(path: Path, size: int) -> None:
        context.record_read(path, size)
        context.heartbeat()

    return read


def describe(match: LoraMatch, strength: float) -> dict[str, Any]:
    """A LoRA for the `loaded` event: what it changes, with counts."""
    return {"path": str(match.path), "strength": strength, "summary": match.summary}


def forget(*weights: Weights) -> None:
    """Gives the memory of dropped weights back before the next network is read."""
    for one in weights:
        if isinstance(one, dict):
            one.clear()
    mx.clear_cache()
