"""Between artifacts and MLX: tensors as bytes on one side, arrays on the other, bf16 included.

numpy has no bf16, so such arrays cross as 16-bit integers with the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np

from cache.artifacts import Tensor, publish, read
from weights.errors import WorkerFailed

DTYPES: Mapping[str, mx.Dtype] = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}

_TO_FILE = {mx.float32: "F32", mx.bfloat16: "BF16", mx.float16: "F16", mx.int32: "I32", mx.uint8: "U8"}
_NUMPY = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I32": np.int32, "U8": np.uint8}


def to_tensor(array: mx.array) -> Tensor:
    """The array's bits as an artifact's tensor; evaluates it."""
    bits = array.view(mx.uint16) if array.dtype == mx.bfloat16 else array
    return Tensor(_TO_FILE[array.dtype], tuple(array.shape), np.ascontiguousarray(np.array(bits)).data)


def to_array(tensor: Tensor) -> mx.array:
    """The tensor's bits as an array of its own dtype."""
    array = mx.array(np.frombuffer(tensor.data, dtype=_NUMPY[tensor.dtype]).reshape(tensor.shape))
    return array.view(mx.bfloat16) if tensor.dtype == "BF16" else array


def read_array(path: str, name: str, stage: str | None = None) -> mx.array:
    """One tensor of a verified artifact. ArtifactError when the file is damaged or is another stage's."""
    return to_array(read(Path(path), stage=stage).tensors[name])


def publish_arrays(path: str, key: str, stage: str, arrays: Mapping[str, mx.array], about: Mapping[str, str]) -> int:
    """Writes an artifact of this stage, durably, and returns its bytes.

    WorkerFailed when a value is not finite: a NaN must never be cached as a result.
    """
    for name, array in arrays.items():
        if not mx.all(mx.isfinite(array.astype(mx.float32))).item():
            raise WorkerFailed(
                f"The {stage} stage computed values that are not finite (in {name!r}); nothing was saved.",
                advice="Fetch the weights anew if they may be damaged, or try --dtype float32.",
            )
    tensors = {name: to_tensor(array) for name, array in arrays.items()}
    return publish(Path(path), tensors, {**about, "key": key, "stage": stage})
