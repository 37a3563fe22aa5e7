from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import save_file

from weights.errors import UsageError
from workers.sampling.noise import noise, noise_from_file, noised

SHAPE = (1, 4, 2, 3, 5)


def test_the_noise_of_a_seed_is_fixed():
    """A change of these values changes every video: it would need new code versions of both stages."""
    np.testing.assert_array_equal(
        noise(0, "stage1", (1, 4)).view(np.uint32)[0], [0xBFB73A2E, 0x3FD5DA0D, 0xBECE31D6, 0xBFA5D799]
    )


def test_seeds_and_stages_are_independent():
    values = [noise(seed, stage, SHAPE).ravel() for seed in (0, 1, 2**63) for stage in ("stage1", "stage2")]
    distinct = {tuple(one) for one in values}
    assert len(distinct) == len(values)
    assert np.abs(np.corrcoef(values) - np.eye(len(values))).max() < 0.4
    assert noise(7, "stage2", SHAPE).dtype == np.float32


def test_noise_is_standard_normal():
    values = noise(3, "stage1", (1, 128, 4, 8, 8))
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 1) < 0.02


@pytest.mark.parametrize("seed", [-1, 2**64 - 1, 2**70])
def test_any_whole_number_is_a_seed(seed):
    assert np.isfinite(noise(seed, "stage1", (2,))).all()


def test_noise_from_a_file(tmp_path):
    path, given = tmp_path / "noise.safetensors", noise(1, "stage1", SHAPE)
    save_file({"stage1": given, "stage2": given[:, :, :1]}, path)
    np.testing.assert_array_equal(noise_from_file(path, "stage1", SHAPE), given)
    with pytest.raises(UsageError, match=r"'stage2'.*\[1, 4, 1, 3, 5\].*\[1, 4, 2, 3, 5\]"):
        noise_from_file(path, "stage2", SHAPE)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"other": np.zeros(SHAPE, np.float32)}, "no tensor 'stage1'; it has other"),
        ({"stage1": np.zeros(SHAPE, np.float64)}, "is F64; it must be F32"),
        ({"stage1": np.full(SHAPE, np.nan, np.float32)}, "not finite"),
    ],
)
def test_unusable_noise_files(tmp_path, tensors, message):
    save_file(tensors, tmp_path / "noise.safetensors")
    with pytest.raises(UsageError, match=message):
        noise_from_file(tmp_path / "noise.safetensors", "stage1", SHAPE)


@pytest.mark.parametrize("content", [None, b"", b"not a safetensors file at all"])
def test_files_that_are_no_noise_file(tmp_path, content):
    path = tmp_path / "noise.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"noise\.safetensors cannot be read"):
        noise_from_file(path, "stage1", SHAPE)


def test_noised():
    clean, fresh = mx.full((1, 3, 2), 2.0), mx.ones((1, 3, 2))
    assert mx.array_equal(noised(None, fresh, 1.0, mx.float32), fresh).item()
    np.testing.assert_allclose(np.array(noised(clean, fresh, 0.75, mx.float32)), 1.25)
    mask = mx.array([1.0, 0.5, 0.0])[None, :, None]
    np.testing.assert_allclose(np.array(noised(clean, fresh, 0.5, mx.float32, mask))[0, :, 0], [1.5, 1.75, 2.0])
    assert noised(clean.astype(mx.bfloat16), fresh, 0.5, mx.bfloat16).dtype == mx.bfloat16
