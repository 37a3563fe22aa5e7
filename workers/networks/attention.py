"""Multi-head attention of the LTX-2 transformer and its connector.

Queries and keys are RMS-normed over their full width before they turn; in the 2.3 form (`to_gate_logits` is
there) each head's result is scaled by a gate that the query's input sets. Masks do not occur: every token
sees every token.
"""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx

from workers.networks.ops import Weights, attention, join_heads, linear, split_heads
from workers.networks.pace import Settle, lazily
from workers.networks.rope import Rope, rotate


class KeysValues(NamedTuple):
    """Of the attended tokens: [batch, heads, tokens, size] each."""

    keys: mx.array
    values: mx.array


def keys_values(
    weights: Weights, name: str, context: mx.array, heads: int, eps: float, rope: Rope | None = None
) -> KeysValues:
    """Text keys and values of the 19B form do not depend on sigma: a caller may keep them for a whole run."""
    keys = mx.fast.rms_norm(linear(weights, f"{name}.to_k", context), weights[f"{name}.k_norm.weight"], eps)
    values = linear(weights, f"{name}.to_v", context)
    return KeysValues(_with_heads(keys, rope, heads), split_heads(values, heads))


def attend(
    weights: Weights,
    name: str,
    x: mx.array,
    known: KeysValues,
    heads: int,
    eps: float,
    rope: Rope | None = None,
    settle: Settle = lazily,
) -> mx.array:
    """Attention of x [batch, tokens, width] over known keys and values, gated where the weights have a gate."""
    queries = mx.fast.rms_norm(linear(weights, f"{name}.to_q", x), weights[f"{name}.q_norm.weight"], eps)
    queries = _with_heads(queries, rope, heads)
    settle(queries)
    result = attention(queries, known.keys, known.values, queries.shape[-1] ** -0.5)
    return _output(weights, name, x, result)


def self_attention(
    weights: Weights,
    name: str,
    x: mx.array,
    heads: int,
    eps: float,
    rope: Rope,
    perturbed: bool = False,
    settle: Settle = lazily,
) -> mx.array:
    """Attention of x over itself. `perturbed` (spatio-temporal guidance): each token gets its own value, none
    attend."""
    if perturbed:
        return _output(weights, name, x, split_heads(linear(weights, f"{name}.to_v", x), heads))
    known = keys_values(weights, name, x, heads, eps, rope)
    settle(*known)
    return attend(weights, name, x, known, heads, eps, rope, settle)


def _with_heads(x: mx.array, rope: Rope | None, heads: int) -> mx.array:
    return split_heads(x, heads) if rope is None else rotate(x, rope, heads)


def _output(weights: Weights, name: str, x: mx.array, result: mx.array) -> mx.array:
    if f"{name}.to_gate_logits.weight" in weights:
        gates = 2 * mx.sigmoid(linear(weights, f"{name}.to_gate_logits", x))
        result = result * gates.swapaxes(1, 2)[..., None]
    return linear(weights, f"{name}.to_out.0", join_heads(result))
