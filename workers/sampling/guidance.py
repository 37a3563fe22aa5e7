"""Guidance on x0: away from the negative prompt (CFG), away from a perturbed network (STG), and a rescaled result.

    x = c + (cfg - 1) (c - n) + stg (c - p)          c positive, n negative prompt, p perturbed self-attention
    x = x * (r std(c) / std(x) + 1 - r)              r rescale, std over the whole tensor

As ltx-core 1.0.0; the arithmetic is float32, as in its later releases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mlx.core as mx


@dataclass(frozen=True)
class Guidance:
    """cfg 1 and stg 0 are off and cost nothing; `stg_blocks` are the blocks whose self-attention is
    perturbed."""

    cfg: float = 1.0
    rescale: float = 0.0
    stg: float = 0.0
    stg_blocks: tuple[int, ...] = ()

    @property
    def needs_negative(self) -> bool:
        return not math.isclose(self.cfg, 1.0)

    @property
    def needs_perturbed(self) -> bool:
        return not math.isclose(self.stg, 0.0)


def guide(
    guidance: Guidance, positive: mx.array, negative: mx.array | None = None, perturbed: mx.array | None = None
) -> mx.array:
    """The guided x0 of predictions of one shape, float32. A term whose prediction is None is left out."""
    positive = positive.astype(mx.float32)
    guided = positive
    if negative is not None:
        guided = guided + (guidance.cfg - 1) * (positive - negative)
    if perturbed is not None:
        guided = guided + guidance.stg * (positive - perturbed)
    if guidance.rescale != 0:
        factor = mx.std(positive, ddof=1) / mx.std(guided, ddof=1)
        guided = guided * (guidance.rescale * factor + (1 - guidance.rescale))
    return guided
