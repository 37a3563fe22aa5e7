"""The text connector: its config and tensors. The video and the audio connector are the same network.

As ltx-core 1.0.0 reads the checkpoint's config: 2 plain layers in the 19B form, 8 gated ones in 2.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weights.architecture.fields import Fields
from weights.architecture.transformer import PREFIX as TRANSFORMER_PREFIX
from weights.architecture.transformer import Shapes, attention, feed_forward

PREFIX = TRANSFORMER_PREFIX + "video_embeddings_connector."
AUDIO_PREFIX = TRANSFORMER_PREFIX + "audio_embeddings_connector."
BLOCKS = "transformer_1d_blocks."


@dataclass(frozen=True)
class ConnectorConfig:
    num_layers: int
    num_attention_heads: int
    attention_head_dim: int
    num_learnable_registers: int
    positional_embedding_theta: float
    positional_embedding_max_pos: tuple[float, ...]
    rope_type: str
    double_precision_rope: bool
    apply_gated_attention: bool
    norm_eps: float = 1e-6

    @property
    def inner_dim(self) -> int:
        return self.num_attention_heads * self.attention_head_dim

    @staticmethod
    def from_metadata(config: Mapping[str, Any], audio: bool = False) -> ConnectorConfig:
        """From the checkpoint's whole `config` JSON. WeightsError for a missing field or an unknown kind.

        The audio connector's fields fall back to the video connector's, as in the reference.
        """
        fields = Fields.of(config, "transformer")
        fields.require({"connector_norm_output": True, "use_embeddings_connector": True, "connector_ff_bias": True})

        def size(name: str) -> int:
            video = fields.integer(f"connector_{name}")
            return fields.integer(f"audio_connector_{name}", video) if audio else video

        return ConnectorConfig(
            num_layers=size("num_layers"),
            num_attention_heads=size("num_attention_heads"),
            attention_head_dim=size("attention_head_dim"),
            num_learnable_registers=fields.integer("connector_num_learnable_registers", 128),
            positional_embedding_theta=10000.0,
            positional_embedding_max_pos=fields.numbers("connector_positional_embedding_max_pos", 1),
            rope_type=fields.choice("rope_type", ("split", "interleaved")),
            double_precision_rope=fields.values.get("frequencies_precision") == "float64",
            apply_gated_attention=fields.flag("connector_apply_gated_attention", False),
        )


def tensors(config: ConnectorConfig) -> Shapes:
    """Every tensor of one connector, relative to `PREFIX` or `AUDIO_PREFIX`."""
    dim = config.inner_dim
    names: Shapes = {"learnable_registers": (config.num_learnable_registers, dim)}
    for index in range(config.num_layers):
        block = f"{BLOCKS}{index}."
        names |= attention(
            f"{block}attn1",
            dim,
            dim,
            config.num_attention_heads,
            config.attention_head_dim,
            config.apply_gated_attention,
        )
        names |= feed_forward(f"{block}ff", dim)
    return names
