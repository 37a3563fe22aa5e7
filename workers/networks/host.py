"""What MLX does slowly on a CPU, done by numpy instead: convolutions, and the exponential in SiLU.

MLX's CPU convolution unfolds its whole input at once (27 times its size) and multiplies with whatever BLAS the
wheel finds, mostly the reference one; its exponential is not vectorised. numpy brings a fast BLAS of its own.
Measured on 2 cores for the tiny model's widest layer: 140 ms against 270 ms with OpenBLAS under MLX, and some
1,500 ms without; SiLU 9 ms against 94 ms. float32 only. Results are evaluated, not lazy, and deterministic for
one numpy, one processor and one number of BLAS threads.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_PATCH_FLOATS = 1 << 22
"""Patches are unfolded in pieces of about this many numbers (2 MB), which stay in the cache."""


def applies(x: mx.array) -> bool:
    """Whether this module's functions are to be used for x: float32 on the CPU."""
    return x.dtype == mx.float32 and mx.default_device().type == mx.DeviceType.cpu


def silu(x: mx.array) -> mx.array:
    """x / (1 + exp(-x))"""
    values = view(x)
    with np.errstate(over="ignore"):  # exp(-x) = inf gives the right limit, 0
        result = np.exp(-values)
    result += 1
    return mx.array(np.divide(values, result, out=result))


def convolve(x: mx.array, weight: mx.array, bias: mx.array, sources: Sequence[int | None], reflect: bool) -> mx.array:
    """Stride 1; height and width keep their size, padded by one with zeros or by reflection.

    x [frames, height, width, channels]; weight [outputs, taps, 3, 3, channels]. `sources` lists the frames along
    the padded time axis, None for a frame of zeros; the result has len(sources) - taps + 1 frames.
    """
    frames, matrix = view(x), view(weight)
    outputs, taps, _, _, channels = matrix.shape
    # One product per input frame gives its contribution to all `taps` output frames.
    matrix = np.ascontiguousarray(matrix.transpose(2, 3, 4, 1, 0)).reshape(9 * channels, taps * outputs)
    _, height, width, _ = frames.shape
    result = np.empty((len(sources) - taps + 1, height, width, outputs), np.float32)
    result[...] = view(bias)
    targets = {frame: _targets(frame, sources, taps, len(result)) for frame in range(len(frames))}

    rows = max(1, min(height, _PATCH_FLOATS // (9 * channels * width)))
    padded = np.zeros((height + 2, width + 2, channels), np.float32)
    patches = np.empty((rows, width, 3, 3 * channels), np.float32)
    products = np.empty((rows * width, taps * outputs), np.float32)
    step_row, step_column, step = padded.strides
    for frame, pairs in targets.items():
        padded[1:-1, 1:-1] = frames[frame]
        if reflect:
            _reflect(padded)
        for top in range(0, height, rows):
            count = min(rows, height - top)
            windows = (count, width, 3, 3 * channels)
            patches[:count] = as_strided(padded[top:], windows, (step_row, step_column, step_row, step))
            product = products[: count * width]
            np.matmul(patches[:count].reshape(count * width, 9 * channels), matrix, out=product)
            for target, tap in pairs:
                part = product[:, tap * outputs : (tap + 1) * outputs]
                result[target, top : top + count] += part.reshape(count, width, outputs)
    return mx.array(result)


def _targets(frame: int, sources: Sequence[int | None], taps: int, count: int) -> list[tuple[int, int]]:
    """(output frame, tap) pairs that this input frame contributes to."""
    positions = [position for position, source in enumerate(sources) if source == frame]
    return [(p - tap, tap) for p in positions for tap in range(taps) if 0 <= p - tap < count]


def _reflect(padded: Floats) -> None:
    """Fills the border from the rows and columns one further in; a side of 1 repeats itself."""
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    padded[0], padded[-1] = padded[min(2, height)], padded[max(-3, -1 - height)]
    padded[:, 0], padded[:, -1] = padded[:, min(2, width)], padded[:, max(-3, -1 - width)]


def view(x: mx.array) -> Floats:
    """The array's own memory (no copy) as float32."""
    x = x.astype(mx.float32)
    mx.eval(x)
    return np.array(x, copy=False)
