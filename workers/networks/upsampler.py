"""Latent upsamplers: space x2 and x1.5, time x2, or both (as ltx-core 1.0.0, `LatentUpsampler`).

They work on raw latents; `upsample` un-normalises before and normalises after. Group normalisation takes its
statistics over all frames and pixels together (per frame in a `dims: 2` file).

A latent goes through in pieces of a few frames, as a list of arrays [frames, height, width, channels]: a convolution
reads one frame of either neighbour, and drops a piece of its input as soon as no later one needs it. So two whole
activations are alive at once, and what an operation needs beyond them is bounded by a piece. The length of the pieces
depends on the latent's shape alone: no memory plan changes a bit.
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx

from weights.architecture.upsampler import GROUPS, UpsamplerConfig
from workers.networks import group_norm
from workers.networks import statistics as channels
from workers.networks.convolution import conv3d
from workers.networks.ops import Weights
from workers.networks.pace import settled
from workers.networks.vae_ops import Watch, depth_to_space, silu

PIECE_VALUES = 1 << 22
"""A piece has about this many values at the size after upsampling: 8 MB in 16 bits. A frame is never cut."""

Pieces = list[mx.array]


def upsample(
    weights: Weights,
    config: UpsamplerConfig,
    statistics: Weights,
    latent: mx.array,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> mx.array:
    """Normalised latent [1, 128, frames, height, width] -> the larger one, `config.upsampled` its size.

    `statistics` are those of the VAE that the latent belongs to. progress: (done, total) residual blocks.
    """
    done = 0

    def watch(x: mx.array) -> None:
        nonlocal done
        done += 1
        progress(done, 2 * config.blocks)

    x = channels.unnormalise(statistics, latent.transpose(0, 2, 3, 4, 1))
    x = channels.normalise(statistics, upsample_raw(weights, config, x, watch))
    return x.transpose(0, 4, 1, 2, 3)


def upsample_raw(weights: Weights, config: UpsamplerConfig, x: mx.array, watch: Watch = lambda _: None) -> mx.array:
    """Raw latent, channels last: [1, frames, height, width, 128]. `watch` gets the last piece of a block's result."""
    pieces = _cut(x[0], piece_frames(config, *x.shape[1:4]))
    pieces = _conv(weights, "initial_conv", pieces)
    _norm(weights, "initial_norm", pieces, config)
    for index in range(config.blocks):
        _residual_block(weights, f"res_blocks.{index}", pieces, config)
        watch(pieces[-1])
    pieces = _grow(weights, pieces, config)
    for index in range(config.blocks):
        _residual_block(weights, f"post_upsample_res_blocks.{index}", pieces, config)
        watch(pieces[-1])
    return mx.concatenate(_conv(weights, "final_conv", pieces))[None]


def piece_frames(config: UpsamplerConfig, frames: int, height: int, width: int) -> int:
    """Frames per piece of a latent of that size, before upsampling."""
    up, _ = config.ratio
    grown = (2 if config.time else 1) * height * width * up * up * config.width
    return max(1, min(frames, PIECE_VALUES // grown))


def _cut(x: mx.array, frames: int) -> Pieces:
    return [x[start : start + frames] for start in range(0, x.shape[0], frames)]


def _norm(weights: Weights, name: str, pieces: Pieces, config: UpsamplerConfig, skip: Pieces | None = None) -> None:
    """silu(norm(x)), or silu(skip + norm(x)), in place of x: piece by piece."""
    each = []
    for x in pieces:
        each.append(group_norm.frame_statistics(x, GROUPS))
        settled(*each[-1])
    if config.dims == 3:
        each = [group_norm.over_all_frames(each)] * len(pieces)
    for index, statistics in enumerate(each):
        x = group_norm.apply(weights, name, pieces[index], statistics)
        pieces[index] = silu(x if skip is None else skip[index] + x)
        del x
        if skip is not None:
            skip[index] = pieces[index]
        settled(pieces[index])


def _residual_block(weights: Weights, name: str, pieces: Pieces, config: UpsamplerConfig) -> None:
    """silu(x + norm(conv(silu(norm(conv(x)))))), in place of x."""
    h = _conv(weights, f"{name}.conv1", pieces, keep=True)
    _norm(weights, f"{name}.norm1", h, config)
    h = _conv(weights, f"{name}.conv2", h)
    _norm(weights, f"{name}.norm2", h, config, skip=pieces)


def _grow(weights: Weights, pieces: Pieces, config: UpsamplerConfig) -> Pieces:
    """The first frame after doubling time is dropped: the first latent frame stands for one frame of the video."""
    up, down = config.ratio
    stride = (2 if config.time else 1, up, up)
    blur = weights["upsampler.blur_down.kernel"] if down > 1 else None

    def unfold(x: mx.array) -> mx.array:
        x = depth_to_space(x[None], stride)
        return (x if blur is None else _blur_down(x, blur, down))[0]

    grown = _conv(weights, "upsampler.conv" if config.rational else "upsampler.0", pieces, then=unfold)
    if config.time:
        grown[0] = grown[0][1:]
    return grown


def _conv(
    weights: Weights,
    name: str,
    pieces: Pieces,
    keep: bool = False,
    then: Callable[[mx.array], mx.array] = lambda x: x,
) -> Pieces:
    """`then` of the convolution of all pieces, zeros around them. Unless kept, the input is dropped on the way."""
    in_time = weights[f"{name}.weight"].ndim == 5
    result = []
    for index in range(len(pieces)):
        x = _with_neighbours(pieces, index) if in_time else pieces[index]
        x = then(conv3d(weights, name, x[None], "none", "zeros")[0])
        settled(x)
        result.append(x)
        if not keep and index:
            pieces[index - 1] = mx.zeros(0)
    return result


def _with_neighbours(pieces: Pieces, index: int) -> mx.array:
    """The piece with the frame before it and the one after it; zeros at the ends."""
    x = pieces[index]
    before = pieces[index - 1][-1:] if index else mx.zeros_like(x[:1])
    after = pieces[index + 1][:1] if index + 1 < len(pieces) else mx.zeros_like(x[:1])
    return mx.concatenate([before, x, after])


def _blur_down(x: mx.array, kernel: mx.array, step: int) -> mx.array:
    """Every `step`-th pixel of x blurred with the kernel [1, size, size, 1], zeros beyond the border."""
    size = kernel.shape[1]
    half = size // 2
    _, _, height, width, _ = x.shape
    padded = mx.pad(x, [(0, 0), (0, 0), (half, half), (half, half), (0, 0)])
    rows, columns = (height - 1) // step + 1, (width - 1) // step + 1
    result = mx.zeros((*x.shape[:2], rows, columns, x.shape[-1]), x.dtype)
    for i in range(size):
        for j in range(size):
            part = padded[:, :, i : i + step * rows : step, j : j + step * columns : step]
            result = result + part[:, :, :rows, :columns] * kernel[0, i, j, 0].astype(x.dtype)
    return result
