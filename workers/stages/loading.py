"""What every stage does first: read exactly the tensors of its networks, and say so."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import mlx.core as mx

from weights import lora, lora_fuse, reader
from weights.header import read_header
from weights.select import Selection, select
from workers.context import Context
from workers.networks.ops import Weights
from workers.protocol import Job, WeightsUse


def load(job: Job, context: Context, role: str, dtype: mx.Dtype) -> tuple[Any, dict[str, mx.array]]:
    """(config, weights in MLX's layout) of the file in that role, its LoRAs added. WeightsError names what is wrong."""
    use = job.use(role)
    selection = select(Path(use.path), role)
    return selection.config, read_tensors(selection, use, context, dtype)


def read_tensors(selection: Selection, use: WeightsUse, context: Context, dtype: mx.Dtype) -> dict[str, mx.array]:
    """All tensors of a selection, with the events before and after."""
    began = time.monotonic()
    context.emit("loading", role=use.role, path=use.path, bytes=selection.bytes)
    weights = reader.load(selection, dtype, on_read=context.record_read)
    for one in use.loras:
        match = lora.match(read_header(Path(one.path)), selection)
        lora_fuse.fuse(weights, match, one.strength, on_read=context.record_read)
    context.heartbeat()
    context.emit("loaded", role=use.role, seconds=time.monotonic() - began, bytes=selection.bytes)
    return weights


def forget(*weights: Weights) -> None:
    """Gives the memory of dropped weights back before the next network is read."""
    for one in weights:
        if isinstance(one, dict):
            one.clear()
    mx.clear_cache()
