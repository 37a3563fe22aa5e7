"""How much there is to compute in a stage, in multiplications: for estimates of the time from earlier runs.

Counts the products that dominate; what a machine makes of them is measured (`orchestrator.history`).
"""

from __future__ import annotations

from math import prod

from orchestrator.memory import Work
from orchestrator.memory_tiles import cut
from orchestrator.memory_tokens import count_tokens
from orchestrator.memory_video import decoder_layers
from orchestrator.sizes import LatentShape
from weights.architecture.transformer import BLOCKS
from weights.select import Selection


def effort(work: Work) -> float:
    """Of the whole stage, all items."""
    if work.stage == "text":
        tokens = sum(count_tokens(text) for text in work.texts)
        gemma = work.networks["gemma"].selection
        return float(tokens * (matrices(gemma) - matrix(gemma, "embed_tokens.weight")))
    if work.stage == "decode":
        return float(work.items * decoding(work))
    total = 0.0
    if "upsampler" in work.networks:
        total += work.items * matrices(work.networks["upsampler"].selection) * work.result.tokens
    if work.blocks:
        total += work.items * work.steps * work.passes * step(work)
    return total


def step(work: Work) -> float:
    """One evaluation of the transformer."""
    selection, tokens = work.networks["transformer"].selection, work.result.tokens
    config = selection.config
    attention = 2 * tokens**2 * config.inner_dim * config.num_layers
    return float(tokens * matrices(selection.within(BLOCKS)) + attention)


def decoding(work: Work) -> float:
    """All tiles: a 3x3x3 convolution from each layer's input to its output, as often as the layer comes."""
    assert work.tiles is not None
    config = work.networks["vae_decoder"].selection.config
    one = LatentShape(2, 1, 1)
    layers = list(decoder_layers(config, one))
    repeats = [1, *(2 * block.layers if block.kind == "res" else 1 for block in config.blocks), 1]
    channels = [config.latent_channels, config.width, *(block.outputs for block in config.blocks)]
    values = sum(
        27 * inputs * layer.outputs * times for inputs, layer, times in zip(channels, layers, repeats, strict=True)
    )
    return float(cut(work.result, work.tiles).cells * values / one.tokens)


def matrices(selection: Selection) -> int:
    """Values of all weights that are multiplied with."""
    return sum(matrix(selection, name) for name in selection.tensors)


def matrix(selection: Selection, name: str) -> int:
    shape = selection.shapes.get(name, ())
    return prod(shape) if len(shape) >= 2 else 0
