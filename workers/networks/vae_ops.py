"""What the two halves of the video VAE share: norms, residual blocks, and moving pixels between space and channels.

Activations are `[1, frames, height, width, channels]`. Formulas and orders are those of ltx-core 1.0.0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod

import mlx.core as mx
import numpy as np

from weights.architecture.vae import Block
from workers.networks import host
from workers.networks.convolution import Space, Stride, Time, convolve, surround
from workers.networks.modulation import sinusoid
from workers.networks.ops import Weights, fused, linear, modulate, rms_norm

Noise = Callable[[tuple[int, ...]], mx.array]
"""Standard normal numbers of a shape; called in a fixed order, so a seeded source gives the same picture."""

Layer = Callable[[mx.array], mx.array]
"""A step of a network. Steps are taken one by one, by a caller that keeps only the last result."""

Watch = Callable[[mx.array], None]
"""Called with the activation after each part of each block, where a caller evaluates it and reports that it is alive.
What is not evaluated part by part is all in memory at once: ten activations in a residual block, not four."""

PIXEL_NORM_EPS = 1e-8
_GROUP_NORM_EPS = 1e-6


@dataclass(frozen=True)
class Mode:
    """How a half of the VAE is run: padding of its convolutions, and a decoder's timestep and source of noise.

    timestep: already multiplied by the checkpoint's `timestep_scale_multiplier`.
    """

    time: Time
    space: Space
    watch: Watch
    timestep: float | None = None
    noise: Noise | None = None


def silu(x: mx.array) -> mx.array:
    return host.silu(x) if host.applies(x) else _silu(x)


@fused
def _silu(x: mx.array) -> mx.array:
    return x * mx.sigmoid(x)


def pixel_norm(x: mx.array) -> mx.array:
    """x / sqrt(mean over channels of x^2 + 1e-8), statistics in float32."""
    return rms_norm(x, PIXEL_NORM_EPS)


def residual_layers(weights: Weights, name: str, block: Block, mode: Mode, dtype: mx.Dtype) -> list[Layer]:
    """`block.layers` residual blocks of equal width, `<name>.res_blocks.<i>`, in their order."""
    embedded = None
    if block.timestep:
        embedded = embed_timestep(weights, f"{name}.time_embedder", mode, dtype).reshape(4, -1)
    return [
        partial(residual_block, weights, f"{name}.res_blocks.{layer}", block, mode, embedded)
        for layer in range(block.layers)
    ]


def residual_block(
    weights: Weights, name: str, block: Block, mode: Mode, embedded: mx.array | None, x: mx.array
) -> mx.array:
    """x + conv(silu(norm(conv(silu(norm(x)))))).

    embedded [4, channels]: the timestep's share of shift and scale after each norm. A block that changes the
    width takes x through a group norm over everything and a 1x1x1 convolution.

    What an activation was made of is let go before the next one is made: `del` is not for tidiness here.
    """
    h = x
    for part in (1, 2):
        h = pixel_norm(h)
        if embedded is not None:
            rows = weights[f"{name}.scale_shift_table"].astype(x.dtype) + embedded
            h = modulate(h, rows[2 * part - 1], rows[2 * part - 2])
        surrounded = surround(weights, f"{name}.conv{part}.conv", silu(h), mode.time, mode.space)
        del h
        mode.watch(surrounded.x)
        h = convolve(weights, f"{name}.conv{part}.conv", surrounded)
        del surrounded
        mode.watch(h)
        if block.noise and mode.noise is not None:
            scale = weights[f"{name}.per_channel_scale{part}"].astype(x.dtype).reshape(-1)
            h = h + mode.noise(h.shape[2:4]).astype(x.dtype)[..., None] * scale
    if block.inputs != block.outputs:
        x = _normalise_whole(x) * weights[f"{name}.norm3.weight"] + weights[f"{name}.norm3.bias"]
        weight = weights[f"{name}.conv_shortcut.weight"].reshape(block.outputs, block.inputs)
        x = x @ weight.T + weights[f"{name}.conv_shortcut.bias"]
    return x + h


def _normalise_whole(x: mx.array) -> mx.array:
    """(x - mean) / std over everything but the batch."""
    y = x.astype(mx.float32)
    y = y - y.mean()
    return (y * mx.rsqrt(mx.square(y).mean() + _GROUP_NORM_EPS)).astype(x.dtype)


def embed_timestep(weights: Weights, name: str, mode: Mode, dtype: mx.Dtype) -> mx.array:
    """Sinusoid (float32) -> linear -> SiLU -> linear: [1, width]."""
    assert mode.timestep is not None
    name = f"{name}.timestep_embedder"
    x = mx.array(sinusoid(np.array([mode.timestep], np.float32))).astype(dtype)
    return linear(weights, f"{name}.linear_2", silu(linear(weights, f"{name}.linear_1", x)))


def depth_to_space(x: mx.array, stride: Stride) -> mx.array:
    """Channels (c, time, height, width) unfold into the three axes: C -> C / prod(stride)."""
    _, frames, height, width, channels = x.shape
    t, h, w = stride
    x = x.reshape(frames, height, width, channels // prod(stride), t, h, w)
    x = x.transpose(0, 4, 1, 5, 2, 6, 3)
    return x.reshape(1, frames * t, height * h, width * w, channels // prod(stride))


def space_to_depth(x: mx.array, stride: Stride) -> mx.array:
    """The inverse of `depth_to_space`."""
    _, frames, height, width, channels = x.shape
    t, h, w = stride
    x = x.reshape(frames // t, t, height // h, h, width // w, w, channels)
    x = x.transpose(0, 2, 4, 6, 1, 3, 5)
    return x.reshape(1, frames // t, height // h, width // w, channels * prod(stride))


def patchify(x: mx.array, patch: int) -> mx.array:
    """Pixels to channels (c, **width, height**): the height's sub-index is the fastest, unlike everywhere else."""
    _, frames, height, width, channels = x.shape
    x = x.reshape(frames, height // patch, patch, width // patch, patch, channels)
    return x.transpose(0, 1, 3, 5, 4, 2).reshape(1, frames, height // patch, width // patch, -1)


def unpatchify(x: mx.array, patch: int) -> mx.array:
    """The inverse of `patchify`."""
    _, frames, height, width, channels = x.shape
    x = x.reshape(frames, height, width, channels // patch**2, patch, patch)
    return x.transpose(0, 1, 5, 2, 4, 3).reshape(1, frames, height * patch, width * patch, -1)
