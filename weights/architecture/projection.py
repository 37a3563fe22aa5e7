"""The text projection ("feature extractor"): from Gemma's hidden states to the connector's input.

Two forms, told apart by four fields of the config as in ltx-core 1.0.0: V1 (19B) has one linear layer for
both streams, V2 (2.3) one each. The number of hidden states is Gemma's, not the checkpoint's: the caller says
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weights.architecture.fields import Fields
from weights.architecture.transformer import Shapes, linear
from weights.errors import WeightsError

PREFIX = "text_embedding_projection."

_V2 = {
    "caption_proj_before_connector": True,
    "caption_projection_first_linear": False,
    "caption_proj_input_norm": False,
    "caption_projection_second_linear": False,
}


@dataclass(frozen=True)
class ProjectionConfig:
    version: int
    """1: normalised per prompt and layer, one projection. 2: per token and layer, one projection per stream.
    """
    hidden_size: int
    num_states: int
    """Gemma's layers + 1: the scaled embeddings count as the first state."""
    video_dim: int
    audio_dim: int

    @staticmethod
    def from_metadata(config: Mapping[str, Any], *, hidden_size: int = 3840, num_states: int = 49) -> ProjectionConfig:
        """From the checkpoint's whole `config` JSON, and the sizes of the Gemma that feeds it (default: 12B).

        WeightsError for a mixture of the two forms.
        """
        fields = Fields.of(config, "transformer")
        present = [key for key in _V2 if key in fields.values]
        if not present:
            return ProjectionConfig(1, hidden_size, num_states, video_dim=hidden_size, audio_dim=hidden_size)
        for key, value in _V2.items():
            if key not in fields.values:
                raise WeightsError(f"The config has {fields.name}.{present[0]} but lacks {fields.name}.{key}.")
            fields.require({key: value})
        return ProjectionConfig(
            2,
            hidden_size,
            num_states,
            video_dim=fields.integer("num_attention_heads") * fields.integer("attention_head_dim"),
            audio_dim=fields.integer("audio_num_attention_heads") * fields.integer("audio_attention_head_dim"),
        )


def tensors(config: ProjectionConfig, audio: bool = False) -> Shapes:
    """Relative to `PREFIX`. The video-only form of V2 leaves `audio_aggregate_embed` unread."""
    flat = config.hidden_size * config.num_states
    if config.version == 1:
        return linear("aggregate_embed", flat, config.video_dim, bias=False)
    names = linear("video_aggregate_embed", flat, config.video_dim)
    return names | linear("audio_aggregate_embed", flat, config.audio_dim) if audio else names
