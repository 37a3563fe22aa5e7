"""Between artifacts and arrays: the same bits there and back, and nothing published that is no number."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from weights.errors import WorkerFailed
from workers.arrays import DTYPES, publish_arrays, read_array, to_array, to_tensor
from workers.stages.decode import centre

pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_there_and_back(tmp_path: Path, dtype: mx.Dtype) -> None:
    array = mx.array(np.random.default_rng(0).standard_normal((2, 3, 5)).astype(np.float32)).astype(dtype)
    publish_arrays(str(tmp_path / "a.safetensors"), "k", "stage1", {"video": array}, {})
    for found in (to_array(to_tensor(array)), read_array(str(tmp_path / "a.safetensors"), "video", "stage1")):
        assert found.dtype == dtype
        assert mx.array_equal(found, array)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_not_published(tmp_path: Path, dtype: mx.Dtype, bad: float) -> None:
    values = mx.array([1.0, bad, 2.0]).astype(dtype)
    with pytest.raises(WorkerFailed, match="not finite"):
        publish_arrays(str(tmp_path / "a.safetensors"), "k", "temporal", {"fine": mx.zeros(2), "video": values}, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("size", "rows", "columns"), [((6, 4), (0, 4), (0, 6)), ((4, 2), (1, 3), (1, 5))])
def test_a_video_is_cut_from_the_middle(size: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]) -> None:
    frames = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    assert np.array_equal(centre(frames, *size), frames[:, slice(*rows), slice(*columns)])
