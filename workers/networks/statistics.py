"""Per-channel statistics of the latent space: the transformer sees normalised latents, decoder and upsamplers raw ones.

Computed in float32 whatever the dtype of the latent, and returned in that dtype.
"""

from __future__ import annotations

import mlx.core as mx

from workers.networks.ops import Weights


def normalise(statistics: Weights, x: mx.array) -> mx.array:
    """(x - mean) / std over the last axis, the channels. `statistics`: names after `vae.per_channel_statistics.`"""
    mean, std = _rows(statistics)
    return ((x.astype(mx.float32) - mean) / std).astype(x.dtype)


def unnormalise(statistics: Weights, x: mx.array) -> mx.array:
    """x * std + mean over the last axis, the channels."""
    mean, std = _rows(statistics)
    return (x.astype(mx.float32) * std + mean).astype(x.dtype)


def _rows(statistics: Weights) -> tuple[mx.array, mx.array]:
    mean, std = statistics["mean-of-means"], statistics["std-of-means"]
    return mean.astype(mx.float32), std.astype(mx.float32)
