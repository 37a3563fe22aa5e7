"""The transformer's blocks as training runs them: what is no product of matrices fused, and captions shared by clips.

The classes are ltx-core's, whose forwards write every step of a norm or a rotation to memory; the arithmetic here is
theirs, except that on a GPU the sum of the blocks is kept in float32. For video alone, without perturbations or masks.
"""

from __future__ import annotations

import types
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from training.device import ON_GPU, fused

_LOW = torch.bfloat16 if ON_GPU else torch.float32


def _normed(x: Tensor, eps: float) -> Tensor:
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


@fused
def _norm(x: Tensor, eps: float) -> Tensor:
    return _normed(x, eps).to(_LOW)


@fused
def _modulated(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    return (_normed(x, eps) * (1 + scale.float()) + shift.float()).to(_LOW)


@fused
def _gated(x: Tensor, change: Tensor, gate: Tensor) -> Tensor:
    return x.float() + change.float() * gate.float()


@fused
def _head_norm(x: Tensor, weight: Tensor, eps: float, heads: int) -> Tensor:
    """`[batch, tokens, width]` to `[batch, heads, tokens, width / heads]`."""
    x = _normed(x, eps) * weight
    return x.to(_LOW).unflatten(-1, (heads, -1)).transpose(1, 2)


@fused
def _rotated(x: Tensor, weight: Tensor, eps: float, cosine: Tensor, sine: Tensor) -> Tensor:
    """The same, and turned by angles `[batch, heads, tokens, width / heads / 2]`: the first half with the second."""
    x = (_normed(x, eps) * weight).unflatten(-1, (cosine.shape[1], 2, -1))
    cosine, sine = cosine.transpose(1, 2), sine.transpose(1, 2)
    first, second = x[..., 0, :], x[..., 1, :]
    turned = torch.stack([first * cosine - second * sine, second * cosine + first * sine], -2)
    return turned.flatten(-2).to(_LOW).transpose(1, 2)


def _attend(attention: Any, x: Tensor, context: Tensor, pe: tuple[Tensor, Tensor] | None) -> Tensor:
    eps, heads = attention.q_norm.eps, attention.heads
    q, k, v = attention.to_q(x), attention.to_k(context), attention.to_v(context)
    if pe is None:
        q, k = (_head_norm(y, norm.weight, eps, heads) for y, norm in ((q, attention.q_norm), (k, attention.k_norm)))
    else:
        q, k = (_rotated(y, norm.weight, eps, *pe) for y, norm in ((q, attention.q_norm), (k, attention.k_norm)))
    v = v.unflatten(-1, (heads, -1)).transpose(1, 2).to(q.dtype)
    attended = functional.scaled_dot_product_attention(q, k, v)
    return attention.to_out(attended.transpose(1, 2).flatten(2))


def _block(block: Any, video: Any, audio: None = None, perturbations: Any = None) -> tuple[Any, None]:
    x, eps = video.x, block.norm_eps
    values = block.get_ada_values(block.scale_shift_table, x.shape[0], video.timesteps, slice(0, 6))
    shift, scale, gate, ff_shift, ff_scale, ff_gate = values
    y = _modulated(x, scale, shift, eps)
    x = _gated(x, _attend(block.attn1, y, y, video.positional_embeddings), gate)

    batch, tokens, width = x.shape
    queries = _norm(x, eps).reshape(batch // block.clips, tokens * block.clips, width)
    x = x + _attend(block.attn2, queries, video.context, None).reshape(batch, tokens, width)

    x = _gated(x, block.ff(_modulated(x, ff_scale, ff_shift, eps)), ff_gate)
    return replace(video, x=x), None


def speed_up(model: Any, clips: int) -> None:
    """Gives the model's blocks this forward, in which `clips` consecutive ones share one caption.

    Its keys and values are then computed once: cross-attention here has neither positions nor a mask, so that folding
    the clips' queries together changes nothing.
    """
    for block in model.transformer_blocks:
        block.clips = clips
        block.forward = types.MethodType(_block, block)
    preprocessor = model.video_args_preprocessor
    preprocessor._prepare_context = lambda context, x: preprocessor.caption_projection(context)
