"""The pieces that the transformer, the connector and Gemma share, as functions of a flat dict of weights.

`weights` maps official tensor names, relative to the component at hand, to arrays in the compute dtype, or in
the compact forms that `linear` knows. A result has the dtype of `x`: scalars and tables are cast to it,
statistics of norms and softmax are accumulated in float32 by MLX's kernels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping

import mlx.core as mx

from weights import quantize
from workers.networks import host, host_tokens
from workers.networks.pace import Settle, lazily

Weights = Mapping[str, mx.array]

FEW_TOKENS = 256
"""Fewer than these are multiplied with a quantised weight's packed form."""


def under(weights: Weights, prefix: str) -> dict[str, mx.array]:
    """The weights below a prefix, by their names relative to it."""
    return {name[len(prefix) :]: array for name, array in weights.items() if name.startswith(prefix)}


def blocks(weights: Weights, prefix: str, count: int) -> Iterator[dict[str, mx.array]]:
    """Resident blocks `<prefix>0.` to `<prefix><count - 1>.`, one dict each, in order."""
    for index in range(count):
        yield under(weights, f"{prefix}{index}.")


def fused(function: Callable[..., mx.array]) -> Callable[..., mx.array]:
    """One GPU kernel for a chain of elementwise operations.

    On a CPU the chain runs as it stands: MLX would call a C++ compiler, for a second per function and no
    gain.
    """
    compiled: Callable[..., mx.array] = mx.compile(function)

    @functools.wraps(function)
    def run(*arrays: mx.array) -> mx.array:
        return (compiled if mx.default_device().type == mx.DeviceType.gpu else function)(*arrays)

    return run


def linear(weights: Weights, name: str, x: mx.array) -> mx.array:
    """x W^T + b; every matrix product with a weight of these networks goes through here.

    The weight may be dense, quantised or 8-bit floats (see `weights.quantize_names`). A quantised one is made dense
    first, which for many tokens is two to three times faster on a GPU than a product with the packed form; for few
    tokens that reads less memory. Which way is taken depends on the number of tokens alone.
    """
    bias = weights.get(f"{name}.bias")
    on_host = host.applies(x)
    if f"{name}.scales" in weights and not on_host and x.size < FEW_TOKENS * x.shape[-1]:
        y = quantize.product(weights, name, x)
        return y if bias is None else y + bias
    weight = quantize.dense(weights, name, x.shape[-1], x.dtype)
    if on_host:
        return host_tokens.linear(x, weight, bias)
    return x @ weight.T if bias is None else mx.addmm(bias, x, weight.T)


def rms_norm(x: mx.array, eps: float) -> mx.array:
    """x / rms(x) over the last axis, without a weight."""
    return mx.fast.rms_norm(x, None, eps)


def layer_norm(x: mx.array, eps: float) -> mx.array:
    """(x - mean) / std over the last axis, without weight and bias."""
    return mx.fast.layer_norm(x, None, None, eps)


@fused
def modulate(x: mx.array, scale: mx.array, shift: mx.array) -> mx.array:
    return x * (1 + scale) + shift


@fused
def add_gated(x: mx.array, y: mx.array, gate: mx.array) -> mx.array:
    return x + y * gate


def gelu(x: mx.array) -> mx.array:
    """GELU with the tanh approximation; float32 inside, as the reference's kernel computes it."""
    return host_tokens.gelu(x) if host.applies(x) else _gelu(x)


@fused
def _gelu(x: mx.array) -> mx.array:
    y = x.astype(mx.float32)
    y = 0.5 * y * (1 + mx.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y * y * y)))
    return y.astype(x.dtype)


def feed_forward(weights: Weights, name: str, x: mx.array, settle: Settle = lazily) -> mx.array:
    hidden = gelu(linear(weights, f"{name}.net.0.proj", x))
    settle(hidden)
    return linear(weights, f"{name}.net.2", hidden)


def two_layer_projection(weights: Weights, name: str, x: mx.array) -> mx.array:
    """The caption projection: linear, GELU, linear."""
    return linear(weights, f"{name}.linear_2", gelu(linear(weights, f"{name}.linear_1", x)))


def split_heads(x: mx.array, heads: int) -> mx.array:
    """[batch, tokens, heads * size] -> [batch, heads, tokens, size]"""
    batch, tokens, width = x.shape
    return x.reshape(batch, tokens, heads, width // heads).swapaxes(1, 2)


def join_heads(x: mx.array) -> mx.array:
    """[batch, heads, tokens, size] -> [batch, tokens, heads * size]"""
    batch, heads, tokens, size = x.shape
    return x.swapaxes(1, 2).reshape(batch, tokens, heads * size)


def attention(
    queries: mx.array, keys: mx.array, values: mx.array, scale: float, mask: mx.array | str | None = None
) -> mx.array:
    """softmax(scale q k^T) v, [batch, heads, tokens, size]; keys and values may have fewer heads than queries.

    mask: None, "causal", or [tokens, tokens] with True where a query may look.
    """
    if host.applies(queries) and queries.shape[0] == 1:
        return host_tokens.attention(queries, keys, values, scale, mask)
    return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=mask)
