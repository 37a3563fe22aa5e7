"""Tiny transformers with random weights."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import pytest

from weights.architecture import transformer
from weights.architecture.transformer import TransformerConfig
from workers.networks.ops import blocks
from workers.networks.rope import video_positions

FIELDS = {
    "rope_type": "split",
    "frequencies_precision": "float64",
    "num_layers": 3,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 8,
    "out_channels": 8,
}
FORMS = {
    "19b": {"caption_channels": 24},
    "2.3": {
        "apply_gated_attention": True,
        "cross_attention_adaln": True,
        "caption_proj_before_connector": True,
    },
}


@dataclass(frozen=True)
class Tiny:
    """A video-only transformer, a context for it and a grid of latent cells."""

    config: TransformerConfig
    weights: dict[str, mx.array]
    context: mx.array
    grid: tuple[int, int, int] = (2, 3, 5)

    def blocks(self):
        return blocks(self.weights, transformer.BLOCKS, self.config.num_layers)

    @property
    def positions(self):
        return video_positions(self.grid, 24.0)

    def latent(self, seed=0):
        values = np.random.default_rng(seed).standard_normal((1, np.prod(self.grid), self.config.in_channels))
        return mx.array(values.astype(np.float32))

    def astype(self, dtype):
        weights = {name: value.astype(dtype) for name, value in self.weights.items()}
        return Tiny(self.config, weights, self.context.astype(dtype), self.grid)


@pytest.fixture(params=sorted(FORMS))
def tiny(request):
    config = TransformerConfig.from_metadata({"transformer": FIELDS | FORMS[request.param]})
    generator = np.random.default_rng(1)

    def values(shape):
        scale = shape[-1] ** -0.5 if len(shape) == 2 else 0.3
        return mx.array((generator.standard_normal(shape) * scale).astype(np.float32))

    weights = {name: values(shape) for name, shape in transformer.tensors(config).items()}
    return Tiny(config, weights, values((1, 7, config.context_channels)))
