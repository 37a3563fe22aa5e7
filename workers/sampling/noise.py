"""The noise that sampling starts from: the same for a seed on every machine, or given in a file.

Drawn in float32 from numpy's Philox generator keyed by (seed, stage), in the latent's layout [1, channels,
frames, height, width], so that the stages are independent and none depends on the backend or its
dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from weights.errors import UsageError

Floats = NDArray[np.float32]

_STREAMS: Mapping[str, int] = {"stage1": 1, "stage2": 2, "decode": 3}


def noise(seed: int, stage: str, shape: tuple[int, ...]) -> Floats:
    """Standard normal values for `stage` ("stage1", "stage2" or "decode"). Seeds are taken modulo 2^64."""
    return _generator(seed, stage).standard_normal(shape, dtype=np.float32)


def noise_source(seed: int, stage: str) -> Callable[[tuple[int, ...]], mx.array]:
    """Values call after call, which follow each other in one stream: for networks that draw noise inside."""
    generator = _generator(seed, stage)
    return lambda shape: mx.array(generator.standard_normal(shape, dtype=np.float32))


def _generator(seed: int, stage: str) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, _STREAMS[stage]], dtype=np.uint64)))


def noise_from_file(path: Path, stage: str, shape: tuple[int, ...]) -> Floats:
    """The tensor named `stage` of a safetensors file. UsageError when it is not there, not float32 or
    misshapen."""
    try:
        with safe_open(str(path), framework="numpy") as file:
            names = list(file.keys())
            if stage not in names:
                raise UsageError(f"The noise file {path} has no tensor {stage!r}; it has {', '.join(names) or 'none'}.")
            dtype, found = file.get_slice(stage).get_dtype(), tuple(file.get_slice(stage).get_shape())
            if dtype != "F32":
                raise UsageError(f"The tensor {stage!r} of the noise file {path} is {dtype}; it must be F32.")
            if found != shape:
                raise UsageError(
                    f"The tensor {stage!r} of the noise file {path} has the shape {list(found)}; "
                    f"this size and length need {list(shape)}."
                )
            values: Floats = file.get_tensor(stage)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"The noise file {path} cannot be read: {error}") from error
    if not np.isfinite(values).all():
        raise UsageError(f"The tensor {stage!r} of the noise file {path} has values that are not finite.")
    return values


def noised(
    clean: mx.array | None, noise: mx.array, sigma: float, dtype: mx.Dtype, mask: mx.array | None = None
) -> mx.array:
    """sigma * noise + (1 - sigma) * clean, computed in float32; `clean` None is zero.

    `mask` (1 generate, 0 keep) scales sigma for each token. All arrays in the same layout.
    """
    level = mx.array(sigma, dtype=mx.float32) if mask is None else mask.astype(mx.float32) * sigma
    mixed = noise.astype(mx.float32) * level
    if clean is not None:
        mixed = mixed + clean.astype(mx.float32) * (1 - level)
    return mixed.astype(dtype)
