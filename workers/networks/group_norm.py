"""Group normalisation of a video that comes in pieces: statistics first, over all of them, then the application.

Guarantees: mean and variance are those of all frames and pixels together, whatever the pieces are. Each frame's are
taken by themselves in float32, as a mean and then the mean square of the deviations from it (two passes); frames are
of one size, so that means over frames join them, in float64. Not guaranteed: the bits of a sum over everything.
"""

from __future__ import annotations

from collections.abc import Iterable

import mlx.core as mx
import numpy as np

from workers.networks.ops import Weights, fused
from workers.networks.pace import settled

EPS = 1e-5

Statistics = tuple[mx.array, mx.array]
"""Mean and variance: float32, [frames, 1, 1, groups, 1], or with 1 instead of frames where all frames share them."""


def frame_statistics(x: mx.array, groups: int) -> Statistics:
    """Of each frame and each group of consecutive channels of x [frames, height, width, channels]."""
    grouped = x.reshape(*x.shape[:-1], groups, -1)
    axes = [1, 2, 4]
    mean = grouped.astype(mx.float32).mean(axis=axes, keepdims=True)
    settled(mean)  # one copy in float32 at a time
    return mean, _squared_distance(grouped, mean).mean(axis=axes, keepdims=True)


def over_all_frames(pieces: Iterable[Statistics]) -> Statistics:
    """The statistics of all frames together, from those of each: E[var] + Var[mean]."""
    means, variances = zip(
        *((np.array(mean, np.float64), np.array(var, np.float64)) for mean, var in pieces), strict=True
    )
    each, spread = np.concatenate(means), np.concatenate(variances)
    mean = each.mean(axis=0, keepdims=True)
    variance = spread.mean(axis=0, keepdims=True) + np.square(each - mean).mean(axis=0, keepdims=True)
    return mx.array(mean.astype(np.float32)), mx.array(variance.astype(np.float32))


def apply(weights: Weights, name: str, x: mx.array, statistics: Statistics) -> mx.array:
    """(x - mean) / sqrt(variance + 1e-5) * weight + bias, in float32; back in the dtype of x, [frames, ...]."""
    mean, variance = (_per_channel(one, x.shape[-1]) for one in statistics)
    weight, bias = weights[f"{name}.weight"].astype(mx.float32), weights[f"{name}.bias"].astype(mx.float32)
    return _normed(x, mean, mx.rsqrt(variance + EPS) * weight, bias)


def _per_channel(statistic: mx.array, channels: int) -> mx.array:
    """[frames, 1, 1, groups, 1] -> [frames, 1, 1, channels]"""
    frames, _, _, groups, _ = statistic.shape
    return mx.repeat(statistic.reshape(frames, 1, 1, groups), channels // groups, axis=-1)


@fused
def _squared_distance(x: mx.array, mean: mx.array) -> mx.array:
    return mx.square(x.astype(mx.float32) - mean)


@fused
def _normed(x: mx.array, mean: mx.array, factor: mx.array, bias: mx.array) -> mx.array:
    return ((x.astype(mx.float32) - mean) * factor + bias).astype(x.dtype)
