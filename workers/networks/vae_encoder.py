"""The video VAE's encoder: pixels to normalised latents (as ltx-core 1.0.0, `VideoEncoder`).

Always causal. The latent is the mean of the posterior, never a sample of it.
"""

from __future__ import annotations

from functools import partial

import mlx.core as mx

from weights.architecture.vae import Block, EncoderConfig
from workers.networks import statistics as channels
from workers.networks.convolution import conv3d
from workers.networks.ops import Weights
from workers.networks.vae_ops import (
    Layer,
    Mode,
    Watch,
    patchify,
    pixel_norm,
    residual_block,
    residual_layers,
    silu,
    space_to_depth,
)


def encode(
    weights: Weights, config: EncoderConfig, statistics: Weights, pixels: mx.array, watch: Watch = lambda _: None
) -> mx.array:
    """pixels [1, 8k + 1, 32h, 32w, 3] in [-1, 1] -> latent [1, k + 1, h, w, 128], in the dtype of the pixels."""
    mode = Mode("causal", "reflect" if config.padding == "reflect" else "zeros", watch)
    x = conv3d(weights, "conv_in.conv", patchify(pixels, config.patch), mode.time, mode.space)
    for index, block in enumerate(config.blocks):
        for layer in _layers(weights, f"down_blocks.{index}", block, mode, x.dtype):
            x = layer(x)
            watch(x)
    # The log-variance behind the means is not needed, and 128 outputs run faster on Metal than 129.
    last = {name: weights[name][: config.latent_channels] for name in ("conv_out.conv.weight", "conv_out.conv.bias")}
    x = conv3d(last, "conv_out.conv", silu(pixel_norm(x)), mode.time, mode.space)
    return channels.normalise(statistics, x)


def _layers(weights: Weights, name: str, block: Block, mode: Mode, dtype: mx.Dtype) -> list[Layer]:
    if block.kind == "res":
        return residual_layers(weights, name, block, mode, dtype)
    if block.kind == "res_y":
        return [partial(residual_block, weights, name, block, mode, None)]
    if block.kind == "conv":
        return [lambda x: conv3d(weights, f"{name}.conv", x, mode.time, mode.space, block.stride)]
    return [partial(_downsample, weights, name, block, mode)]


def _downsample(weights: Weights, name: str, block: Block, mode: Mode, x: mx.array) -> mx.array:
    """Space to depth of a convolution, plus that of the input averaged over groups of consecutive channels."""
    if block.stride[0] == 2:
        x = mx.concatenate([x[:, :1], x], axis=1)
    skip = space_to_depth(x, block.stride)
    skip = skip.reshape(*skip.shape[:-1], block.outputs, -1).mean(axis=-1)
    return space_to_depth(conv3d(weights, f"{name}.conv.conv", x, mode.time, mode.space), block.stride) + skip
