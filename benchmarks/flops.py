"""How much there is to compute in LTX-2's video transformer, in floating-point operations. Pure.

A product of [m, k] and [k, n] counts 2 m k n: a multiplication and an addition. Counted are the blocks' matrix products
and attention, which is all but a thousandth; norms, rotary turns and the patch layers are not.
"""

from __future__ import annotations

from weights.architecture.transformer import TransformerConfig

TEXT_TOKENS = 1024
"""Registers fill a text's context up to so many."""


def forward(
    config: TransformerConfig, tokens: int, *, keep_text: bool = False, text_tokens: int = TEXT_TOKENS
) -> float:
    """Of one guidance pass over so many tokens. keep_text: the text's keys and values are there from an earlier step.

    Per block and token: queries, keys, values and output of self-attention (4 w^2), query and output of the attention
    to the text (2 w^2), a feed-forward of 4 w and back (8 w^2); per token of text its key and value (2 w^2); and in
    both attentions a score and a weighted sum (2 w) for every pair.
    """
    width = config.inner_dim
    linear = tokens * 14 * width**2
    text = 0 if keep_text else text_tokens * 2 * width**2
    pairs = (tokens**2 + tokens * text_tokens) * 2 * width
    return 2.0 * config.num_layers * (linear + text + pairs)


def tokens(height: int, width: int, frames: int) -> int:
    """Latent positions of a video: 32 x 32 pixels, the first frame alone and then 8 at a time."""
    return ((frames - 1) // 8 + 1) * (height // 32) * (width // 32)
