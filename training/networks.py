"""The tiny networks, built from ltx-core 1.0.0's own classes, with the forwards that training needs.

Latents are `[batch, 128, frames, height, width]` in latent cells (8 frames, 32 x 32 pixels each); tokens are the same
numbers as `[batch, frames * height * width, 128]`.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from ltx_core.guidance.perturbations import BatchedPerturbationConfig
from ltx_core.model.transformer.modality import Modality
from ltx_core.model.transformer.model_configurator import LTXVideoOnlyModelConfigurator
from ltx_core.model.upsampler.model_configurator import LatentUpsamplerConfigurator
from ltx_core.model.video_vae.model_configurator import VideoDecoderConfigurator, VideoEncoderConfigurator
from ltx_core.model.video_vae.ops import patchify
from torch import Tensor, nn

from training import fast_vae, files
from training.configuration import CHECKPOINT, LATENT_CHANNELS, UPSAMPLERS
from training.device import DEVICE, autocast


def channels_last(value: Any) -> Any:
    """A network or a batch of videos in the memory layout that 3-D convolutions are fastest in."""
    if isinstance(value, nn.Module):
        return value.to(memory_format=torch.channels_last_3d)
    return value.contiguous(memory_format=torch.channels_last_3d)


# The video VAE


def build_vae() -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder, untrained: neutral statistics, and residual blocks that start as the identity."""
    encoder, decoder = (
        VideoEncoderConfigurator.from_config(CHECKPOINT),
        VideoDecoderConfigurator.from_config(CHECKPOINT),
    )
    for network in (encoder, decoder):
        network.per_channel_statistics.get_buffer("std-of-means").fill_(1.0)
        network.per_channel_statistics.get_buffer("mean-of-means").zero_()
        for block in network.modules():
            if type(block).__name__ == "ResnetBlock3D":
                nn.init.zeros_(block.conv2.conv.weight)
        fast_vae.speed_up(network)
    return encoder, decoder


def load_vae(path: Path) -> tuple[nn.Module, nn.Module]:
    """The trained encoder and decoder of a file that `train_vae` wrote, frozen, on the device."""
    encoder, decoder = build_vae()
    state = files.load(path)
    statistics = {name: value for name, value in state.items() if name.startswith("per_channel_statistics.")}
    for network, prefix in ((encoder, "encoder."), (decoder, "decoder.")):
        own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        network.load_state_dict({**own, **statistics}, strict=True)
        channels_last(network.to(DEVICE)).eval().requires_grad_(False)
    return encoder, decoder


def encode_raw(encoder: nn.Module, video: Tensor) -> tuple[Tensor, Tensor]:
    """Un-normalised means, and the log-variance that all channels share; the arithmetic of the encoder's forward."""
    x = encoder.conv_in(patchify(video, patch_size_hw=encoder.patch_size, patch_size_t=1))
    for block in encoder.down_blocks:
        x = block(x)
    x = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(x)))
    return x[:, :LATENT_CHANNELS], x[:, LATENT_CHANNELS:]


@torch.no_grad()
def encode(encoder: nn.Module, video: Tensor) -> Tensor:
    """Normalised latents of videos `[batch, 3, frames, height, width]` in [-1, 1]."""
    with autocast():
        means = encode_raw(encoder, channels_last(video))[0].float()
    return encoder.per_channel_statistics.normalize(means)


@torch.no_grad()
def decode(decoder: nn.Module, latents: Tensor, batch: int = 8) -> Tensor:
    """Videos of normalised latents, a few at a time."""
    videos = []
    for part in latents.split(batch):
        with autocast():
            videos.append(decoder(channels_last(part)).float())
    return torch.cat(videos)


# The transformer


def build_transformer() -> nn.Module:
    """The video-only transformer, untrained: outputs zero, gates slightly open, cross-attention nearly silent."""
    model = LTXVideoOnlyModelConfigurator.from_config(CHECKPOINT)
    # ltx-core makes this part on the meta device, and expects a checkpoint to fill it.
    model.caption_projection = model.caption_projection.to_empty(device="cpu")
    for linear in (model.caption_projection.linear_1, model.caption_projection.linear_2):
        linear.reset_parameters()
    model.video_args_preprocessor.caption_projection = model.caption_projection
    deviation = model.inner_dim**-0.5
    nn.init.normal_(model.scale_shift_table, std=deviation)
    nn.init.normal_(model.adaln_single.linear.weight, std=0.02)
    nn.init.zeros_(model.adaln_single.linear.bias)
    nn.init.zeros_(model.proj_out.weight)
    nn.init.zeros_(model.proj_out.bias)
    for block in model.transformer_blocks:
        nn.init.normal_(block.scale_shift_table, std=deviation)
        with torch.no_grad():
            block.scale_shift_table[2] += 0.3  # the gate of self-attention
            block.scale_shift_table[5] += 0.3  # the gate of the feed-forward
        nn.init.normal_(block.attn2.to_out[0].weight, std=0.01)
        nn.init.zeros_(block.attn2.to_out[0].bias)
    return model


def load_transformer(path: Path) -> nn.Module:
    model = build_transformer().to(DEVICE)
    model.load_state_dict(files.load(path))
    return model


def velocity(
    model: nn.Module, x: Tensor, sigma: Tensor, contexts: Tensor, positions: Tensor, given: Tensor | None = None
) -> Tensor:
    """The predicted velocity (noise - data) of tokens x at noise levels sigma `[batch]`.

    given: `[batch, tokens]`, 1 for tokens that are conditioning, which are at noise level 0.
    """
    timesteps = sigma[:, None] if given is None else sigma[:, None] * (1 - given)
    video = Modality(latent=x, sigma=sigma, timesteps=timesteps, positions=positions, context=contexts)
    return model(video, None, BatchedPerturbationConfig.empty(x.shape[0]))[0]


@functools.cache
def _cells(frames: int, height: int, width: int) -> Tensor:
    """First and last pixel coordinate of each token's cell, `[1, 3, tokens, 2]`; time in frames: 0-1, 1-9, 9-17."""
    axes = (torch.arange(frames), torch.arange(height), torch.arange(width))
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    cells = torch.stack([grid, grid + 1], -1).float() * torch.tensor([8.0, 32.0, 32.0])[:, None, None]
    cells[0] = (cells[0] - 7).clamp(min=0)
    return cells[None].to(DEVICE)


def make_positions(shape: tuple[int, int, int], fps: Tensor, *, rounded: bool = False) -> Tensor:
    """Positions `[batch, 3, tokens, 2]` of clips with those frame rates `[batch]`, time in seconds.

    rounded: to bfloat16, as the reference pipelines do; the model has seen both.
    """
    positions = _cells(*shape).expand(fps.shape[0], -1, -1, -1).clone()
    positions[:, 0] = positions[:, 0] / fps[:, None, None]
    return positions.to(torch.bfloat16).float() if rounded else positions


def to_tokens(latents: Tensor) -> Tensor:
    return latents.flatten(2).transpose(1, 2)


def from_tokens(tokens: Tensor, shape: tuple[int, int, int]) -> Tensor:
    return tokens.transpose(1, 2).unflatten(2, shape)


# The latent upsamplers


def build_upsampler(kind: str) -> nn.Module:
    """kind: "spatial" (twice the height and width) or "temporal" (2n - 1 of n latent frames)."""
    return LatentUpsamplerConfigurator.from_config(UPSAMPLERS[kind])


def upsample(network: nn.Module, encoder: nn.Module, latents: Tensor) -> Tensor:
    """Normalised latents through an upsampler, which works on un-normalised ones."""
    statistics = encoder.per_channel_statistics
    with autocast():
        larger = network(statistics.un_normalize(latents)).float()
    return statistics.normalize(larger)
