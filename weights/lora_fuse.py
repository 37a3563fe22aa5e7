"""Adds LoRAs to weights: W + strength * (B @ A), tensor by tensor, in place.

The product is taken as ltx-core 1.0.0 takes it: in the LoRA's dtype, then cast to the weight's and added. For float32
weights (on a CPU) everything is float32. The same call serves a whole transformer and, with `match.within(prefix)`, one
block on its way in: with the same result, since each weight is changed by itself.
"""

from __future__ import annotations

import mlx.core as mx

from weights.lora import LoraMatch
from weights.reader import OnRead, stored_arrays


def fuse(weights: dict[str, mx.array], match: LoraMatch, strength: float, *, on_read: OnRead | None = None) -> None:
    """Replaces each matched weight by its changed self; at most one weight is in memory twice."""
    halves = [half for pair in match.pairs.values() for half in pair]
    with stored_arrays(match.path, match.signature, halves) as arrays:
        for name, pair in match.pairs.items():
            a, b = arrays.pop(pair.a.name), arrays.pop(pair.b.name)
            mx.eval(a, b)
            if on_read is not None:
                on_read(match.path, pair.a.info.nbytes + pair.b.info.nbytes)
            weight = weights[name]
            if weight.dtype == mx.float32:
                a, b = a.astype(mx.float32), b.astype(mx.float32)
            weights[name] = weight + ((b * strength) @ a).astype(weight.dtype)
            mx.eval(weights[name])
            del weight, a, b
