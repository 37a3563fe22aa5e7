"""8-bit floats (E4M3: 4 bits of exponent, 3 of mantissa, no infinity, largest 448) with one factor per weight.

As the official fp8 checkpoints have them: value = float(weight) * weight_scale. Weights stay in 8 bits in memory and
are decoded where they are used, so that such a checkpoint takes half of the memory that 16 bits take.
"""

from __future__ import annotations

import mlx.core as mx

LARGEST = 448.0


def decode(weight: mx.array, scale: mx.array, dtype: mx.Dtype) -> mx.array:
    """uint8 codes and their factor (one float32 value) -> the values, rounded to `dtype` once."""
    if dtype == mx.float16:  # 448 times a large factor may leave its range before it is multiplied
        return (mx.from_fp8(weight, mx.float32) * scale.reshape(())).astype(dtype)
    # Every code is exact in bfloat16: the factor is applied in float32, in one pass over the values.
    return _scaled(mx.from_fp8(weight, dtype), scale.reshape(()))


def encode(weight: mx.array) -> tuple[mx.array, mx.array]:
    """Values -> (uint8 codes, float32 factor): the largest value becomes 448, as in ltx-core 1.0.0."""
    values = weight.astype(mx.float32)
    largest = mx.abs(values).max()
    scale = mx.where(largest > 0, largest / LARGEST, mx.array(1.0))
    return mx.to_fp8(values / scale), scale


def _scale(values: mx.array, scale: mx.array) -> mx.array:
    return (values.astype(mx.float32) * scale).astype(values.dtype)


_compiled = mx.compile(_scale)


def _scaled(values: mx.array, scale: mx.array) -> mx.array:
    """On a CPU MLX would call a C++ compiler, for no gain."""
    return (_compiled if mx.default_device().type == mx.DeviceType.gpu else _scale)(values, scale)
