"""Positions and tables: the figures that ltx-core 1.0.0 gives, and what must hold for any of them."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import pytest

from workers.networks import rope


@dataclass(frozen=True)
class Config:
    positional_embedding_theta: float = 10000.0
    rope_type: str = "split"
    double_precision_rope: bool = True


def released(dtype=mx.float32):
    """The 19B model's table for 3 x 2 x 2 latent cells at 25 frames a second."""
    values = rope.midpoints(rope.video_positions((3, 2, 2), 25.0))
    return rope.table(Config(), values, (20, 2048, 2048), 32, 4096, dtype)


def test_positions_are_seconds_and_pixels():
    positions = rope.video_positions((3, 1, 2), 25.0)
    assert positions.shape == (3, 6, 2)
    np.testing.assert_allclose(positions[0, ::2], [(0, 0.04), (0.04, 0.36), (0.36, 0.68)], atol=1e-7)
    np.testing.assert_array_equal(positions[1], [(0, 32)] * 6)
    np.testing.assert_array_equal(positions[2], [(0, 32), (32, 64)] * 3)


def test_audio_positions_are_seconds():
    positions = rope.audio_positions(3)[0]
    np.testing.assert_allclose(positions, [(0, 0.01), (0.01, 0.05), (0.05, 0.09)], atol=1e-7)


def test_frequencies():
    grid = rope.frequencies(Config(), 4096, 3)
    assert len(grid) == 682
    np.testing.assert_allclose(grid[[0, -1]], [1.5707964, 15707.963], rtol=1e-7)


def test_released_table():
    table = released()
    assert table.cos.shape == table.sin.shape == (1, 32, 12, 64)
    cos, sin = np.array(table.cos)[0], np.array(table.sin)[0]
    expected = [1, 1, 0.003141, 0.024541, 0.024541, -0.018204, 0.003489, 0.003489]
    np.testing.assert_allclose(cos[0, 0, :8], expected, atol=1e-6)
    expected = [0, 0, -0.999995, -0.999699, -0.999699, -0.999834, -0.999994, -0.999994]
    np.testing.assert_allclose(sin[0, 0, :8], expected, atol=1e-6)
    np.testing.assert_allclose(cos[31, 11, -4:], [0.324478, 1.0, 0.382549, 0.382549], atol=1e-6)


def test_tables_take_the_dtype_of_the_activations():
    table = released(mx.bfloat16)
    assert table.cos.dtype == table.sin.dtype == mx.bfloat16
    assert mx.array_equal(table.cos, released().cos.astype(mx.bfloat16)).item()


@pytest.mark.parametrize("rope_type", ["split", "interleaved"])
def test_only_differences_of_positions_matter(rope_type):
    """Queries at p and keys at q meet as at p + 5 and q + 5."""
    config, x = Config(rope_type=rope_type), mx.array(np.random.default_rng(0).standard_normal((2, 1, 3, 16)))

    def scores(offset):
        values = np.array([[0, 3, 7]], np.float32) + offset
        table = rope.table(config, values, (20,), 2, 16, mx.float32)
        queries, keys = (rope.rotate(y.astype(mx.float32), table, 2) for y in x)
        return np.array(queries @ keys.swapaxes(-1, -2))

    np.testing.assert_allclose(scores(5), scores(0), atol=5e-3)
    assert np.abs(scores(0)).max() > 1
