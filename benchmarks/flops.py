"""How much there is to compute in the networks of LTX-2's video path, in floating-point operations. Pure.

A product of [m, k] and [k, n] counts 2 m k n: a multiplication and an addition. Counted are matrix products, attention
and convolutions, which is all but a thousandth of the transformer; norms, rotary turns, activations and patch layers
are not. A convolution counts its border as if it were computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

from weights.architecture.connector import ConnectorConfig
from weights.architecture.gemma import GemmaConfig, layer_tensors
from weights.architecture.projection import ProjectionConfig
from weights.architecture.transformer import TransformerConfig
from weights.architecture.upsampler import UpsamplerConfig
from weights.architecture.vae import SPACE_SCALE, TIME_SCALE, Block, DecoderConfig, EncoderConfig

TEXT_TOKENS = 1024
"""Registers fill a text's context up to so many."""
Grid = tuple[int, int, int]
"""Latent frames, rows and columns."""


@dataclass(frozen=True)
class Operations:
    """By what computes them. moved: bytes that have to be read and written at least, where they are counted."""

    matrix: float = 0.0
    attention: float = 0.0
    convolution: float = 0.0
    moved: float = 0.0

    @property
    def total(self) -> float:
        return self.matrix + self.attention + self.convolution

    def times(self, factor: float) -> Operations:
        return Operations(self.matrix * factor, self.attention * factor, self.convolution * factor, self.moved * factor)

    def __add__(self, other: Operations) -> Operations:
        return Operations(
            self.matrix + other.matrix,
            self.attention + other.attention,
            self.convolution + other.convolution,
            self.moved + other.moved,
        )


def forward(
    config: TransformerConfig, tokens: int, *, keep_text: bool = False, text_tokens: int = TEXT_TOKENS
) -> float:
    """Of one guidance pass over so many tokens. keep_text: the text's keys and values are there already."""
    return transformer(config, tokens, keep_text=keep_text, text_tokens=text_tokens).total


def transformer(
    config: TransformerConfig, tokens: int, *, keep_text: bool = False, text_tokens: int = TEXT_TOKENS
) -> Operations:
    """As `forward`.

    Per block and token: queries, keys, values and output of self-attention (4 w^2), query and output of the attention
    to the text (2 w^2), a feed-forward of 4 w and back (8 w^2); per token of text its key and value (2 w^2); and in
    both attentions a score and a weighted sum (2 w) for every pair.
    """
    width = config.inner_dim
    linear = tokens * 14 * width**2
    text = 0 if keep_text else text_tokens * 2 * width**2
    pairs = (tokens**2 + tokens * text_tokens) * 2 * width
    return Operations(2.0 * config.num_layers * (linear + text), 2.0 * config.num_layers * pairs)


def text(gemma: GemmaConfig, projection: ProjectionConfig, connector: ConnectorConfig, tokens: int) -> Operations:
    """Of one prompt of so many tokens, to the context that the transformer reads. moved: the weights once, in 16 bits.

    Gemma's tokens see those before them and themselves; connector: 4 w^2 of attention and 8 w^2 of feed-forward.
    """
    layer = sum(prod(shape) for shape in layer_tensors(gemma).values() if len(shape) == 2)
    pairs = sum(min(position + 1, gemma.sliding_window) for position in range(tokens))
    seen = [tokens * (tokens + 1) // 2 if full else pairs for full in gemma.full_attention]
    width, states = connector.inner_dim, projection.hidden_size * projection.num_states * projection.video_dim
    block = 12 * width**2
    weights = gemma.num_hidden_layers * layer + states + connector.num_layers * block
    matrix = tokens * (gemma.num_hidden_layers * layer + states) + TEXT_TOKENS * connector.num_layers * block
    attention = 2 * sum(seen) * gemma.num_attention_heads * gemma.head_dim
    attention += 2 * connector.num_layers * TEXT_TOKENS**2 * width
    return Operations(2.0 * matrix, 2.0 * attention, moved=2.0 * weights)


@dataclass(frozen=True)
class Convolution:
    """Every one of `cells` results of `outputs` values sees `taps` positions of `inputs` values. read: positions."""

    read: int
    cells: int
    inputs: int
    outputs: int
    taps: int = 27


def pictures(layers: Iterable[Convolution], item: int = 2) -> Operations:
    """Of convolutions one after the other. moved: each one's input and result once, at so many bytes a value."""
    total = Operations()
    for one in layers:
        operations = 2.0 * one.taps * one.inputs * one.outputs * one.cells
        moved = float(item) * (one.read * one.inputs + one.cells * one.outputs)
        mixes = Operations(matrix=operations) if one.taps == 1 else Operations(convolution=operations)
        total = total + mixes + Operations(moved=moved)
    return total


def decoder(config: DecoderConfig, grid: Grid) -> Iterator[Convolution]:
    """The VAE decoder's convolutions for a latent of that size, untiled."""
    frames, height, width = grid
    cells = prod(grid)
    yield Convolution(cells, cells, config.latent_channels, config.width)
    for block in config.blocks:
        if block.kind == "depth_to_space":
            yield Convolution(cells, cells, block.inputs, block.outputs * prod(block.stride))
            time, up, across = block.stride
            frames, height, width = frames * time - (time == 2), height * up, width * across
            cells = frames * height * width
        else:
            yield from _residual(block, cells)
    yield Convolution(cells, cells, config.blocks[-1].outputs, config.channels * config.patch**2)


def encoder(config: EncoderConfig, grid: Grid) -> Iterator[Convolution]:
    """The VAE encoder's convolutions for pixels that become a latent of that size, untiled."""
    frames = (grid[0] - 1) * TIME_SCALE + 1
    height, width = (side * SPACE_SCALE // config.patch for side in grid[1:])
    cells = frames * height * width
    yield Convolution(cells, cells, config.channels * config.patch**2, config.blocks[0].inputs)
    for block in config.blocks:
        if prod(block.stride) == 1:
            yield from _residual(block, cells)
            continue
        time, down, across = block.stride
        before = (frames + (time == 2)) * height * width
        frames, height, width = (frames + time - 1) // time, height // down, width // across
        cells, after = frames * height * width, cells
        if block.kind == "conv":
            yield Convolution(after, cells, block.inputs, block.outputs)
        else:
            yield Convolution(before, before, block.inputs, block.outputs // prod(block.stride))
    yield Convolution(cells, cells, config.blocks[-1].outputs, config.latent_channels)


def _residual(block: Block, cells: int) -> Iterator[Convolution]:
    for _ in range(block.layers):
        yield Convolution(cells, cells, block.inputs, block.outputs)
        yield Convolution(cells, cells, block.outputs, block.outputs)
    if block.inputs != block.outputs:
        yield Convolution(cells, cells, block.inputs, block.outputs, taps=1)


def upsampler(config: UpsamplerConfig, grid: Grid) -> Iterator[Convolution]:
    """A latent upsampler's convolutions for a latent of that size."""
    taps, cells, width = 3**config.dims, prod(grid), config.width
    up, _ = config.ratio
    grown = width * (2 if config.time else 1) * up**2
    after = prod(config.upsampled(*grid))
    yield Convolution(cells, cells, config.channels, width, taps)
    for _ in range(2 * config.blocks):
        yield Convolution(cells, cells, width, width, taps)
    yield Convolution(cells, cells, width, grown, 27 if config.time else 9)
    for _ in range(2 * config.blocks):
        yield Convolution(after, after, width, width, taps)
    yield Convolution(after, after, width, config.channels, taps)


def tokens(height: int, width: int, frames: int) -> int:
    """Latent positions of a video: 32 x 32 pixels, the first frame alone and then 8 at a time."""
    return ((frames - 1) // 8 + 1) * (height // 32) * (width // 32)
