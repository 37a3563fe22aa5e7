"""A transformer, its prompts and its guidance as one function of latent and sigma, for the denoising loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import mlx.core as mx

from weights.architecture.transformer import TransformerConfig
from workers.networks import transformer
from workers.networks.modulation import Timesteps
from workers.networks.ops import Weights
from workers.networks.pace import Pace
from workers.networks.rope import Floats
from workers.networks.transformer import Pass, Tokens
from workers.sampling.denoise import Predict
from workers.sampling.guidance import Guidance, guide

KEEP_TEXT_BYTES = 64 << 20
"""Text keys and values are kept over a run's steps up to this size in any case. It changes no bit of a result."""


def make_predictor(
    config: TransformerConfig,
    top: Weights,
    blocks: Callable[[], Iterable[Weights]],
    positive: mx.array,
    negative: mx.array | None,
    positions: Floats,
    guidance: Guidance,
    dtype: mx.Dtype,
    *,
    mask: Floats | None = None,
    after_block: Callable[[int], None] = lambda index: None,
    pace: Pace = "whole",
    keep_text: bool = False,
) -> Predict:
    """predict(latent [1, tokens, channels], sigma) -> guided x0, float32.

    `top` are the weights outside the blocks; `blocks()` is called once per step and gives each block's
    weights in turn (`ops.blocks` for resident ones). `positive` and `negative` are contexts [1, text tokens,
    width]; the negative one is needed, and used, only with CFG. `positions` [3, tokens, 2] as from
    `rope.video_positions(grid, fps)`. `mask` [1, tokens] (1 generate, 0 keep) makes each token's timestep. `pace`: see
    `pace`. `keep_text`: text keys and values of all blocks stay in memory, instead of being made anew at each step.
    """
    if guidance.needs_negative and negative is None:
        raise ValueError("CFG needs a negative context")
    run = transformer.streams(config, positions, dtype)
    keep = keep_text or _text_bytes(config, positive.shape[1], dtype) * (1 + guidance.needs_negative) <= KEEP_TEXT_BYTES
    prompt = transformer.prepare_prompt(config, top, (positive,), dtype, keep)
    passes = [Pass(prompt)]
    if guidance.needs_negative and negative is not None:
        passes.append(Pass(transformer.prepare_prompt(config, top, (negative,), dtype, keep)))
    if guidance.needs_perturbed:
        passes.append(Pass(prompt, perturbed=(frozenset(guidance.stg_blocks),)))
    levels = Timesteps.uniform(1.0) if mask is None else Timesteps.per_token(mask)

    def predict(latent: mx.array, sigma: float) -> mx.array:
        timesteps = levels.times(sigma)
        tokens = (Tokens(latent.astype(dtype), timesteps, sigma),)
        found = transformer.velocity(config, top, blocks(), run, passes, tokens, after_block, pace)
        x0 = [transformer.denoised(latent, velocity, timesteps) for (velocity,) in found]
        rest = iter(x0[1:])
        unguided = next(rest) if guidance.needs_negative else None
        perturbed = next(rest) if guidance.needs_perturbed else None
        return guide(guidance, x0[0], unguided, perturbed)

    return predict


def _text_bytes(config: TransformerConfig, text_tokens: int, dtype: mx.Dtype) -> int:
    if config.cross_attention_adaln:
        return 0
    return config.num_layers * 2 * text_tokens * config.inner_dim * dtype.size
