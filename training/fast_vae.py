"""The VAE's blocks as a GPU runs them fastest: channels last in memory throughout, and what is not a convolution fused.

The classes are ltx-core's, whose own forwards change the memory layout at every rearrangement and round every step of a
norm; the arithmetic here is theirs.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.device import fused


class FusedNorm(nn.Module):
    """PixelNorm and the SiLU after it."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return _norm_silu(x, self.eps)


@fused
def _norm_silu(x: Tensor, eps: float) -> Tensor:
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(1, keepdim=True) + eps)
    return (y * torch.sigmoid(y)).to(x.dtype)


@fused
def _pad_causal(x: Tensor) -> Tensor:
    return torch.cat([x[:, :, :1], x[:, :, :1], x], 2)


@fused
def _pad_centred(x: Tensor) -> Tensor:
    """Time by repeating, height and width by reflection."""
    x = torch.cat([x[:, :, :1], x, x[:, :, -1:]], 2)
    x = torch.cat([x[..., 1:2, :], x, x[..., -2:-1, :]], -2)
    return torch.cat([x[..., 1:2], x, x[..., -2:-1]], -1)


def _convolve(module: Any, x: Tensor, causal: bool = True) -> Tensor:
    """The encoder is causal and pads with zeros, the decoder neither."""
    convolution = module.conv
    if (convolution.padding_mode == "zeros") is not causal:
        raise ValueError("an encoder is causal and padded with zeros, a decoder neither")
    x = _pad_causal(x) if causal else _pad_centred(x)
    return functional.conv3d(x, convolution.weight, convolution.bias, padding=(0, 1, 1) if causal else 0)


def space_to_depth(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    n, c, t, h, w = x.shape
    a, b, d = stride
    x = x.permute(0, 2, 3, 4, 1).reshape(n, t // a, a, h // b, b, w // d, d, c)
    x = x.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(n, t // a, h // b, w // d, c * a * b * d)
    return x.permute(0, 4, 1, 2, 3)


def depth_to_space(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """Doubling time leaves out the first frame."""
    n, c, t, h, w = x.shape
    a, b, d = stride
    x = x.permute(0, 2, 3, 4, 1).reshape(n, t, h, w, c // (a * b * d), a, b, d)
    x = x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(n, t * a, h * b, w * d, c // (a * b * d))
    return x.permute(0, 4, 1, 2, 3)[:, :, a - 1 :]


def _downsample(module: Any, x: Tensor, causal: bool = True) -> Tensor:
    if module.stride[0] == 2:
        x = torch.cat([x[:, :, :1], x], 2)
    skip = space_to_depth(x, module.stride)
    skip = skip.unflatten(1, (-1, module.group_size)).mean(2)
    return space_to_depth(module.conv(x, causal=causal), module.stride) + skip


def _upsample(module: Any, x: Tensor, causal: bool = True) -> Tensor:
    y = depth_to_space(module.conv(x, causal=causal), module.stride)
    if not module.residual:
        return y
    skip = depth_to_space(x, module.stride)
    return y + skip.repeat(1, y.shape[1] // skip.shape[1], 1, 1, 1)


_FORWARDS = {"CausalConv3d": _convolve, "SpaceToDepthDownsample": _downsample, "DepthToSpaceUpsample": _upsample}


def speed_up(network: nn.Module) -> None:
    """Gives an encoder or decoder of ltx-core these forwards."""
    for block in network.modules():
        kind = type(block).__name__
        if kind in _FORWARDS:
            block.forward = types.MethodType(_FORWARDS[kind], block)
        elif kind == "ResnetBlock3D":
            block.norm1, block.norm2 = FusedNorm(block.norm1.eps), FusedNorm(block.norm2.eps)
            block.non_linearity = nn.Identity()
    network.conv_norm_out, network.conv_act = FusedNorm(network.conv_norm_out.eps), nn.Identity()
