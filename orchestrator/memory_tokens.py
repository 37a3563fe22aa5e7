"""Activations of the networks that work on tokens: the transformer, and the text path. Pure arithmetic."""

from __future__ import annotations

import re

from orchestrator.memory_backends import ITEM_BYTES, Backend
from orchestrator.sizes import LATENT_CHANNELS
from weights.architecture.connector import ConnectorConfig
from weights.architecture.gemma import GemmaConfig
from weights.architecture.projection import ProjectionConfig
from weights.architecture.transformer import TransformerConfig

TEXT_TOKENS = 1024
KEEP_TEXT_BYTES = 64 << 20
"""As in workers/sampling/predictor.py; a test compares them."""
_FEED_FORWARD = 4
_DIGIT_OR_MARK = re.compile(r"[0-9]|[^\w\s]|[^\x00-\x7f]", re.ASCII)
_WORD = re.compile(r"[A-Za-z_]+")
_BREAK = re.compile(r"[^\S ]+| {2,}")


def transformer_activations(
    config: TransformerConfig,
    tokens: int,
    passes: int,
    prompts: int,
    backend: Backend,
    dtype: str,
    pace: str = "whole",
    keep_text: bool = False,
) -> int:
    """Bytes at the peak of a denoising step, with rotary tables and all that is kept between steps.

    passes: evaluations of the network per step; prompts: how many of the two contexts they need; pace, keep_text:
    of `memory.Holding`.
    """
    size = ITEM_BYTES[dtype]
    one = tokens * config.inner_dim * size
    units = {"parts": backend.part_units, "ahead": backend.ahead_units}.get(pace, backend.block_units)
    inside = one * (units + backend.pass_units * passes)
    least, most = backend.scratch
    inside += min(most, max(least, backend.scratch_units * one))
    if dtype not in backend.fused_attention:
        inside += config.num_attention_heads * tokens * max(tokens, TEXT_TOKENS) * size
    latents = (passes + 4) * tokens * LATENT_CHANNELS * 4
    contexts = prompts * TEXT_TOKENS * (config.inner_dim + 2 * config.context_channels) * size
    return int(inside) + latents + contexts + kept_text(config, prompts, dtype, keep_text)


def kept_text(config: TransformerConfig, prompts: int, dtype: str, keep: bool = False) -> int:
    """Text keys and values: of all blocks where that is little or asked for, else of one block."""
    block = 2 * TEXT_TOKENS * config.inner_dim * ITEM_BYTES[dtype]
    if config.cross_attention_adaln:
        return 2 * block
    kept = prompts * config.num_layers * block
    return kept if keep or kept <= KEEP_TEXT_BYTES else 2 * block


def count_tokens(text: str) -> int:
    """At most so many tokens has a text: every digit, mark and byte of another script one, words one per two letters, a
    line break or a wider gap one per character.

    A bound and not a count, because reading Gemma's tokenizer takes longer than a plan may. Letters that make no words
    (keys, hashes) may have up to twice as many.
    """
    words = sum((len(word) + 1) // 2 for word in _WORD.findall(text))
    others = sum(len(mark.encode("utf-8", "replace")) for mark in _DIGIT_OR_MARK.findall(text))
    gaps = sum(map(len, _BREAK.findall(text)))
    return min(TEXT_TOKENS, 2 + words + others + gaps)


def gemma_activations(config: GemmaConfig, tokens: tuple[int, ...], backend: Backend, dtype: str) -> int:
    """Inside a layer, for the longer prompt: they take turns."""
    size = ITEM_BYTES[dtype]
    inside = max(tokens) * config.intermediate_size * size * backend.gemma_units
    if dtype not in backend.fused_attention:
        inside += config.num_attention_heads * max(tokens) ** 2 * size
    return int(inside)


def gemma_states(config: GemmaConfig, tokens: tuple[int, ...], dtype: str) -> int:
    """All hidden states of both prompts, and the last one's normalised copy."""
    return (config.num_hidden_layers + 3) * sum(tokens) * config.hidden_size * ITEM_BYTES[dtype]


def projection_activations(config: ProjectionConfig, tokens: tuple[int, ...], backend: Backend, dtype: str) -> int:
    """The longest prompt's states side by side, where they are multiplied, and the features."""
    flat = max(tokens) * config.hidden_size * config.num_states
    return int((backend.flat_units * flat + 2 * sum(tokens) * config.video_dim) * ITEM_BYTES[dtype])


def connector_activations(config: ConnectorConfig, backend: Backend, dtype: str) -> int:
    """A block over the whole context, and both contexts."""
    one = TEXT_TOKENS * config.inner_dim * ITEM_BYTES[dtype]
    scores = 0 if dtype in backend.fused_attention else config.num_attention_heads * TEXT_TOKENS**2 * ITEM_BYTES[dtype]
    return int(one * (backend.block_units + backend.pass_units + 2)) + scores
