"""Values: exactly the selected tensors of a file, in MLX's layout and the compute dtype.

Guarantees: no byte of another tensor is read; at most one tensor is in memory twice (while it is converted); the file
is still the one whose header was checked, before and after reading, or a WeightsError says that it changed. Convolution
weights come channels-last (5 dimensions: [out, depth, height, width, in], 4: [out, height, width, in]), everything else
as in the file. Not noticed: a bit flipped on the disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np

from weights.errors import WeightsError
from weights.fingerprint import unchanged
from weights.header import Signature
from weights.header_json import no_access
from weights.quantize import dequantise
from weights.quantize_names import FP8, FP8_SCALE, PACKED, companions
from weights.select import Selection, Stored

OnRead = Callable[[Path, int], None]
"""Called with the file and the number of bytes after each read, for progress and accounting."""

CHANNELS_LAST: Mapping[int, tuple[int, ...]] = {5: (0, 2, 3, 4, 1), 4: (0, 2, 3, 1)}
_MLX = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}
_NUMPY = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, PACKED: np.uint32}


def load(selection: Selection, dtype: mx.Dtype, *, on_read: OnRead | None = None) -> dict[str, mx.array]:
    """All tensors of a selection by their relative names, evaluated."""
    by_file: dict[Path, list[tuple[str, Stored]]] = {}
    for name, stored in selection.tensors.items():
        by_file.setdefault(stored.path, []).append((name, stored))
    read: dict[str, mx.array] = {}
    for path, tensors in by_file.items():
        tensors.sort(key=lambda item: item[1].info.start)
        with stored_arrays(path, selection.signatures[path], [stored for _, stored in tensors]) as arrays:
            for name, stored in tensors:
                read[name] = _converted(arrays.pop(stored.name), in_memory(name, stored.info.dtype, dtype))
                if on_read is not None:
                    on_read(path, stored.info.nbytes)
    return {name: read[name] for name in selection.tensors}


def load_subset(
    selection: Selection, names: Iterable[str], dtype: mx.Dtype, *, on_read: OnRead | None = None
) -> dict[str, mx.array]:
    """Only the tensors with these relative names."""
    chosen = {name: selection.tensors[name] for name in names}
    return load(replace(selection, tensors=chosen), dtype, on_read=on_read)


def rows(selection: Selection, name: str, indices: Sequence[int], *, on_read: OnRead | None = None) -> mx.array:
    """[len(indices), columns] of a matrix, in the file's dtype, decoded if it is quantised. Only these rows are read,
    each as often as named."""
    if selection.tensors[name].info.dtype == PACKED:
        scales, biases = (_rows(selection, beside, indices, on_read) for beside in companions(name, PACKED))
        return dequantise(_rows(selection, name, indices, on_read), scales, biases, selection.shapes[name][1])
    return _rows(selection, name, indices, on_read)


def _rows(selection: Selection, name: str, indices: Sequence[int], on_read: OnRead | None) -> mx.array:
    stored = selection.tensors[name]
    total, columns = stored.info.shape
    outside = [index for index in indices if index not in range(total)]
    if outside:
        raise WeightsError(f"{stored.path}: {stored.name} has {total:,} rows; row {outside[0]} was asked for.")
    dtype = np.dtype(_NUMPY[stored.info.dtype])
    size = dtype.itemsize * columns
    with _checked_file(stored.path, selection.signatures[stored.path]) as descriptor:
        read = b"".join(_exactly(descriptor, stored.info.start + index * size, size, stored.path) for index in indices)
    if on_read is not None:
        on_read(stored.path, len(read))
    array = mx.array(np.frombuffer(read, dtype).reshape(len(indices), columns))
    return array.view(mx.bfloat16) if stored.info.dtype == "BF16" else array


@contextmanager
def stored_arrays(path: Path, signature: Signature, tensors: Iterable[Stored]) -> Iterator[dict[str, mx.array]]:
    """The tensors as stored, by their names in the file, not read yet: an array's bytes come when it is evaluated.

    Pop an array before it is evaluated, or its bytes stay until the end.

    WeightsError at the beginning or the end when the file is not the one with this signature.
    """
    if not unchanged(path, signature):
        raise changed(path)
    try:
        arrays = mx.load(str(path), format="safetensors")
        assert isinstance(arrays, dict)
        wanted = {stored.name: arrays[stored.name] for stored in tensors}
        del arrays  # what the caller pops and drops must not live on here
        yield wanted
    except RuntimeError as error:
        # MLX reports a short read like any other fault, out of memory included.
        if unchanged(path, signature):
            raise
        raise changed(path) from error
    if not unchanged(path, signature):
        raise changed(path)


def in_memory(name: str, stored: str, dtype: mx.Dtype) -> mx.Dtype | None:
    """What a tensor is converted to when networks compute in `dtype`; None: it stays as it is stored.

    Packed weights, 8-bit floats and their factor are decoded only where they are used.
    """
    if stored in (PACKED, FP8) or name.endswith(FP8_SCALE) or _MLX.get(stored) == dtype:
        return None
    return dtype


def _converted(array: mx.array, dtype: mx.Dtype | None) -> mx.array:
    # Read first and convert then: a GPU's command buffer must not wait for the disk.
    mx.eval(array)
    axes = CHANNELS_LAST.get(array.ndim)
    if axes is not None:
        array = mx.contiguous(mx.transpose(array, axes))
    if dtype is not None:
        array = array.astype(dtype)
    mx.eval(array)
    return array


@contextmanager
def _checked_file(path: Path, signature: Signature) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise WeightsError(no_access(path, error)) from error
    try:
        if Signature.of(os.fstat(descriptor)) != signature:
            raise changed(path)
        yield descriptor
        if Signature.of(os.fstat(descriptor)) != signature:
            raise changed(path)
    finally:
        os.close(descriptor)


def _exactly(descriptor: int, start: int, size: int, path: Path) -> bytes:
    read = b""
    while len(read) < size:
        piece = os.pread(descriptor, size - len(read), start + len(read))
        if not piece:
            raise changed(path)
        read += piece
    return read


def changed(path: Path) -> WeightsError:
    """The error for a file that is no longer the one whose header was read."""
    return WeightsError(
        f"{path} changed while it was in use.", advice="Wait until whatever writes it has finished, and run again."
    )
