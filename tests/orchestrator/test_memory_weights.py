"""The plan knows which blocks are converted on their way in, as the workers will do it."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from orchestrator.memory_weights import layers
from weights import stream_form
from weights.architecture.transformer import BLOCKS
from weights.header import read_header
from weights.lora import LoraMatch, match
from weights.select import Selection, select
from weights.stream_form import Block, Form, converted
from weights.tiny_model import tiny_folder
from workers.arrays import DTYPES

DEV = select(tiny_folder() / "ltx-2-tiny-dev.safetensors", "transformer")
LORA = match(read_header(tiny_folder() / "ltx-2-tiny-distilled-lora.safetensors"), DEV)
COUNT = DEV.config.num_layers


def part(lora: LoraMatch, blocks: int) -> LoraMatch:
    """Its changes to the first blocks."""
    prefixes = tuple(f"{BLOCKS}{index}." for index in range(blocks))
    return replace(lora, pairs={name: pair for name, pair in lora.pairs.items() if name.startswith(prefixes)})


def stored_as(selection: Selection, dtype: str) -> Selection:
    """As if the file had its tensors in that dtype of as many bytes."""
    tensors = {
        name: stored._replace(info=replace(stored.info, dtype=dtype)) for name, stored in selection.tensors.items()
    }
    return replace(selection, tensors=MappingProxyType(tensors))


@pytest.mark.parametrize("loras", [(), (LORA,), (part(LORA, 2),)], ids=["none", "all blocks", "some"])
@pytest.mark.parametrize("bits", [None, 8])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("file", ["BF16", "F16"])
def test_a_block_is_converted_where_the_stream_converts_it(
    file: str, dtype: str, bits: int | None, loras: tuple[LoraMatch, ...]
) -> None:
    selection = stored_as(DEV, file)
    form = Form(DTYPES[dtype], bits)
    prefixes = [f"{BLOCKS}{index}." for index in range(COUNT)]
    real = [
        converted(Block(selection.within(one), tuple((lora.within(one), 1.0) for lora in loras)), form)
        for one in prefixes
    ]
    planned = layers(selection, BLOCKS, COUNT, dtype, bits, loras)
    assert planned.converted == any(real)
    assert planned.mixed == (any(real) and not all(real))


def test_half_precision_of_a_bf16_file_needs_a_block_more() -> None:
    """As many bytes, but not the same: both forms are there while a block comes in."""
    same, other = (layers(stored_as(DEV, file), BLOCKS, COUNT, "float16") for file in ("F16", "BF16"))
    assert same.resident == other.resident
    assert (same.loading, other.loading) == (0, other.raw)
    assert other.streamed(0, 0) == same.streamed(0, 0) + other.raw


def test_blocks_of_both_kinds_need_room_for_both() -> None:
    selection = stored_as(DEV, "BF16")
    some, every = (layers(selection, BLOCKS, COUNT, "bfloat16", None, [lora]) for lora in (part(LORA, 2), LORA))
    assert some.streamed(0, 1) - some.top == some.block + 2 * some.raw
    assert every.streamed(0, 1) - every.top == every.block + every.raw


def test_the_share_that_counts_as_small_is_the_workers() -> None:
    from orchestrator import memory_weights

    assert memory_weights._SMALL == stream_form._SMALL
