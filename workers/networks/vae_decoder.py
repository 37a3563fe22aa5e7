"""The video VAE's decoder: normalised latents to pixels (as ltx-core 1.0.0, `VideoDecoder`).

It un-normalises by itself. Deterministic, unless the config asks for noise: then `noise` is its only source.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import mlx.core as mx

from weights.architecture.vae import Block, DecoderConfig
from weights.errors import WeightsError
from workers.networks import statistics as channels
from workers.networks.convolution import conv3d, convolve, surround
from workers.networks.ops import Weights, modulate
from workers.networks.vae_ops import (
    Layer,
    Mode,
    Noise,
    Watch,
    depth_to_space,
    embed_timestep,
    pixel_norm,
    residual_block,
    residual_layers,
    silu,
    unpatchify,
)

_NOISE_SHARE = 0.025
_TIMESTEP = 0.05
"""What a decoder with timestep conditioning takes for the noise in its input, and its level."""


def decode(
    weights: Weights,
    config: DecoderConfig,
    statistics: Weights,
    latent: mx.array,
    noise: Noise | None = None,
    watch: Watch = lambda _: None,
) -> mx.array:
    """latent [1, k + 1, h, w, 128] -> pixels [1, 8k + 1, 32h, 32w, 3], about [-1, 1], in the latent's dtype.

    noise: needed when `config.needs_noise`. It is asked for the latent's noise as [1, 128, k + 1, h, w], then for
    a plane [height, width] after each convolution of the blocks that inject noise.
    """
    if config.needs_noise and noise is None:
        raise WeightsError("This video decoder draws noise (timestep_conditioning or inject_noise); it was given none.")
    x = latent
    timestep = None
    if config.timestep and noise is not None:
        _, frames, height, width, count = latent.shape
        drawn = noise((1, count, frames, height, width)).transpose(0, 2, 3, 4, 1).astype(x.dtype)
        x = _NOISE_SHARE * drawn + (1 - _NOISE_SHARE) * x
        multiplier: Any = weights["timestep_scale_multiplier"].astype(mx.float32).item()
        timestep = _TIMESTEP * multiplier
    mode = Mode(
        "causal" if config.causal else "centred",
        "reflect" if config.padding == "reflect" else "zeros",
        watch,
        timestep,
        noise,
    )
    x = conv3d(weights, "conv_in.conv", channels.unnormalise(statistics, x), mode.time, mode.space)
    for index, block in enumerate(config.blocks):
        for layer in _layers(weights, f"up_blocks.{index}", block, mode, x.dtype):
            x = layer(x)
            watch(x)
    x = pixel_norm(x)
    if config.timestep:
        embedded = embed_timestep(weights, "last_time_embedder", mode, x.dtype).reshape(2, -1)
        shift, scale = weights["last_scale_shift_table"].astype(x.dtype) + embedded
        x = modulate(x, scale, shift)
    surrounded = surround(weights, "conv_out.conv", silu(x), mode.time, mode.space)
    del x
    watch(surrounded.x)
    return unpatchify(convolve(weights, "conv_out.conv", surrounded), config.patch)


def _layers(weights: Weights, name: str, block: Block, mode: Mode, dtype: mx.Dtype) -> list[Layer]:
    if block.kind == "res":
        return residual_layers(weights, name, block, mode, dtype)
    if block.kind == "res_y":
        return [partial(residual_block, weights, name, block, mode, None)]
    return [partial(_upsample, weights, name, block, mode)]


def _upsample(weights: Weights, name: str, block: Block, mode: Mode, x: mx.array) -> mx.array:
    """Depth to space of a convolution; with a residual, plus that of the input, its channels repeated as a whole.

    Doubling time gives 2n frames, of which the first is dropped: the first latent frame stands for one frame only.
    """
    start = 1 if block.stride[0] == 2 else 0
    surrounded = surround(weights, f"{name}.conv.conv", x, mode.time, mode.space)
    mode.watch(surrounded.x)
    y = convolve(weights, f"{name}.conv.conv", surrounded)
    del surrounded
    mode.watch(y)
    y = depth_to_space(y, block.stride)[:, start:]
    if not block.residual:
        return y
    skip = depth_to_space(x, block.stride)[:, start:]
    return (y.reshape(*y.shape[:-1], -1, skip.shape[-1]) + skip[..., None, :]).reshape(y.shape)
