"""Gemma 3's text model: its config (Hugging Face's `config.json`) and the tensors that encode a text.

Published configs leave out what equals transformers' defaults; the defaults here are those of Gemma 3 12B as
LTX-2 uses it (ltx-core 1.0.0). The vision tower, the projector and the output head (tied to the embedding)
are never read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weights.architecture.fields import Fields
from weights.architecture.transformer import Shapes
from weights.errors import WeightsError

PREFIX = "language_model.model."
UNREAD = ("vision_tower.", "multi_modal_projector.", "language_model.lm_head.")
"""Prefixes of tensors that a Gemma 3 file may hold and that encoding a text does not need."""

LAYERS = "layers."


@dataclass(frozen=True)
class GemmaConfig:
    """Field names as in `config.json`; the rotary fields are named for the two kinds of layer."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    rms_norm_eps: float
    query_pre_attn_scalar: float
    sliding_window: int
    full_attention: tuple[bool, ...]
    """Per layer: True attends to everything before, False to the last `sliding_window` tokens."""
    full_theta: float
    full_factor: float
    """Positions of full layers are divided by this (linear scaling)."""
    sliding_theta: float

    @staticmethod
    def from_metadata(config: Mapping[str, Any]) -> GemmaConfig:
        """From a whole `config.json` (multimodal or text-only). WeightsError for a missing field or another model."""
        kind = config.get("model_type")
        if kind not in ("gemma3", "gemma3_text"):
            raise WeightsError(f"The text encoder's config.json has model_type {kind!r}; LTX-2 needs 'gemma3'.")
        fields = Fields.of(config, "text_config") if kind == "gemma3" else Fields("config", config)
        fields.require(
            {
                "attention_bias": False,
                "attn_logit_softcapping": None,
                "final_logit_softcapping": None,
                "hidden_activation": "gelu_pytorch_tanh",
            }
        )
        if fields.values.get("use_bidirectional_attention"):
            raise WeightsError(
                f"The config's {fields.name}.use_bidirectional_attention is set; LTX-2's Gemma is causal."
            )
        layers = fields.integer("num_hidden_layers")
        full_theta, full_factor, sliding_theta = _rope(fields)
        return GemmaConfig(
            hidden_size=fields.integer("hidden_size"),
            intermediate_size=fields.integer("intermediate_size"),
            num_hidden_layers=layers,
            num_attention_heads=fields.integer("num_attention_heads"),
            num_key_value_heads=fields.integer("num_key_value_heads"),
            head_dim=fields.integer("head_dim", 256),
            vocab_size=fields.integer("vocab_size", 262208),
            rms_norm_eps=fields.number("rms_norm_eps", 1e-6),
            query_pre_attn_scalar=fields.number("query_pre_attn_scalar", 256),
            sliding_window=fields.integer("sliding_window", 1024),
            full_attention=_layer_kinds(fields, layers),
            full_theta=full_theta,
            full_factor=full_factor,
            sliding_theta=sliding_theta,
        )


def tensors(config: GemmaConfig) -> Shapes:
    """Every tensor of the text model, relative to `PREFIX`."""
    names = top_tensors(config)
    layer = layer_tensors(config)
    for index in range(config.num_hidden_layers):
        names.update({f"{LAYERS}{index}.{name}": shape for name, shape in layer.items()})
    return names


def top_tensors(config: GemmaConfig) -> Shapes:
    """The embedding and the final norm."""
    return {
        "embed_tokens.weight": (config.vocab_size, config.hidden_size),
        "norm.weight": (config.hidden_size,),
    }


def layer_tensors(config: GemmaConfig) -> Shapes:
    """One layer; sliding and full layers have the same tensors."""
    width, hidden, head = config.hidden_size, config.intermediate_size, config.head_dim
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    return {
        "input_layernorm.weight": (width,),
        "self_attn.q_proj.weight": (queries, width),
        "self_attn.k_proj.weight": (keys, width),
        "self_attn.v_proj.weight": (keys, width),
        "self_attn.q_norm.weight": (head,),
        "self_attn.k_norm.weight": (head,),
        "self_attn.o_proj.weight": (width, queries),
        "post_attention_layernorm.weight": (width,),
        "pre_feedforward_layernorm.weight": (width,),
        "mlp.gate_proj.weight": (hidden, width),
        "mlp.up_proj.weight": (hidden, width),
        "mlp.down_proj.weight": (width, hidden),
        "post_feedforward_layernorm.weight": (width,),
    }


def _layer_kinds(fields: Fields, layers: int) -> tuple[bool, ...]:
    kinds = fields.values.get("layer_types")
    if kinds is None:
        pattern = fields.integer("sliding_window_pattern", 6)
        return tuple((index + 1) % pattern == 0 for index in range(layers))
    known = ("full_attention", "sliding_attention")
    if not isinstance(kinds, list | tuple) or len(kinds) != layers or any(kind not in known for kind in kinds):
        raise WeightsError(f"The config's {fields.name}.layer_types does not name {layers} full or sliding layers.")
    return tuple(kind == "full_attention" for kind in kinds)


def _rope(fields: Fields) -> tuple[float, float, float]:
    """(theta of full layers, their linear factor, theta of sliding layers); old and new spelling of the config."""
    if fields.values.get("rope_parameters") is not None:
        parameters = fields.within("rope_parameters")
        full, local = parameters.within("full_attention"), parameters.within("sliding_attention")
        factor = full.number("factor") if full.values.get("rope_type") == "linear" else 1.0
        local.require({"rope_type": "default"})
        full.choice("rope_type", ("linear", "default"), "default")
        return full.number("rope_theta", 1e6), factor, local.number("rope_theta", 1e4)
    factor = 8.0
    if "rope_scaling" in fields.values:
        factor = 1.0
        if fields.values["rope_scaling"] is not None:
            scaling = fields.within("rope_scaling")
            scaling.choice("rope_type", ("linear",), scaling.values.get("type"))
            factor = scaling.number("factor")
    return fields.number("rope_theta", 1e6), factor, fields.number("rope_local_base_freq", 1e4)
