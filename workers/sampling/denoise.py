"""The denoising loop: Euler's method on the flow from noise to a latent.

One call of `predict` per step, one callback after it: the seam for progress, checkpoints and previews.
Between steps the latent has the compute dtype; within a step everything is float32. A run that goes on at
step k from the latent that the callback got after k steps ends in the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import mlx.core as mx
import numpy as np

from weights.errors import WorkerFailed
from workers.sampling.schedules import Sigmas

Predict = Callable[[mx.array, float], mx.array]
"""(latent [1, tokens, channels], sigma) -> x0, float32"""

OnStep = Callable[[int, int, mx.array, float], None]
"""(steps done, steps in all, latent, seconds of the step)"""


def denoise(
    predict: Predict,
    latent: mx.array,
    sigmas: Sigmas,
    *,
    start: int = 0,
    mask: mx.array | None = None,
    clean: mx.array | None = None,
    on_step: OnStep = lambda done, total, latent, seconds: None,
) -> mx.array:
    """From the latent at `sigmas[start]` to the one at the last sigma, in its dtype.

    With `mask` [1, tokens, 1] (1 generate, 0 keep) and `clean` [1, tokens, channels], kept tokens are set to
    `clean` before each step. WorkerFailed when a step's result is not finite.
    """
    total = len(sigmas) - 1
    for index in range(start, total):
        began = time.monotonic()
        x0 = predict(latent, float(sigmas[index]))
        if mask is not None and clean is not None:
            x0 = x0 * mask + clean.astype(mx.float32) * (1 - mask)
        latent = euler(latent, x0, sigmas[index], sigmas[index + 1])
        if not mx.isfinite(latent).all().item():
            raise WorkerFailed(
                f"Step {index + 1} of {total} gave values that are not finite.",
                advice="A lower --cfg, a weaker --lora or --dtype float32 may help; so may fetching the weights anew.",
            )
        on_step(index + 1, total, latent, time.monotonic() - began)
    return latent


def euler(latent: mx.array, x0: mx.array, sigma: np.float32, sigma_next: np.float32) -> mx.array:
    """x + (x - x0) / sigma * (sigma_next - sigma); float32, in the latent's dtype."""
    x = latent.astype(mx.float32)
    velocity = (x - x0.astype(mx.float32)) / float(sigma)
    return (x + velocity * float(sigma_next - sigma)).astype(latent.dtype)
