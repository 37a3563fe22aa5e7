"""Rotary position embedding of LTX-2: positions in seconds and pixels, frequency grids, tables and the rotation.

As ltx-core 1.0.0 computes it in float32 (the released pipelines round positions to bf16; later releases do
not, nor do we). Angles are float32 products; their cosines and sines are taken in float64 on the host and
rounded once, so that tables are the same on every machine. A table is made once per run, in the dtype of the
activations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from workers.networks.ops import fused, split_heads

Floats = NDArray[np.float32]

TIME_SCALE, SPACE_SCALE = 8, 32
"""Pixel frames and pixels per latent frame, row and column."""


class RotaryConfig(Protocol):
    """The fields of a network's config that shape its tables."""

    @property
    def positional_embedding_theta(self) -> float: ...
    @property
    def rope_type(self) -> str: ...
    @property
    def double_precision_rope(self) -> bool: ...


@dataclass(frozen=True)
class Rope:
    """cos and sin: "split" [1, heads, tokens, size / 2], "interleaved" [1, tokens, heads * size]."""

    cos: mx.array
    sin: mx.array
    interleaved: bool


def video_positions(grid: tuple[int, int, int], fps: float) -> Floats:
    """[3, tokens, 2]: start and end of every latent cell in seconds, pixel rows and pixel columns.

    `grid` is (frames, height, width) of the latent; tokens run over width fastest. The first latent frame
    stands for one pixel frame, every later one for eight.
    """
    cells = np.stack([axis.ravel() for axis in np.meshgrid(*(np.arange(n) for n in grid), indexing="ij")])
    edges = np.stack([cells, cells + 1], axis=-1) * np.array([TIME_SCALE, SPACE_SCALE, SPACE_SCALE])[:, None, None]
    edges[0] = np.maximum(edges[0] + 1 - TIME_SCALE, 0)
    positions: Floats = edges.astype(np.float32)
    positions[0] /= np.float32(fps)
    return positions


def audio_positions(count: int) -> Floats:
    """[1, count, 2]: start and end in seconds of audio latents (4 mel frames of 160 samples at 16 kHz each,
    causal)."""
    edges = np.stack([np.arange(count), np.arange(1, count + 1)], axis=-1).astype(np.float32)
    mel = np.maximum(edges * 4 + 1 - 4, 0)
    seconds: Floats = mel * np.float32(160) / np.float32(16000)
    return seconds[None]


def midpoints(positions: Floats) -> Floats:
    """[axes, tokens, 2] -> [axes, tokens]"""
    middle: Floats = (positions[..., 0] + positions[..., 1]) / np.float32(2)
    return middle


def frequencies(config: RotaryConfig, width: int, axes: int) -> Floats:
    """[width // (2 axes)]: pi / 2 * theta^(k / (n - 1)), made in float64 or, for old checkpoints, in float32."""
    theta, count = config.positional_embedding_theta, width // (2 * axes)
    if config.double_precision_rope:
        return (np.power(theta, np.linspace(0.0, 1.0, count)) * math.pi / 2).astype(np.float32)
    # The float32 grid of the reference counts up from 0 in the first half and down from 1 in the second.
    step = np.float32(1.0) / np.float32(max(count - 1, 1))
    k = np.arange(count, dtype=np.float32)
    exponents = np.where(k < count // 2, step * k, np.float32(1.0) - step * (count - 1 - k)).astype(np.float64)
    return np.power(theta, exponents).astype(np.float32) * np.float32(math.pi) / np.float32(2)


def table(
    config: RotaryConfig,
    values: Floats,
    max_positions: Sequence[float],
    heads: int,
    width: int,
    dtype: mx.Dtype,
) -> Rope:
    """The table for tokens at `values` [axes, tokens], for an attention of `heads` heads and `width` channels in all.

    Channels take the frequencies in ascending order, for each the axes in turn; what is left over stands in
    front and does not rotate. Cosines are taken of the distinct positions of each axis only, then spread over
    the tokens.
    """
    axes, tokens = values.shape
    grid = frequencies(config, width, axes)
    parts: dict[str, list[mx.array]] = {"cos": [], "sin": []}
    for position, limit in zip(values, max_positions, strict=True):
        distinct, where = np.unique(position, return_inverse=True)
        angles = grid * (distinct / np.float32(limit) * np.float32(2) - np.float32(1))[:, None]
        index = mx.array(where.astype(np.int32))
        for name, function in (("cos", np.cos), ("sin", np.sin)):
            exact = function(angles.astype(np.float64)).astype(np.float32)
            parts[name].append(mx.array(exact).astype(dtype)[index])
    interleaved = config.rope_type == "interleaved"

    def arrange(name: str, fill: float) -> mx.array:
        table = mx.stack(parts[name], axis=-1).reshape(tokens, -1)
        if interleaved:
            table = mx.repeat(table, 2, axis=-1)
        full = width if interleaved else width // 2
        front = mx.full((tokens, full - table.shape[-1]), fill, dtype=dtype)
        table = mx.concatenate([front, table], axis=-1)[None]
        return table if interleaved else mx.contiguous(split_heads(table, heads))

    rope = Rope(arrange("cos", 1.0), arrange("sin", 0.0), interleaved)
    mx.eval(rope.cos, rope.sin)
    return rope


def rotate(x: mx.array, rope: Rope, heads: int) -> mx.array:
    """Turn queries or keys [batch, tokens, heads * size] by the table -> [batch, heads, tokens, size]."""
    if rope.interleaved:
        return split_heads(_turn_pairs(x, rope.cos, rope.sin), heads)
    return turn_halves(split_heads(x, heads), rope.cos, rope.sin)


@fused
def turn_halves(x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    """(a, b) -> (a cos - b sin, b cos + a sin), a and b the halves of the last axis: one operation over both."""
    halves = x.reshape(*x.shape[:-1], 2, -1)
    sign = mx.array([[-1], [1]], dtype=x.dtype)
    turned = halves * cos[..., None, :] + halves[..., ::-1, :] * (sin[..., None, :] * sign)
    return turned.reshape(x.shape)


@fused
def _turn_pairs(x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    turned = mx.stack([-pairs[..., 1], pairs[..., 0]], axis=-1).reshape(x.shape)
    return x * cos + turned * sin
