"""Adds LoRAs to a weight: W + the sum of strength * (B @ A).

Taken as ltx-core 1.0.0 takes it: each product in the LoRA's dtype, cast to the weight's, the products added up, and the
sum added to the weight. For float32 weights (on a CPU, or decoded ones) everything is float32. Each weight is changed
by itself: a whole transformer that is changed at once and blocks that are changed one by one on their way in have the
same bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np


def scaled(strength: float, alpha: mx.array | None, rank: int) -> float:
    """The factor of a pair: the strength, times alpha / rank where there is an alpha."""
    return strength if alpha is None else strength * float(np.array(alpha.astype(mx.float32)).item()) / rank


def product(a: mx.array, b: mx.array, factor: float, dtype: mx.Dtype) -> mx.array:
    """factor * (b [out, rank] @ a [rank, in]) for a weight of that dtype; not evaluated."""
    if dtype == mx.float32:
        a, b = a.astype(mx.float32), b.astype(mx.float32)
    # The factor itself is not rounded to 16 bits, as MLX would do with a number.
    return ((b.astype(mx.float32) * factor).astype(b.dtype) @ a).astype(dtype)


def add(weight: mx.array, products: Sequence[mx.array]) -> mx.array:
    """The weight with all products on it, in its dtype; not evaluated."""
    if len(products) == 1:
        return weight + products[0]
    total = products[0].astype(mx.float32)
    for one in products[1:]:
        total = total + one.astype(mx.float32)
    return weight + total.astype(products[0].dtype)
