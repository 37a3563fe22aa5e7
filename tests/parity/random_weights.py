"""Random numbers that are the same everywhere and for ever: made from Philox's raw 64-bit stream by arithmetic alone.

numpy guarantees the raw stream of a bit generator, but not what its distributions make of it. So goldens need not hold
weights and inputs, only outputs: the makers and the tests draw the same numbers by name. Uniform, not normal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from math import prod

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Shape = tuple[int, ...]


def uniform(name: str, shape: Shape, low: float = -1.0, high: float = 1.0) -> Floats:
    """Numbers in [low, high) on a grid of 2^-24, decided by the name and the count."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    raw = np.random.Philox(key=key).random_raw(prod(shape))
    unit = (np.asarray(raw, np.uint64) >> np.uint64(40)).astype(np.float64) / 2**24
    return (low + (high - low) * unit).astype(np.float32).reshape(shape)


def noise(name: str, shape: Shape) -> Floats:
    """Mean 0, variance 1."""
    return uniform(name, shape, -(3**0.5), 3**0.5)


def weights(seed: str, tensors: Mapping[str, Shape]) -> dict[str, Floats]:
    """Values for every tensor, of sizes that keep activations near 1: matrices by their fan-in, norms and scales around
    1, biases and tables small, statistics in [0.5, 1.5]."""
    return {name: _value(f"{seed}/{name}", name, shape) for name, shape in tensors.items()}


def _value(key: str, name: str, shape: Shape) -> Floats:
    if name.endswith("timestep_scale_multiplier"):
        return np.array(916.0, np.float32)
    if name.endswith("blur_down.kernel"):
        row = np.array([1, 4, 6, 4, 1], np.float32)
        return (np.outer(row, row) / 256).astype(np.float32).reshape(shape)
    if name.endswith("std-of-means") or (name.endswith("weight") and len(shape) == 1):
        return uniform(key, shape, 0.5, 1.5)
    if name.endswith("weight"):
        bound = (3 / prod(shape[1:])) ** 0.5
        return uniform(key, shape, -bound, bound)
    return uniform(key, shape, -0.3, 0.3)
