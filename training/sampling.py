"""Schedules of noise levels, and the Euler sampler that looks at what a network has learnt."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from ltx_core.components.schedulers import LTX2Scheduler
from torch import Tensor, nn

from training import networks
from training.configuration import LATENT_CHANNELS
from training.device import DEVICE, autocast


def schedule(steps: int) -> list[float]:
    """The LTX-2 scheduler's noise levels, 1 to 0, for its default number of tokens."""
    return LTX2Scheduler().execute(steps).tolist()


def random_sigmas(count: int, mean: float = 1.1) -> Tensor:
    """Noise levels to train at, `[count]`: logit-normal, with a uniform part and one close to pure noise."""
    normal = torch.sigmoid(torch.randn(count, device=DEVICE) * 1.2 + mean)
    flat = torch.rand(count, device=DEVICE)
    sigmas = torch.where(torch.rand(count, device=DEVICE) < 0.15, flat, normal)
    near_one = 1 - 0.03 * flat * flat
    return torch.where(torch.rand(count, device=DEVICE) < 0.06, near_one, sigmas).clamp(1e-3, 1.0)


def sigma_mean(cells: int) -> float:
    """`random_sigmas`' mean for frames of that many latent cells: larger pictures need more noise to be destroyed."""
    return 1.1 if cells < 60 else 1.4


@torch.no_grad()
def sample(
    model: nn.Module,
    contexts: Tensor,
    sigmas: Sequence[float],
    shape: tuple[int, int, int],
    *,
    negative: Tensor | None = None,
    cfg: float = 1.0,
    start: Tensor | None = None,
    fps: float = 24.0,
    seed: int = 0,
) -> Tensor:
    """Normalised latents `[batch, 128, *shape]` for contexts `[batch, 1024, 96]`.

    start: latents to begin from, noised to the first sigma; without it, from noise. cfg: guidance against `negative`
    `[1, 1024, 96]`; 1 is none.
    """
    batch, tokens = len(contexts), shape[0] * shape[1] * shape[2]
    generator = torch.Generator(device=DEVICE).manual_seed(seed)
    x = torch.randn(batch, tokens, LATENT_CHANNELS, device=DEVICE, generator=generator)
    if start is not None:
        x = x * sigmas[0] + networks.to_tokens(start) * (1 - sigmas[0])
    positions = networks.make_positions(shape, torch.full((batch,), fps, device=DEVICE))
    for sigma, following in itertools.pairwise(sigmas):
        level = torch.full((batch,), sigma, device=DEVICE)
        with autocast():
            v = networks.velocity(model, x, level, contexts, positions).float()
            if cfg != 1 and negative is not None:
                against = networks.velocity(model, x, level, negative.expand(batch, -1, -1), positions).float()
                v = against + cfg * (v - against)
        x = x + (following - sigma) * v
    return networks.from_tokens(x, shape)
