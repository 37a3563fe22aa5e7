"""Where video and audio see each other: two cross-attentions per block of the joint model.

As ltx-core 1.0.0: both take the state before either is updated, keys and queries turn by time alone, and the
tables' rows are scale before shift, unlike everywhere else: scale and shift towards video, scale and shift
towards audio, gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import mlx.core as mx

from weights.architecture.transformer import TransformerConfig
from workers.networks.attention import attend, keys_values
from workers.networks.ops import Weights, add_gated, modulate, rms_norm

if TYPE_CHECKING:
    from workers.networks.transformer import Condition, Stream

_GATE = 4


def exchange(
    config: TransformerConfig,
    weights: Weights,
    run: Sequence[Stream],
    step: Sequence[Condition],
    xs: tuple[mx.array, ...],
) -> tuple[mx.array, ...]:
    """(video, audio) activations -> the same with what each takes from the other."""
    normed = [rms_norm(x, config.norm_eps) for x in xs]
    tables = [weights["scale_shift_table_a2v_ca_video"], weights["scale_shift_table_a2v_ca_audio"]]
    heads, eps = config.audio_num_attention_heads, config.norm_eps
    result = []
    for own, name in enumerate(("audio_to_video_attn", "video_to_audio_attn")):
        other, first = 1 - own, 2 * own
        inputs = []
        for side in (own, other):
            cross = step[side].cross
            assert cross is not None
            scale, shift = cross.rows(tables[side][:_GATE], first, first + 2)
            inputs.append(modulate(normed[side], scale, shift))
        gates = step[own].cross_gate
        assert gates is not None
        (gate,) = gates.rows(tables[own][_GATE:], 0, 1)
        known = keys_values(weights, name, inputs[1], heads, eps, run[other].cross_rope)
        y = attend(weights, name, inputs[0], known, heads, eps, run[own].cross_rope)
        result.append(add_gated(xs[own], y, gate))
    return tuple(result)
