"""What the token networks do slowly in MLX on a CPU, done by numpy: matrix products, attention, GELU.

MLX's Linux wheel multiplies with the reference BLAS unless another one is there, and its exponential is not vectorised;
numpy brings its own OpenBLAS and a vectorised exponential. A step of the tiny model at its base size, both guidance
passes, on 2 cores: 29 ms, against 126 ms in MLX with OpenBLAS preloaded and 558 ms without. float32 only (see
`host.applies`). Results are evaluated, not lazy, and deterministic for one numpy, one processor and one number of BLAS
threads.
"""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np

from workers.networks.host import view

_SCORES = 1 << 18
"""Attention scores are made in pieces of about this many numbers (1 MB), however long the sequence."""


def linear(x: mx.array, weight: mx.array, bias: mx.array | None) -> mx.array:
    """x W^T + b; x [..., inputs], weight [outputs, inputs]."""
    rows = view(x).reshape(-1, x.shape[-1])
    product = rows @ view(weight).T
    if bias is not None:
        product += view(bias)
    return mx.array(product.reshape(*x.shape[:-1], weight.shape[0]))


def attention(
    queries: mx.array, keys: mx.array, values: mx.array, scale: float, mask: mx.array | str | None = None
) -> mx.array:
    """softmax(scale q k^T) v for one sequence: [1, heads, tokens, size], keys and values may have fewer heads.

    mask: None, "causal", or [tokens, tokens] with True where a query may look.
    """
    q, k, v = (view(x)[0] for x in (queries, keys, values))
    heads, tokens, _ = q.shape
    seen = len(k[0])
    allowed = None if mask is None or isinstance(mask, str) else np.array(mask)
    if isinstance(mask, str):
        allowed = np.arange(tokens)[:, None] >= np.arange(seen)
    result = np.empty((1, heads, tokens, v.shape[-1]), np.float32)
    rows = max(1, _SCORES // seen)
    for head in range(heads):
        source = head * len(k) // heads
        for top in range(0, tokens, rows):
            scores = (q[head, top : top + rows] * np.float32(scale)) @ k[source].T
            if allowed is not None:
                scores[~allowed[top : top + rows]] = -np.inf
            scores -= scores.max(axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            np.matmul(scores, v[source], out=result[0, head, top : top + rows])
            result[0, head, top : top + rows] /= scores.sum(axis=-1, keepdims=True)
    return mx.array(result)


def gelu(x: mx.array) -> mx.array:
    """The tanh approximation, as x / (1 + exp(-2 u)): (1 + tanh u) / 2 is the logistic function of 2 u."""
    values = view(x)
    result = values * values
    result *= np.float32(-2 * math.sqrt(2 / math.pi) * 0.044715)
    result -= np.float32(2 * math.sqrt(2 / math.pi))
    result *= values
    with np.errstate(over="ignore"):  # exp = inf gives the right limit, 0
        np.exp(result, out=result)
    result += 1
    return mx.array(np.divide(values, result, out=result))
