"""Whether the tensors of a file are those that a network needs, no more and no fewer; see `select`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from weights.header import TensorInfo
from weights.header_json import plain
from weights.quantize_names import (
    BIASES,
    BITS,
    DENSE,
    FP8,
    FP8_INPUT_SCALE,
    FP8_SCALE,
    PACKED,
    SCALES,
    affine_of,
    companions,
    layer,
)


def fit(
    prefix: str,
    shapes: Mapping[str, tuple[int, ...]],
    present: Mapping[str, TensorInfo],
    unread: Callable[[str], bool],
    linear: Callable[[str], bool],
) -> tuple[str, list[str]]:
    """(what is wrong, in words; empty: nothing, names of the tensors to read).

    shapes: what is needed; present: what is there; both by names relative to `prefix`, which is for the words. unread:
    names that may be there and are not read. linear: names of weights that may be fp8 or quantised.
    """
    chosen: list[str] = []
    beside: set[str] = set()
    missing, misshapen, unreadable = [], [], []
    for name, shape in shapes.items():
        if name not in present:
            missing.append(prefix + name)
            continue
        info = present[name]
        compact = len(shape) == 2 and name.endswith(".weight") and linear(name)
        others = companions(name, info.dtype) if compact else ()
        missing += [prefix + other for other in others if other not in present]
        if info.dtype not in DENSE and not others:
            unreadable.append(f"{prefix}{name} is {info.dtype}")
        elif all(other in present for other in others):
            fault = misfit(name, info, shape, [present[other] for other in others])
            misshapen += [prefix + fault] if fault else []
        chosen += [name, *others]
        beside |= {*others, layer(name) + FP8_INPUT_SCALE} if others else set()
    unexpected = [prefix + name for name in present if name not in shapes and name not in beside and not unread(name)]
    faults = (
        ("missing", missing),
        ("not explained by its config", unexpected),
        ("of another shape than its config says", misshapen),
        (f"of a dtype that is not {', '.join(DENSE)}", unreadable),
    )
    return "; ".join(f"{len(names):,} {what}: {some(names, 240)}" for what, names in faults if names), chosen


def misfit(name: str, info: TensorInfo, shape: tuple[int, ...], others: Sequence[TensorInfo]) -> str:
    """What is wrong with the shapes of a tensor and of what belongs to it; empty: nothing."""
    if info.dtype == PACKED:
        scales, biases = others
        dense = scales.dtype in DENSE and biases.dtype in DENSE and scales.shape == biases.shape
        if dense and affine_of(shape, info.shape, scales.shape) is not None:
            return ""
        return (
            f"{name} (U32 {list(info.shape)}, {SCALES[1:]} {scales.dtype} {list(scales.shape)}, {BIASES[1:]} "
            f"{biases.dtype} {list(biases.shape)}) is not {list(shape)} in {' or '.join(map(str, BITS))} bits"
        )
    if info.shape != shape:
        return f"{name} is {list(info.shape)} instead of {list(shape)}"
    for scale in others:
        if info.dtype == FP8 and (scale.dtype != "F32" or scale.shape not in ((), (1,))):
            return f"{layer(name)}{FP8_SCALE} is {scale.dtype} {list(scale.shape)} instead of one F32 value"
    return ""


def some(names: Sequence[str], length: int = 100) -> str:
    """The first few, each cut at `length`, for a message."""
    rest = len(names) - 3
    return ", ".join(plain(name, length) for name in names[:3]) + (f" and {rest:,} more" if rest > 0 else "")
