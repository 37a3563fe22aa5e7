"""The one convolution of the video VAE and the latent upsamplers: 3x3x3 (or 3x3 per frame), size-preserving padding.

Time is padded by repeating frames (ltx-core 1.0.0, `CausalConv3d`) or with zeros (the upsamplers), height and
width with zeros or by reflection. How it is computed depends on the backend alone, never on a memory plan.
"""

from __future__ import annotations

from typing import Literal

import mlx.core as mx

from workers.networks import host
from workers.networks.ops import Weights

Time = Literal["causal", "centred", "zeros", "none"]
Space = Literal["zeros", "reflect"]
Stride = tuple[int, int, int]

_STRIDE_1: Stride = (1, 1, 1)


def conv3d(weights: Weights, name: str, x: mx.array, time: Time, space: Space, stride: Stride = _STRIDE_1) -> mx.array:
    """x [1, frames, height, width, channels] -> the same with the outputs of `<name>.weight` as channels.

    The weight is channels-last, [outputs, 3, 3, 3, channels], or [outputs, 3, 3, channels] to treat every frame
    by itself. time: "causal" puts the first frame twice in front; "centred" puts the first frame in front and
    the last one behind; "zeros" puts a frame of zeros on either side; with "none" the result is two frames shorter.
    """
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    if weight.ndim == 4:
        weight = weight[:, None]
    sources = _sources(x.shape[1], time) if weight.shape[1] == 3 else list(range(x.shape[1]))
    if host.applies(x) and stride == _STRIDE_1:
        return host.convolve(x[0], weight, bias, sources, space == "reflect")[None]
    # Metal's fast path wants no padding in depth, and takes it in height and width for nothing.
    padding = 1 if space == "zeros" else 0
    if space == "reflect":
        x = _reflect(_reflect(x, 2), 3)
    if weight.shape[1] == 1:
        return (mx.conv2d(x[0], weight[:, 0], stride=stride[1:], padding=padding) + bias)[None]
    return mx.conv3d(_pad_time(x, time), weight, stride=stride, padding=(0, padding, padding)) + bias


def _sources(frames: int, time: Time) -> list[int | None]:
    inner: list[int | None] = list(range(frames))
    if time == "causal":
        return [0, 0, *inner]
    if time == "none":
        return inner
    return [0, *inner, frames - 1] if time == "centred" else [None, *inner, None]


def _pad_time(x: mx.array, time: Time) -> mx.array:
    if time == "none":
        return x
    first, last = x[:, :1], x[:, -1:]
    if time == "causal":
        return mx.concatenate([first, first, x], axis=1)
    if time == "zeros":
        first = last = mx.zeros_like(first)
    return mx.concatenate([first, x, last], axis=1)


def _reflect(x: mx.array, axis: int) -> mx.array:
    """One more on either side, the edge not repeated; a side of 1 repeats itself."""
    size = x.shape[axis]
    before, after = min(1, size - 1), max(0, size - 2)
    return mx.concatenate([mx.take(x, mx.array([before]), axis), x, mx.take(x, mx.array([after]), axis)], axis=axis)
