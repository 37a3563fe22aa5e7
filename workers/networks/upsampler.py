"""Latent upsamplers: space x2 and x1.5, time x2, or both (ltx-core 1.0.0, `LatentUpsampler`; ltx2.md section 6).

They work on raw latents; `upsample` un-normalises before and normalises after. Group normalisation takes its
statistics over all frames and pixels together (per frame in a `dims: 2` file), in float32, and is written as
statistics and application, so that the two can be done on different pieces of a latent.
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx

from weights.architecture.upsampler import GROUPS, UpsamplerConfig
from workers.networks import statistics as channels
from workers.networks.convolution import conv3d
from workers.networks.ops import Weights
from workers.networks.vae_ops import Watch, depth_to_space, silu

_EPS = 1e-5


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
        mx.eval(x)
        done += 1
        progress(done, 2 * config.blocks)

    x = channels.unnormalise(statistics, latent.transpose(0, 2, 3, 4, 1))
    x = channels.normalise(statistics, upsample_raw(weights, config, x, watch))
    return x.transpose(0, 4, 1, 2, 3)


def upsample_raw(weights: Weights, config: UpsamplerConfig, x: mx.array, watch: Watch = lambda _: None) -> mx.array:
    """Raw latent, channels last: [1, frames, height, width, 128]."""
    x = _conv(weights, "initial_conv", x)
    x = silu(_group_norm(weights, "initial_norm", x, config))
    for index in range(config.blocks):
        x = _residual_block(weights, f"res_blocks.{index}", x, config)
        watch(x)
    x = _grow(weights, x, config)
    for index in range(config.blocks):
        x = _residual_block(weights, f"post_upsample_res_blocks.{index}", x, config)
        watch(x)
    return _conv(weights, "final_conv", x)


def group_statistics(x: mx.array, per_frame: bool) -> tuple[mx.array, mx.array]:
    """Mean and variance of each group of consecutive channels: float32, [1 or frames, 1, 1, groups, 1].

    x [frames, height, width, channels]. The variance is that of the deviations from the mean, divided by the count.
    """
    groups = x.astype(mx.float32).reshape(*x.shape[:-1], GROUPS, -1)
    axes = [1, 2, 4] if per_frame else [0, 1, 2, 4]
    mean = groups.mean(axis=axes, keepdims=True)
    return mean, mx.square(groups - mean).mean(axis=axes, keepdims=True)


def apply_group_norm(x: mx.array, mean: mx.array, variance: mx.array, weight: mx.array, bias: mx.array) -> mx.array:
    """(x - mean) / sqrt(variance + 1e-5) * weight + bias, in float32; back in the dtype of x, [frames, ...]."""
    groups = x.astype(mx.float32).reshape(*x.shape[:-1], GROUPS, -1)
    normed = ((groups - mean) * mx.rsqrt(variance + _EPS)).reshape(x.shape)
    return (normed * weight.astype(mx.float32) + bias.astype(mx.float32)).astype(x.dtype)


def _group_norm(weights: Weights, name: str, x: mx.array, config: UpsamplerConfig) -> mx.array:
    mean, variance = group_statistics(x[0], per_frame=config.dims == 2)
    return apply_group_norm(x[0], mean, variance, weights[f"{name}.weight"], weights[f"{name}.bias"])[None]


def _residual_block(weights: Weights, name: str, x: mx.array, config: UpsamplerConfig) -> mx.array:
    """silu(x + norm(conv(silu(norm(conv(x))))))"""
    h = silu(_group_norm(weights, f"{name}.norm1", _conv(weights, f"{name}.conv1", x), config))
    return silu(x + _group_norm(weights, f"{name}.norm2", _conv(weights, f"{name}.conv2", h), config))


def _grow(weights: Weights, x: mx.array, config: UpsamplerConfig) -> mx.array:
    """The first frame after doubling time is dropped: the first latent frame stands for one frame of the video."""
    up, down = config.ratio
    stride = (2 if config.time else 1, up, up)
    x = depth_to_space(_conv(weights, "upsampler.conv" if config.rational else "upsampler.0", x), stride)
    if config.time:
        x = x[:, 1:]
    return x if down == 1 else _blur_down(x, weights["upsampler.blur_down.kernel"], down)


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


def _conv(weights: Weights, name: str, x: mx.array) -> mx.array:
    return conv3d(weights, name, x, "zeros", "zeros")
