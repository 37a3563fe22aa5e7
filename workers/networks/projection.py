"""The text projection: from all hidden states of Gemma to the connector's features.

As ltx-core 1.0.0, for the tokens of the text alone (padding would become zeros and then registers). Each
state is normalised when it comes, so that Gemma's layers may be gone by the time the projection's weight is
there; statistics are float32. The flat order of the weight's inputs is channel * states + state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import mlx.core as mx

from weights.architecture.projection import ProjectionConfig
from workers.networks.ops import Weights, linear

_EPS = 1e-6


def normalise(config: ProjectionConfig, state: mx.array) -> mx.array:
    """One hidden state [tokens, width] of one text, in its dtype.

    V1: 8 (x - mean) / (max - min) over all tokens and channels. V2: x / rms(x) per token.
    """
    x = state.astype(mx.float32)
    if config.version == 1:
        mean = x.sum() / (x.size + _EPS)
        y = 8 * (x - mean) / (x.max() - x.min() + _EPS)
    else:
        y = x * mx.rsqrt((x * x).mean(axis=-1, keepdims=True) + _EPS)
    return y.astype(state.dtype)


def project(
    config: ProjectionConfig, weights: Weights, normalised: Sequence[mx.array], stream: str = "video"
) -> mx.array:
    """The normalised states of one text, in order -> features [1, tokens, width] for one stream's connector."""
    if len(normalised) != config.num_states:
        raise ValueError(f"{len(normalised)} hidden states were given, the projection takes {config.num_states}")
    flat = mx.stack(list(normalised), axis=-1).reshape(1, normalised[0].shape[0], -1)
    if config.version == 1:
        return linear(weights, "aggregate_embed", flat)
    width = config.video_dim if stream == "video" else config.audio_dim
    return linear(weights, f"{stream}_aggregate_embed", flat * math.sqrt(width / config.hidden_size))
