"""The LTX-2 transformer, 19B and 2.3 forms, video-only or joint with audio, as functions of its weights.

Guarantees: the numbers of ltx-core 1.0.0 in float32; block weights are visited one block at a time, each used
by every guidance pass of the step before the next is asked for, and not referred to afterwards, so they may
come and go. Passes are computed one after the other inside a block: a pass's result does not depend on which
others there are.
Not here: masks (every token sees every token) and LTX-2.5.

In the order of use:

    run = streams(config, positions, dtype)                        once per run: rotary tables
    prompt = prepare_prompt(config, top, (context,), dtype)        once per prompt: caption projection
    tokens = (Tokens(latent, timesteps, sigma),)                   at each step
    velocity(config, top, blocks, run, (Pass(prompt),), tokens)
    denoised(latent, velocity, timesteps)                          x0

What belongs to a modality comes in tuples: (video,) or (video, audio).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import mlx.core as mx

from weights import quantize
from weights.architecture.transformer import TransformerConfig
from workers.networks.attention import KeysValues, attend, keys_values, self_attention
from workers.networks.joint import exchange
from workers.networks.modulation import Adaln, Floats, Timesteps, adaln
from workers.networks.ops import (
    Weights,
    add_gated,
    feed_forward,
    layer_norm,
    linear,
    modulate,
    rms_norm,
    two_layer_projection,
)
from workers.networks.pace import Pace, Pacer, Settle, lazily
from workers.networks.rope import Rope, midpoints, table

PREFIXES = ("", "audio_")
"""Of the names of a modality's own tensors: video, audio."""

Arrays = tuple[mx.array, ...]


@dataclass(frozen=True)
class Stream:
    """A modality's tokens as the blocks see them, whatever sigma is."""

    prefix: str
    heads: int
    rope: Rope
    cross_rope: Rope | None = None
    """For the attention between the modalities: time alone, in the audio's width."""


@dataclass(frozen=True)
class Prompt:
    """Text contexts as the blocks take them, one per modality, [1, text tokens, width]."""

    contexts: Arrays
    known: dict[tuple[int, str], KeysValues] | None = None
    """Text keys and values by (block, modality), filled at the first step; None: computed anew at each step."""


@dataclass(frozen=True)
class Pass:
    """One evaluation of the network within a step."""

    prompt: Prompt
    perturbed: tuple[frozenset[int], ...] = (frozenset(), frozenset())
    """Blocks, by modality, whose self-attention lets each token see only itself (spatio-temporal guidance)."""
    isolated: bool = False
    """The modalities do not see each other (modality guidance)."""


@dataclass(frozen=True)
class Tokens:
    """A modality's noisy latent [1, tokens, channels], its tokens' noise levels and the step's sigma."""

    latent: mx.array
    timesteps: Timesteps
    sigma: float


@dataclass(frozen=True)
class Condition:
    """What a step's sigma makes of one modality."""

    main: Adaln
    prompt: Adaln | None
    cross: Adaln | None = None
    cross_gate: Adaln | None = None


def streams(
    config: TransformerConfig, positions: Floats, dtype: mx.Dtype, audio_positions: Floats | None = None
) -> tuple[Stream, ...]:
    """Rotary tables for video tokens at `positions` [3, tokens, 2] and audio tokens at [1, tokens, 2]; see `rope`."""
    parts = [("", positions, config.positional_embedding_max_pos, config.num_attention_heads, config.inner_dim)]
    if audio_positions is not None:
        limits = config.audio_positional_embedding_max_pos
        parts.append(("audio_", audio_positions, limits, config.audio_num_attention_heads, config.audio_inner_dim))
    longest = max(config.positional_embedding_max_pos[0], config.audio_positional_embedding_max_pos[0])
    result = []
    for prefix, edges, limits, heads, width in parts:
        values = midpoints(edges)
        cross = None
        if audio_positions is not None:
            cross_heads, cross_width = config.audio_num_attention_heads, config.audio_cross_attention_dim
            cross = table(config, values[:1], [longest], cross_heads, cross_width, dtype)
        result.append(Stream(prefix, heads, table(config, values, limits, heads, width, dtype), cross))
    return tuple(result)


def prepare_prompt(
    config: TransformerConfig, top: Weights, contexts: Sequence[mx.array], dtype: mx.Dtype, keep: bool = False
) -> Prompt:
    """Project the contexts (19B) or take them as they are (2.3).

    `keep` holds text keys and values of all blocks for the whole run, which saves two matrix products per
    block and step and changes no bit. It costs layers * 2 * text tokens * width values, and is without effect
    in the 2.3 form, where they depend on sigma.
    """
    projected = [context.astype(dtype) for context in contexts]
    if config.caption_channels is not None:
        projected = [
            two_layer_projection(top, f"{prefix}caption_projection", context)
            for prefix, context in zip(PREFIXES, projected, strict=False)
        ]
    mx.eval(projected)
    return Prompt(tuple(projected), {} if keep and not config.cross_attention_adaln else None)


def conditions(config: TransformerConfig, top: Weights, tokens: Sequence[Tokens]) -> tuple[Condition, ...]:
    """The step's adaLN parameters of each modality."""
    scale = config.timestep_scale_multiplier
    result = []
    for index, (prefix, own) in enumerate(zip(PREFIXES, tokens, strict=False)):
        dtype = own.latent.dtype
        main = adaln(top, f"{prefix}adaln_single", own.timesteps, scale, dtype)
        prompt = cross = gate = None
        if config.cross_attention_adaln:
            prompt = adaln(top, f"{prefix}prompt_adaln_single", Timesteps.uniform(own.sigma), scale, dtype)
        if len(tokens) == 2:
            # ltx-core 1.0.0: the other modality's sigma. Releases since 2026-05-28 feed the scale and shift with this
            # modality's own timesteps; both agree while the modalities share one sigma and no token is conditioned.
            other = Timesteps.uniform(tokens[1 - index].sigma)
            name, gate_name = (("video", "a2v"), ("audio", "v2a"))[index]
            cross = adaln(top, f"av_ca_{name}_scale_shift_adaln_single", other, scale, dtype)
            gate_scale = config.av_ca_timestep_scale_multiplier
            gate = adaln(top, f"av_ca_{gate_name}_gate_adaln_single", other, gate_scale, dtype)
        result.append(Condition(main, prompt, cross, gate))
    return tuple(result)


def block(
    config: TransformerConfig,
    weights: Weights,
    index: int,
    run: Sequence[Stream],
    step: Sequence[Condition],
    one: Pass,
    xs: Arrays,
    settle: Settle = lazily,
) -> Arrays:
    """One block for one pass. xs: each modality's activations [1, tokens, width]."""
    xs = tuple(
        _attention(config, weights, index, stream, condition, one, number, x, settle)
        for number, (stream, condition, x) in enumerate(zip(run, step, xs, strict=True))
    )
    if len(xs) == 2 and not one.isolated:
        xs = exchange(config, weights, run, step, xs)
    return tuple(
        _feed_forward(config, weights, stream, condition, x, settle)
        for stream, condition, x in zip(run, step, xs, strict=True)
    )


def head(config: TransformerConfig, top: Weights, prefix: str, condition: Condition, x: mx.array) -> mx.array:
    """Activations [1, tokens, width] -> velocity [1, tokens, channels]."""
    values = top[f"{prefix}scale_shift_table"].astype(x.dtype) + condition.main.embedded[:, None]
    shift, scale = (condition.main.timesteps.spread(values[:, row]) for row in range(2))
    return linear(top, f"{prefix}proj_out", modulate(layer_norm(x, config.norm_eps), scale, shift))


def velocity(
    config: TransformerConfig,
    top: Weights,
    blocks: Iterable[Weights],
    run: Sequence[Stream],
    passes: Sequence[Pass],
    tokens: Sequence[Tokens],
    after_block: Callable[[int], None] = lambda index: None,
    pace: Pace = "whole",
) -> list[Arrays]:
    """The predicted velocity (noise - x0) of every pass and modality, [1, tokens, channels] in the latent's dtype.

    `pace` bounds memory and the length of GPU command buffers; "ahead" needs blocks that stay in memory.
    `after_block(index)` is called when a block is done (heartbeats). Where several passes share a block's visit and
    memory is no matter, weights that are held in fewer bits are decoded once for all of them.
    """
    step = conditions(config, top, tokens)
    first = tuple(
        linear(top, f"{stream.prefix}patchify_proj", own.latent) for stream, own in zip(run, tokens, strict=True)
    )
    xs = [first for _ in passes]
    index, pacer = 0, Pacer(pace)
    for weights in blocks:
        if len(passes) > 1 and pace != "parts":
            weights = quantize.Decoded(weights)
        for number, one in enumerate(passes):
            xs[number] = block(config, weights, index, run, step, one, xs[number], pacer.settle)
            pacer.block(xs[number])
        # Before the iterator makes room for the next block.
        del weights
        after_block(index)
        index += 1
    if index != config.num_layers:
        raise ValueError(f"{index} blocks were given, the transformer has {config.num_layers}")
    return [
        tuple(
            head(config, top, stream.prefix, condition, x)
            for stream, condition, x in zip(run, step, activations, strict=True)
        )
        for activations in xs
    ]


def denoised(latent: mx.array, velocity: mx.array, timesteps: Timesteps) -> mx.array:
    """x0 = x - timestep * v, float32. A token with timestep 0 comes back unchanged."""
    return latent.astype(mx.float32) - velocity.astype(mx.float32) * timesteps.values()


def _attention(
    config: TransformerConfig,
    weights: Weights,
    index: int,
    stream: Stream,
    condition: Condition,
    one: Pass,
    number: int,
    x: mx.array,
    settle: Settle,
) -> mx.array:
    """Self-attention, then text cross-attention; no rotation in the latter."""
    eps, heads, prefix = config.norm_eps, stream.heads, stream.prefix
    rows = weights[f"{prefix}scale_shift_table"]
    shift, scale, gate = condition.main.rows(rows, 0, 3)
    perturbed = index in one.perturbed[number]
    y = modulate(rms_norm(x, eps), scale, shift)
    x = add_gated(x, self_attention(weights, f"{prefix}attn1", y, heads, eps, stream.rope, perturbed, settle), gate)
    settle(x)
    del y

    name, context = f"{prefix}attn2", one.prompt.contexts[number]
    if condition.prompt is None:
        known = _text(weights, index, name, one, number, heads, eps)
        x = x + attend(weights, name, rms_norm(x, eps), known, heads, eps, settle=settle)
        settle(x)
        return x
    shift, scale, gate = condition.main.rows(rows, 6, 9)
    shift_text, scale_text = condition.prompt.rows(weights[f"{prefix}prompt_scale_shift_table"], 0, 2)
    known = keys_values(weights, name, modulate(context, scale_text, shift_text), heads, eps)
    y = modulate(rms_norm(x, eps), scale, shift)
    x = add_gated(x, attend(weights, name, y, known, heads, eps, settle=settle), gate)
    settle(x)
    return x


def _text(weights: Weights, index: int, name: str, one: Pass, number: int, heads: int, eps: float) -> KeysValues:
    """Text keys and values of the 19B form: kept, if the prompt keeps them."""
    kept = one.prompt.known
    if kept is not None and (index, name) in kept:
        return kept[index, name]
    known = keys_values(weights, name, one.prompt.contexts[number], heads, eps)
    if kept is not None:
        kept[index, name] = known
    return known


def _feed_forward(
    config: TransformerConfig, weights: Weights, stream: Stream, condition: Condition, x: mx.array, settle: Settle
) -> mx.array:
    shift, scale, gate = condition.main.rows(weights[f"{stream.prefix}scale_shift_table"], 3, 6)
    y = modulate(rms_norm(x, config.norm_eps), scale, shift)
    return add_gated(x, feed_forward(weights, f"{stream.prefix}ff", y, settle), gate)
