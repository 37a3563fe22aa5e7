"""The text connector: from projected text features to the context that the transformer attends to.

As ltx-core 1.0.0 for a left-padded prompt: the text's tokens come first, in order, learned registers fill the
rest of the context, position p with register p mod their number, and a small transformer mixes them all.
Nothing is masked.
"""

from __future__ import annotations

from collections.abc import Iterable

import mlx.core as mx
import numpy as np

from weights.architecture.connector import ConnectorConfig
from workers.networks.attention import self_attention
from workers.networks.ops import Weights, feed_forward, rms_norm
from workers.networks.pace import settled
from workers.networks.rope import table


def connect(
    config: ConnectorConfig, registers: mx.array, blocks: Iterable[Weights], features: mx.array, length: int = 1024
) -> mx.array:
    """features [1, text tokens, width], without padding -> context [1, length, width] in their dtype.

    `registers` is the tensor `learnable_registers`; `blocks` gives each block's weights by their own names.
    The text may not be longer than `length`.
    """
    x = with_registers(registers, features, length)
    positions = np.arange(length, dtype=np.float32)[None]
    limits, heads = config.positional_embedding_max_pos, config.num_attention_heads
    rope = table(config, positions, limits, heads, config.inner_dim, features.dtype)
    for weights in blocks:
        y = self_attention(weights, "attn1", rms_norm(x, config.norm_eps), heads, config.norm_eps, rope)
        x = x + y
        x = x + feed_forward(weights, "ff", rms_norm(x, config.norm_eps))
        settled(x)
        del weights
    return rms_norm(x, config.norm_eps)


def with_registers(registers: mx.array, features: mx.array, length: int) -> mx.array:
    """Fill up [1, text tokens, width] to [1, length, width]."""
    count = features.shape[1]
    if count > length:
        raise ValueError(f"{count} text tokens do not fit a context of {length}")
    which = mx.arange(count, length) % registers.shape[0]
    return mx.concatenate([features, registers.astype(features.dtype)[which][None]], axis=1)
