"""Activations of the networks that work on latents as pictures: the VAE's decoder, the upsamplers. Pure arithmetic.

Sizes follow from the architecture's channels and strides; how many arrays of a size are alive at once is the backend's
(`memory_backends`).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from orchestrator.memory_backends import ENCODER, ITEM_BYTES, SOURCE, Backend
from orchestrator.memory_tiles import Cut
from orchestrator.sizes import LATENT_CHANNELS, LatentShape
from weights.architecture.upsampler import UpsamplerConfig
from weights.architecture.vae import SPACE_SCALE, TIME_SCALE, DecoderConfig, EncoderConfig

MOST_VALUES = 1 << 30
"""Of one array: kernels index with 32 bits, and some multiply before they divide."""
PIECE_VALUES = 1 << 22
"""As in workers/networks/upsampler.py; a test compares them."""
_UNFOLDED_BYTES = (27 + 4) * 4
"""For an input value where a convolution unfolds it, with copies of input and result: MLX does that in float32,
whatever it computes in."""
_PIXEL = 3 * 4
"""Bytes of a pixel in float32."""


class Layer(NamedTuple):
    """Values of the arrays that a layer of the decoder reads and makes; `grows`: by depth to space."""

    inputs: int
    outputs: int
    grows: bool


def decoder_layers(config: DecoderConfig, tile: LatentShape) -> Iterator[Layer]:
    """Every kind of layer once, in order, for a tile of that size; the last one makes the pixels."""
    frames, height, width = tile.frames, tile.height, tile.width
    cells, channels = frames * height * width, config.width
    yield Layer(cells * config.latent_channels, cells * channels, False)
    for block in config.blocks:
        if block.kind == "depth_to_space":
            made = block.outputs * prod(block.stride) * cells
            yield Layer(channels * cells, made, True)
            time, up, across = block.stride
            frames, height, width = frames * time - (time == 2), height * up, width * across
            cells, channels = frames * height * width, block.outputs
        else:
            yield Layer(cells * channels, cells * block.outputs, False)
            channels = block.outputs
    yield Layer(cells * channels, cells * config.channels * config.patch**2, False)


def decoder_values(config: DecoderConfig, tile: LatentShape) -> int:
    """Of the largest array."""
    return max(max(layer.inputs, layer.outputs) for layer in decoder_layers(config, tile))


def decoder_activations(config: DecoderConfig, tile: LatentShape, backend: Backend, dtype: str) -> int:
    """Bytes at the peak of decoding one tile, with its pixels in float32."""
    size = ITEM_BYTES[dtype]
    unfolded = 0 if dtype in backend.direct_convolution else _UNFOLDED_BYTES // ITEM_BYTES[dtype]
    layers = list(decoder_layers(config, tile))
    peaks = []
    for layer in layers[:-1]:
        if layer.grows:
            peaks.append(layer.inputs * (1 + unfolded) + backend.grow_units * layer.outputs)
            continue
        peaks.append(max(layer.inputs, layer.outputs) * (backend.residual_units + unfolded))
    last = layers[-1]
    peaks.append(last.inputs * (2 + unfolded) + backend.picture_units * last.outputs)
    return int(size * max(peaks))


def assembly_bytes(latent: LatentShape, cut: Cut) -> tuple[int, int]:
    """Of the frames that tiles are put together in: while tiles are decoded, and while finished frames are encoded.

    A single tile is not put together; its frames become bytes in an array of their own. The frames of a row are touched
    when its first tile is there: while that is decoded, only those are in memory that the row before left.
    """
    frame = latent.height * latent.width * SPACE_SCALE**2
    in_a_row = cut.row_frames if cut.along[1:] != (1, 1) else cut.carried
    if cut.count == 1:
        return 0, frame * (_PIXEL * cut.row_frames + 3 * cut.done)
    return frame * _PIXEL * in_a_row, frame * (_PIXEL * (cut.row_frames + cut.carried) + 3 * cut.done)


def encoder_bytes(codec: str, width: int, height: int) -> int:
    """Of the video encoder, with the frames that it looks ahead."""
    fixed, per_pixel = ENCODER.get(codec, max(ENCODER.values()))
    return fixed + per_pixel * width * height


def source_bytes(width: int, height: int) -> int:
    """Of the reader of a video file: what its decoder keeps, and a frame on its way."""
    fixed, per_pixel = SOURCE
    return fixed + per_pixel * width * height


def encoder_layers(config: EncoderConfig, tile: LatentShape) -> Iterator[Layer]:
    """Every kind of layer of the VAE's encoder once, in order, for a tile of that latent size. grows: by moving space
    to channels."""
    frames = (tile.frames - 1) * TIME_SCALE + 1
    height, width = (side * SPACE_SCALE // config.patch for side in (tile.height, tile.width))
    cells, channels = frames * height * width, config.blocks[0].inputs
    yield Layer(cells * config.channels * config.patch**2, cells * channels, False)
    for block in config.blocks:
        if prod(block.stride) > 1:
            time, up, across = block.stride
            taken = (frames + (time == 2)) * height * width
            frames, height, width = (frames + time - 1) // time, height // up, width // across
            cells = frames * height * width
            yield Layer(taken * channels, cells * block.outputs, True)
        else:
            yield Layer(cells * channels, cells * block.outputs, False)
        channels = block.outputs
    yield Layer(cells * channels, cells * config.latent_channels, False)


def encoder_values(config: EncoderConfig, tile: LatentShape) -> int:
    """Of the largest array."""
    return max(max(layer.inputs, layer.outputs) for layer in encoder_layers(config, tile))


def encoder_activations(config: EncoderConfig, tile: LatentShape, backend: Backend, dtype: str) -> int:
    """Bytes at the peak of encoding one tile, with its pixels in float32 besides."""
    size = ITEM_BYTES[dtype]
    unfolded = 0 if dtype in backend.direct_convolution else _UNFOLDED_BYTES // ITEM_BYTES[dtype]
    peaks: list[float] = []
    layers = list(encoder_layers(config, tile))
    for index, layer in enumerate(layers):
        if index in (0, len(layers) - 1):
            peaks.append(layer.inputs * (2 + unfolded) + layer.outputs)
        elif layer.grows:
            peaks.append(layer.inputs * (backend.shrink_units + unfolded) + layer.outputs)
        else:
            peaks.append(max(layer.inputs, layer.outputs) * (backend.residual_units + unfolded))
    pixels = ((tile.frames - 1) * TIME_SCALE + 1) * tile.height * tile.width * SPACE_SCALE**2
    return int(size * max(peaks)) + pixels * (_PIXEL + 5 * size // 2)


def upsampler_activations(config: UpsamplerConfig, latent: LatentShape, backend: Backend, dtype: str) -> int:
    """Bytes at the peak of upsampling a latent of that size, without the result's copies."""
    frames, height, width = config.upsampled(latent.frames, latent.height, latent.width)
    values = frames * height * width * config.width
    up = config.ratio[0]
    grown = (2 if config.time else 1) * latent.height * latent.width * up * up * config.width
    count = max(1, min(latent.frames, PIECE_VALUES // grown))
    unfolded = 0 if dtype in backend.direct_convolution else _UNFOLDED_BYTES // ITEM_BYTES[dtype]
    # A piece is read with a frame of either neighbour, and its result made twice: with and without what is added.
    pieces = grown * (backend.piece_units * (3 * count + 2) + unfolded * count)
    before = latent.frames * latent.height * latent.width * config.width
    whole = max(backend.latent_units * values, values + before * backend.latent_units)
    return int((whole + pieces) * ITEM_BYTES[dtype])


def latent_bytes(latent: LatentShape, dtype: str) -> int:
    return LATENT_CHANNELS * latent.tokens * ITEM_BYTES[dtype]
