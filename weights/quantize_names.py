"""How the weight of a linear layer may be stored: names, dtypes and shapes, for files and for the memory plan.

Three forms, told apart by the dtype of `<layer>.weight`, of shape [outputs, inputs]:

    dense     F32, BF16, F16
    fp8       F8_E4M3, with the factor `<layer>.weight_scale` (F32, one value); `<layer>.input_scale` is not needed
    affine    U32 [outputs, inputs * bits / 32], with `<layer>.scales` and `<layer>.biases` [outputs, inputs / group]:
              MLX's affine quantisation, w = scale * q + bias, the first of a word's values in its lowest bits

Only linear layers inside the blocks are ever quantised: norms, biases, tables and everything outside the blocks stay.
Bits and group size are read off the shapes. This module imports no mlx.
"""

from __future__ import annotations

import re
from typing import NamedTuple

BITS = (8, 4)
GROUPS = (64, 32)
"""Values that share a scale: the first that divides the layer's inputs. The widths of the real models take 64."""

DENSE = ("F32", "BF16", "F16")
FP8 = "F8_E4M3"
PACKED = "U32"

WEIGHT, SCALES, BIASES = ".weight", ".scales", ".biases"
FP8_SCALE, FP8_INPUT_SCALE = ".weight_scale", ".input_scale"

_LINEAR = re.compile(
    r"(?:(?:transformer_blocks\.\d+\.)?(?:\w+\.to_(?:q|k|v|out\.0)|(?:audio_)?ff\.net\.(?:0\.proj|2))"
    r"|(?:layers\.\d+\.)?(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj))\.weight"
)


class Affine(NamedTuple):
    """Bits of a value, and how many values share a scale."""

    bits: int
    group: int


def quantisable(name: str, shape: tuple[int, ...]) -> bool:
    """Whether `--quantize` and `weights quantize` change this weight: a linear layer of a block.

    By its name relative to the network, or to its block.

    Queries, keys, values, outputs and the feed-forward layers; not the gates of 2.3, which are small.
    """
    return len(shape) == 2 and _LINEAR.fullmatch(name) is not None and group_for(shape[1]) is not None


def group_for(inputs: int) -> int | None:
    """The group size for a layer of so many inputs; None: it cannot be quantised."""
    return next((group for group in GROUPS if inputs > 0 and inputs % group == 0), None)


def layer(name: str) -> str:
    """ "attn1.to_q.weight" -> "attn1.to_q" """
    return name.removesuffix(WEIGHT)


def affine_shapes(shape: tuple[int, ...], bits: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of the packed weight, and of its scales and its biases."""
    outputs, inputs = shape
    group = group_for(inputs)
    assert group is not None
    return (outputs, inputs * bits // 32), (outputs, inputs // group)


def affine_of(shape: tuple[int, ...], packed: tuple[int, ...], scales: tuple[int, ...]) -> Affine | None:
    """What shapes of a packed weight and its scales mean for a layer [outputs, inputs]; None: they do not fit."""
    if not len(shape) == len(packed) == len(scales) == 2 or not shape[0] == packed[0] == scales[0]:
        return None
    inputs, words, groups = shape[1], packed[1], scales[1]
    bits, rest = divmod(32 * words, inputs) if inputs else (0, 1)
    if rest or bits not in BITS or not groups or inputs % groups or inputs // groups not in (128, *GROUPS):
        return None
    return Affine(bits, inputs // groups)


def quantised_bytes(shape: tuple[int, ...], bits: int, scale_bytes: int) -> int:
    """In memory or in a file, of a layer [outputs, inputs] with scales and biases of `scale_bytes` each."""
    packed, scales = affine_shapes(shape, bits)
    return 4 * packed[0] * packed[1] + 2 * scale_bytes * scales[0] * scales[1]


def companions(name: str, dtype: str) -> tuple[str, ...]:
    """What must lie beside a weight of this dtype, by name."""
    if dtype == FP8:
        return (layer(name) + FP8_SCALE,)
    if dtype == PACKED:
        return (layer(name) + SCALES, layer(name) + BIASES)
    return ()
