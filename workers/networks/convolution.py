"""The one convolution of the video VAE and the latent upsamplers: 3x3x3 (or 3x3 per frame), size-preserving padding.

Time is padded by repeating frames (ltx-core 1.0.0, `CausalConv3d`) or with zeros (the upsamplers), height and
width with zeros or by reflection. How it is computed depends on the backend alone, never on a memory plan.

`conv3d` is `convolve` of `surround`. Who has large activations calls them one after the other and lets go of the
activation in between: its copy with a border is then the only one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import mlx.core as mx

from workers.networks import host
from workers.networks.ops import Weights

Time = Literal["causal", "centred", "zeros", "none"]
Space = Literal["zeros", "reflect"]
Stride = tuple[int, int, int]

_STRIDE_1: Stride = (1, 1, 1)


@dataclass(frozen=True, eq=False)
class Surrounded:
    """x with its border. On the host x alone, and where its frames stand in padded time: no copy is made there."""

    x: mx.array
    space: Space
    sources: list[int | None] | None = None


def conv3d(weights: Weights, name: str, x: mx.array, time: Time, space: Space, stride: Stride = _STRIDE_1) -> mx.array:
    """x [1, frames, height, width, channels] -> the same with the outputs of `<name>.weight` as channels.

    The weight is channels-last, [outputs, 3, 3, 3, channels], or [outputs, 3, 3, channels] to treat every frame
    by itself. time: "causal" puts the first frame twice in front; "centred" puts the first frame in front and
    the last one behind; "zeros" puts a frame of zeros on either side; with "none" the result is two frames shorter.
    """
    return convolve(weights, name, surround(weights, name, x, time, space, stride), stride)


def surround(
    weights: Weights, name: str, x: mx.array, time: Time, space: Space, stride: Stride = _STRIDE_1
) -> Surrounded:
    """The border that this convolution needs; see `conv3d`. Not evaluated."""
    weight = weights[f"{name}.weight"]
    time = time if weight.ndim == 5 and weight.shape[1] == 3 else "none"
    if host.applies(x) and stride == _STRIDE_1:
        return Surrounded(x, space, _sources(x.shape[1], time))
    return Surrounded(_with_border(x, time, space), space)


def convolve(weights: Weights, name: str, x: Surrounded, stride: Stride = _STRIDE_1) -> mx.array:
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    if weight.ndim == 4:
        weight = weight[:, None]
    if x.sources is not None:
        return host.convolve(x.x[0], weight, bias, x.sources, x.space == "reflect")[None]
    # Metal's fast path wants no padding in depth, and takes it in height and width for nothing.
    padding = 1 if x.space == "zeros" else 0
    if weight.shape[1] == 1:
        return (mx.conv2d(x.x[0], weight[:, 0], stride=stride[1:], padding=padding) + bias)[None]
    return mx.conv3d(x.x, weight, stride=stride, padding=(0, padding, padding)) + bias


def _sources(frames: int, time: Time) -> list[int | None]:
    inner: list[int | None] = list(range(frames))
    if time == "causal":
        return [0, 0, *inner]
    if time == "none":
        return inner
    return [0, *inner, frames - 1] if time == "centred" else [None, *inner, None]


def _with_border(x: mx.array, time: Time, space: Space) -> mx.array:
    """The frames that time asks for, and with "reflect" a pixel on each side; zeros are left to the convolution.

    One copy of x. What goes into its border comes from x again, not from the copy, which MLX can then write in place.
    """
    before, after = {"causal": (2, 0), "none": (0, 0)}.get(time, (1, 1))
    side = 1 if space == "reflect" else 0
    if not (before or after or side):
        return x
    if not side:
        first, last = x[:, :1], x[:, -1:]
        if time == "zeros":
            first = last = mx.zeros_like(first)
        return mx.concatenate([*[first] * before, x, *[last] * after], axis=1)
    _, frames, height, width, _ = x.shape
    y = mx.pad(x, [(0, 0), (before, after), (1, 1), (1, 1), (0, 0)])
    inner, last_row, last_column = slice(before, before + frames), max(0, height - 2), max(0, width - 2)
    y[:, inner, :1, 1:-1] = x[:, :, min(1, height - 1)][:, :, None]
    y[:, inner, -1:, 1:-1] = x[:, :, last_row][:, :, None]
    y[:, inner, :, :1] = _reflected(x[:, :, :, min(1, width - 1)], 2)[:, :, :, None]
    y[:, inner, :, -1:] = _reflected(x[:, :, :, last_column], 2)[:, :, :, None]
    if time != "zeros":
        if before:
            y[:, :before] = _reflected(_reflected(x[:, :1], 2), 3)
        if after:
            y[:, -after:] = _reflected(_reflected(x[:, -1:], 2), 3)
    return y


def _reflected(x: mx.array, axis: int) -> mx.array:
    """One more on either side, the edge not repeated; a side of 1 repeats itself."""
    size = x.shape[axis]
    before, after = min(1, size - 1), max(0, size - 2)
    return mx.concatenate([mx.take(x, mx.array([before]), axis), x, mx.take(x, mx.array([after]), axis)], axis=axis)
