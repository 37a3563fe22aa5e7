"""Gemma 3's text model as LTX-2's text encoder: every hidden state of one or more texts, layer by layer.

Guarantees: the numbers of transformers' Gemma3TextModel in float32; layer weights are visited one layer at a
time, each used by every text before the next is asked for, and not referred to afterwards. Only the text's
own tokens are computed: with padding on the left, as the reference has it, none of them sees a pad. Rotation
and norms are float32. Not here: the tokenizer. A text is a list of ids that begins with one `<bos>` and has
no padding, at most 1,024 long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from weights.architecture.gemma import GemmaConfig
from workers.networks.ops import Weights, attention, gelu, join_heads, linear, split_heads
from workers.networks.pace import settled
from workers.networks.rope import turn_halves


def embed(config: GemmaConfig, rows: mx.array, dtype: mx.Dtype) -> mx.array:
    """Rows of `embed_tokens.weight` [tokens, width] -> the first state. The factor is rounded to `dtype` first."""
    return rows.astype(dtype) * mx.array(config.hidden_size**0.5, dtype=mx.float32).astype(dtype)


def hidden_states(
    config: GemmaConfig,
    final_norm: mx.array,
    layers: Iterable[Weights],
    texts: Sequence[mx.array],
    length: int = 1024,
) -> Iterator[list[mx.array]]:
    """Yield, for each of the layers + 1 states, every text's [tokens, width]; evaluated.

    `texts` are embedded (see `embed`), `final_norm` is `norm.weight`, which only the last state has gone
    through. `length` is what the reference pads to: it sets where a text's positions begin, which matters
    only to rounding.
    """
    tables = [_tables(config, text.shape[0], length) for text in texts]
    states = list(texts)
    index = 0
    yield list(states)
    for weights in layers:
        for number, table in enumerate(tables):
            states[number] = layer(config, weights, index, states[number], table)
            settled(states[number])  # one text at a time
        del weights
        index += 1
        if index == config.num_hidden_layers:
            states = [_norm(config, final_norm, x) for x in states]
        mx.eval(states)
        yield list(states)
    if index != config.num_hidden_layers:
        raise ValueError(f"{index} layers were given, Gemma has {config.num_hidden_layers}")


@dataclass(frozen=True)
class Table:
    """Rotary tables [tokens, head size / 2] of one text, float32, and the mask of its sliding layers."""

    full: tuple[mx.array, mx.array]
    sliding: tuple[mx.array, mx.array]
    window: mx.array | None
    """[tokens, tokens], True where a token may look; None while the window is as long as the text."""


def layer(config: GemmaConfig, weights: Weights, index: int, x: mx.array, table: Table) -> mx.array:
    """[tokens, width] -> [tokens, width]"""
    y = _attention(config, weights, index, _norm(config, weights["input_layernorm.weight"], x), table)
    x = x + _norm(config, weights["post_attention_layernorm.weight"], y)
    y = _norm(config, weights["pre_feedforward_layernorm.weight"], x)
    y = gelu(linear(weights, "mlp.gate_proj", y)) * linear(weights, "mlp.up_proj", y)
    return x + _norm(config, weights["post_feedforward_layernorm.weight"], linear(weights, "mlp.down_proj", y))


def _attention(config: GemmaConfig, weights: Weights, index: int, x: mx.array, table: Table) -> mx.array:
    full = config.full_attention[index]
    cos, sin = table.full if full else table.sliding

    def heads(name: str, count: int) -> mx.array:
        return split_heads(linear(weights, f"self_attn.{name}_proj", x)[None], count)

    def turned(name: str, count: int) -> mx.array:
        normed = _norm(config, weights[f"self_attn.{name}_norm.weight"], heads(name, count))
        return turn_halves(normed.astype(mx.float32), cos, sin).astype(x.dtype)

    result = attention(
        turned("q", config.num_attention_heads),
        turned("k", config.num_key_value_heads),
        heads("v", config.num_key_value_heads),
        config.query_pre_attn_scalar**-0.5,
        "causal" if full or table.window is None else table.window,
    )
    return linear(weights, "self_attn.o_proj", join_heads(result)[0])


def _norm(config: GemmaConfig, weight: mx.array, x: mx.array) -> mx.array:
    """RMS norm whose weight is stored as its distance from one; float32 inside."""
    return mx.fast.rms_norm(x, 1 + weight.astype(mx.float32), config.rms_norm_eps).astype(x.dtype)


def _tables(config: GemmaConfig, tokens: int, length: int) -> Table:
    positions = np.arange(max(length, tokens) - tokens, max(length, tokens), dtype=np.float32)

    def table(theta: float, factor: float) -> tuple[mx.array, mx.array]:
        exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
        rates = (1.0 / np.power(theta, exponents.astype(np.float64))).astype(np.float32) / np.float32(factor)
        angles = (positions[:, None] * rates).astype(np.float64)
        return mx.array(np.cos(angles).astype(np.float32)), mx.array(np.sin(angles).astype(np.float32))

    window = None
    if tokens > config.sliding_window:
        back = np.arange(tokens)[:, None] - np.arange(tokens)[None]
        window = mx.array((back >= 0) & (back < config.sliding_window))
    full, sliding = table(config.full_theta, config.full_factor), table(config.sliding_theta, 1.0)
    return Table(full, sliding, window)
