"""Latents as artifacts keep them, [1, channels, frames, height, width], and as tokens, [1, tokens, channels]."""

from __future__ import annotations

import math

import mlx.core as mx

Grid = tuple[int, int, int]
"""Latent frames, height, width; tokens run over width fastest."""


def to_tokens(latent: mx.array) -> mx.array:
    batch, channels = latent.shape[:2]
    return latent.reshape(batch, channels, -1).swapaxes(1, 2)


def from_tokens(tokens: mx.array, grid: Grid) -> mx.array:
    """Tokens beyond the grid (appended conditioning) are cut off."""
    batch, _, channels = tokens.shape
    return tokens[:, : math.prod(grid)].swapaxes(1, 2).reshape(batch, channels, *grid)
