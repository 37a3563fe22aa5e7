"""How sigma enters the transformer: sinusoids of the timestep, adaLN parameters, and the rows that blocks take

The adaLN-single of PixArt-alpha (https://arxiv.org/abs/2310.00426, section 2.3) as ltx-core 1.0.0 has it.
Tokens may have timesteps of their own (conditioned tokens are less noisy or clean), but few distinct ones:
parameters are computed once per distinct value and gathered per token only where a block uses them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from workers.networks.ops import Weights, linear

Floats = NDArray[np.float32]

_WIDTH = 256
_MAX_PERIOD = 10000.0


@dataclass(frozen=True)
class Timesteps:
    """Noise levels of a batch of tokens: distinct `levels` [count], and which one each token has.

    `index` [batch, tokens] (batch may be 1), or None when there is one level for all.
    """

    levels: Floats
    index: mx.array | None = None

    @staticmethod
    def uniform(sigma: float) -> Timesteps:
        return Timesteps(np.array([sigma], np.float32))

    @staticmethod
    def per_token(values: Floats) -> Timesteps:
        """From a value per token [batch, tokens]."""
        levels, index = np.unique(values.astype(np.float32), return_inverse=True)
        if len(levels) == 1:
            return Timesteps(levels)
        return Timesteps(levels, mx.array(index.reshape(values.shape).astype(np.int32)))

    def times(self, sigma: float) -> Timesteps:
        """A denoising mask (1 generate, 0 keep) becomes timesteps."""
        return Timesteps(self.levels * np.float32(sigma), self.index)

    def spread(self, rows: mx.array) -> mx.array:
        """[levels, width] -> [1, 1, width] for all tokens, or [batch, tokens, width]."""
        return rows[None] if self.index is None else rows[self.index]

    def values(self) -> mx.array:
        """The timestep itself, float32, [1, 1, 1] or [batch, tokens, 1]."""
        return self.spread(mx.array(self.levels)[:, None])


@dataclass(frozen=True)
class Adaln:
    """Parameters [levels, rows * width] for the blocks' tables and the vector [levels, width] behind them."""

    parameters: mx.array
    embedded: mx.array
    timesteps: Timesteps

    def rows(self, table: mx.array, first: int, last: int) -> list[mx.array]:
        """Rows `first` to `last - 1` of table [rows, width] + parameters, each [1 or batch, 1 or tokens, width]."""
        width = table.shape[-1]
        parameters = self.parameters[:, first * width : last * width].reshape(-1, last - first, width)
        values = table[first:last].astype(parameters.dtype) + parameters
        return [self.timesteps.spread(values[:, row]) for row in range(last - first)]


def adaln(weights: Weights, name: str, timesteps: Timesteps, scale: float, dtype: mx.Dtype) -> Adaln:
    """Embed `timesteps` times `scale` with the embedder `name`. The sinusoid is float32, the layers run in `dtype`."""
    embedder = f"{name}.emb.timestep_embedder"
    x = mx.array(sinusoid(timesteps.levels * np.float32(scale))).astype(dtype)
    embedded = linear(weights, f"{embedder}.linear_2", _silu(linear(weights, f"{embedder}.linear_1", x)))
    return Adaln(linear(weights, f"{name}.linear", _silu(embedded)), embedded, timesteps)


def sinusoid(timesteps: Floats) -> Floats:
    """[count] -> [count, 256]: 128 cosines, then 128 sines, of float32 angles."""
    half = _WIDTH // 2
    exponents = np.float32(-math.log(_MAX_PERIOD)) * np.arange(half, dtype=np.float32) / np.float32(half)
    rates = np.exp(exponents.astype(np.float64)).astype(np.float32)
    angles = (timesteps.astype(np.float32)[:, None] * rates).astype(np.float64)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32)


def _silu(x: mx.array) -> mx.array:
    return x * mx.sigmoid(x)
