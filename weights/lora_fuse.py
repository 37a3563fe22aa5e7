"""Adds LoRAs to weights: W + strength * (B @ A), tensor by tensor.

The product is taken as ltx-core 1.0.0 takes it: in the LoRA's dtype, then cast to the weight's and added. For float32
weights (on a CPU, or decoded ones) everything is float32. Each weight is changed by itself: a whole transformer that is
changed at once and blocks that are changed one by one on their way in have the same bits.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from weights.lora import LoraMatch
from weights.reader import OnRead, stored_arrays


def fuse(weights: dict[str, mx.array], match: LoraMatch, strength: float, *, on_read: OnRead | None = None) -> None:
    """Replaces each matched weight by its changed self; at most one weight is in memory twice."""
    halves = [half for pair in match.pairs.values() for half in pair.stored]
    with stored_arrays(match.path, match.signature, halves) as arrays:
        for name, pair in match.pairs.items():
            a, b = arrays.pop(pair.a.name), arrays.pop(pair.b.name)
            alpha = None if pair.alpha is None else arrays.pop(pair.alpha.name)
            mx.eval(a, b, alpha)
            if on_read is not None:
                on_read(match.path, sum(stored.info.nbytes for stored in pair.stored))
            weights[name] = add(weights[name], a, b, scaled(strength, alpha, pair.rank))
            mx.eval(weights[name])
            del a, b


def scaled(strength: float, alpha: mx.array | None, rank: int) -> float:
    """The factor of a pair: the strength, times alpha / rank where there is an alpha."""
    return strength if alpha is None else strength * float(np.array(alpha.astype(mx.float32)).item()) / rank


def add(weight: mx.array, a: mx.array, b: mx.array, factor: float) -> mx.array:
    """weight [out, in] + factor * (b [out, rank] @ a [rank, in]), in the weight's dtype; not evaluated."""
    if weight.dtype == mx.float32:
        a, b = a.astype(mx.float32), b.astype(mx.float32)
    return weight + ((b * factor) @ a).astype(weight.dtype)
