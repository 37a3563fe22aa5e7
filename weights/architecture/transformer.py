"""The LTX-2 transformer: its config and every tensor it needs, for the 19B (2.0) and the 22B (2.3) form.

Facts of the official checkpoints as ltx-core 1.0.0 reads them. Both forms are one class: 2.3 adds a gate per
attention head (`apply_gated_attention`) and modulated text cross-attention (`cross_attention_adaln`), and
moves the caption projection out of the transformer (`caption_proj_before_connector`). The video-only model is
the joint audio-video model without its audio and cross-modal tensors. Shapes are those of the file (linear
weights [out, in]).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weights.architecture.fields import Fields

PREFIX = "model.diffusion_model."
"""Of every tensor in a checkpoint; the text connectors' prefixes begin with it too (see `connector`)."""

BLOCKS = "transformer_blocks."
"""A block's tensors are `transformer_blocks.<index>.<name in block_tensors>`."""

_FREQUENCIES = 256  # sinusoids of the timestep embedding
_FF_FACTOR = 4

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class TransformerConfig:
    """Field names as in the checkpoint's config. The audio fields matter only to the joint model."""

    num_layers: int
    num_attention_heads: int
    attention_head_dim: int
    in_channels: int
    out_channels: int
    cross_attention_dim: int
    caption_channels: int | None
    """Width of the text context when the transformer projects it itself (19B); None when it comes projected
    (2.3)."""
    norm_eps: float
    positional_embedding_theta: float
    positional_embedding_max_pos: tuple[float, ...]
    """Seconds, pixels, pixels that make one unit of position."""
    rope_type: str
    """"split" (all releases) or "interleaved"."""
    double_precision_rope: bool
    timestep_scale_multiplier: float
    apply_gated_attention: bool
    cross_attention_adaln: bool
    audio_num_attention_heads: int
    audio_attention_head_dim: int
    audio_in_channels: int
    audio_out_channels: int
    audio_cross_attention_dim: int
    audio_positional_embedding_max_pos: tuple[float, ...]
    av_ca_timestep_scale_multiplier: float

    @property
    def inner_dim(self) -> int:
        return self.num_attention_heads * self.attention_head_dim

    @property
    def audio_inner_dim(self) -> int:
        return self.audio_num_attention_heads * self.audio_attention_head_dim

    @property
    def context_channels(self) -> int:
        """Width of the video text context that this model takes."""
        return self.caption_channels or self.cross_attention_dim

    @property
    def modulation_rows(self) -> int:
        """Shift, scale and gate of self-attention and FFN; in 2.3 of text cross-attention too."""
        return 9 if self.cross_attention_adaln else 6

    @staticmethod
    def from_metadata(config: Mapping[str, Any]) -> TransformerConfig:
        """From the checkpoint's whole `config` JSON. WeightsError for a missing field or a kind that cannot
        be run."""
        fields = Fields.of(config, "transformer")
        fields.require(
            {
                "attention_bias": True,
                "activation_fn": "gelu-approximate",
                "cross_attention_norm": True,
                "qk_norm": "rms_norm",
                "standardization_norm": "rms_norm",
                "norm_elementwise_affine": False,
                "positional_embedding_type": "rope",
                "use_middle_indices_grid": True,
                "causal_temporal_positioning": True,
                "share_ff": False,
                "av_cross_ada_norm": True,
                "use_audio_video_cross_attention": True,
                "only_cross_attention": False,
                "double_self_attention": False,
                "num_vector_embeds": None,
                # LTX-2.5: other tensors and other arithmetic.
                "ff_bias": True,
                "use_keyframes_abs_pos_embedding": False,
                "use_prompt_adaln_single": True,
            }
        )
        projected_before = fields.flag("caption_proj_before_connector", False)
        heads, head_dim = fields.integer("num_attention_heads"), fields.integer("attention_head_dim")
        return TransformerConfig(
            num_layers=fields.integer("num_layers"),
            num_attention_heads=heads,
            attention_head_dim=head_dim,
            in_channels=fields.integer("in_channels", 128),
            out_channels=fields.integer("out_channels", 128),
            cross_attention_dim=fields.integer("cross_attention_dim", heads * head_dim),
            caption_channels=None if projected_before else fields.integer("caption_channels"),
            norm_eps=fields.number("norm_eps", 1e-6),
            positional_embedding_theta=fields.number("positional_embedding_theta", 10000.0),
            positional_embedding_max_pos=fields.numbers("positional_embedding_max_pos", 3, (20, 2048, 2048)),
            # No default: releases of the reference disagree about it.
            rope_type=fields.choice("rope_type", ("split", "interleaved")),
            double_precision_rope=fields.values.get("frequencies_precision") == "float64",
            timestep_scale_multiplier=fields.number("timestep_scale_multiplier", 1000.0),
            apply_gated_attention=fields.flag("apply_gated_attention", False),
            cross_attention_adaln=fields.flag("cross_attention_adaln", False),
            audio_num_attention_heads=fields.integer("audio_num_attention_heads", 32),
            audio_attention_head_dim=fields.integer("audio_attention_head_dim", 64),
            audio_in_channels=fields.integer("audio_in_channels", 128),
            audio_out_channels=fields.integer("audio_out_channels", 128),
            audio_cross_attention_dim=fields.integer("audio_cross_attention_dim", 2048),
            audio_positional_embedding_max_pos=fields.numbers("audio_positional_embedding_max_pos", 1, (20,)),
            av_ca_timestep_scale_multiplier=fields.number("av_ca_timestep_scale_multiplier", 1.0),
        )


def tensors(config: TransformerConfig, audio: bool = False) -> Shapes:
    """Every tensor of the video-only (`audio=False`) or joint transformer, relative to `PREFIX`."""
    names = top_tensors(config, audio)
    block = block_tensors(config, audio)
    for index in range(config.num_layers):
        names.update({f"{BLOCKS}{index}.{name}": shape for name, shape in block.items()})
    return names


def is_audio(name: str) -> bool:
    """Whether a tensor (relative to `PREFIX`) belongs to the joint model only: the video-only model leaves it
    unread."""
    if name.startswith(BLOCKS):
        name = name[len(BLOCKS) :].partition(".")[2]
        return name.startswith(("audio_", "video_to_audio_attn.", "scale_shift_table_a2v_ca_"))
    return name.startswith(("audio_", "av_ca_"))


def top_tensors(config: TransformerConfig, audio: bool = False) -> Shapes:
    """Everything outside the blocks: it stays in memory while blocks come and go."""
    dim, audio_dim = config.inner_dim, config.audio_inner_dim
    names = _stream_top("", config, dim, config.in_channels, config.out_channels)
    if audio:
        names |= _stream_top("audio_", config, audio_dim, config.audio_in_channels, config.audio_out_channels)
        names |= _adaln("av_ca_video_scale_shift_adaln_single", dim, 4)
        names |= _adaln("av_ca_audio_scale_shift_adaln_single", audio_dim, 4)
        names |= _adaln("av_ca_a2v_gate_adaln_single", dim, 1)
        names |= _adaln("av_ca_v2a_gate_adaln_single", audio_dim, 1)
    return names


def block_tensors(config: TransformerConfig, audio: bool = False) -> Shapes:
    """One transformer block; all blocks are alike."""
    dim, audio_dim = config.inner_dim, config.audio_inner_dim
    heads = (config.num_attention_heads, config.attention_head_dim)
    audio_heads = (config.audio_num_attention_heads, config.audio_attention_head_dim)
    gated = config.apply_gated_attention
    names = _stream_block("", config, dim, config.cross_attention_dim, heads)
    if audio:
        names |= _stream_block("audio_", config, audio_dim, config.audio_cross_attention_dim, audio_heads)
        names |= attention("audio_to_video_attn", dim, audio_dim, *audio_heads, gated)
        names |= attention("video_to_audio_attn", audio_dim, dim, *audio_heads, gated)
        names["scale_shift_table_a2v_ca_video"] = (5, dim)
        names["scale_shift_table_a2v_ca_audio"] = (5, audio_dim)
    return names


def linear(name: str, inputs: int, outputs: int, bias: bool = True) -> Shapes:
    shapes: Shapes = {f"{name}.weight": (outputs, inputs)}
    if bias:
        shapes[f"{name}.bias"] = (outputs,)
    return shapes


def attention(name: str, dim: int, context_dim: int, heads: int, head_dim: int, gated: bool) -> Shapes:
    """Queries from `dim`, keys and values from `context_dim`; norms over the full inner width."""
    inner = heads * head_dim
    shapes: Shapes = {f"{name}.q_norm.weight": (inner,), f"{name}.k_norm.weight": (inner,)}
    shapes |= linear(f"{name}.to_q", dim, inner)
    shapes |= linear(f"{name}.to_k", context_dim, inner)
    shapes |= linear(f"{name}.to_v", context_dim, inner)
    shapes |= linear(f"{name}.to_out.0", inner, dim)
    if gated:
        shapes |= linear(f"{name}.to_gate_logits", dim, heads)
    return shapes


def feed_forward(name: str, dim: int) -> Shapes:
    return linear(f"{name}.net.0.proj", dim, _FF_FACTOR * dim) | linear(f"{name}.net.2", _FF_FACTOR * dim, dim)


def _adaln(name: str, dim: int, rows: int) -> Shapes:
    embedder = f"{name}.emb.timestep_embedder"
    return (
        linear(f"{embedder}.linear_1", _FREQUENCIES, dim)
        | linear(f"{embedder}.linear_2", dim, dim)
        | linear(f"{name}.linear", dim, rows * dim)
    )


def _stream_top(stream: str, config: TransformerConfig, dim: int, inputs: int, outputs: int) -> Shapes:
    names = linear(f"{stream}patchify_proj", inputs, dim)
    names |= _adaln(f"{stream}adaln_single", dim, config.modulation_rows)
    if config.cross_attention_adaln:
        names |= _adaln(f"{stream}prompt_adaln_single", dim, 2)
    if config.caption_channels is not None:
        names |= linear(f"{stream}caption_projection.linear_1", config.caption_channels, dim)
        names |= linear(f"{stream}caption_projection.linear_2", dim, dim)
    names[f"{stream}scale_shift_table"] = (2, dim)
    return names | linear(f"{stream}proj_out", dim, outputs)


def _stream_block(stream: str, config: TransformerConfig, dim: int, context_dim: int, heads: tuple[int, int]) -> Shapes:
    gated = config.apply_gated_attention
    names: Shapes = {f"{stream}scale_shift_table": (config.modulation_rows, dim)}
    if config.cross_attention_adaln:
        names[f"{stream}prompt_scale_shift_table"] = (2, dim)
    names |= attention(f"{stream}attn1", dim, dim, *heads, gated)
    names |= attention(f"{stream}attn2", dim, context_dim, *heads, gated)
    return names | feed_forward(f"{stream}ff", dim)
