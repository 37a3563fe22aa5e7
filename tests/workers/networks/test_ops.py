"""numpy on the CPU and MLX compute the same things."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from workers.networks import host, host_tokens, ops


def random(*shape, seed=0):
    return mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


@pytest.fixture
def both(monkeypatch):
    """both(function): its results with numpy and with MLX."""

    def run(function):
        monkeypatch.setattr(host, "applies", lambda x: True)
        first = np.array(function())
        monkeypatch.setattr(host, "applies", lambda x: False)
        return first, np.array(function())

    return run


def close(pair, atol=2e-6):
    np.testing.assert_allclose(*pair, rtol=0, atol=atol)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (1, 7, 5), (2, 3, 4, 5), (1, 0, 5)])
def test_linear(both, shape, bias):
    weights = {"a.weight": random(3, 5)} | ({"a.bias": random(3, seed=1)} if bias else {})
    close(both(lambda: ops.linear(weights, "a", random(*shape, seed=2))))


def test_linear_of_a_view(both):
    weights = {"a.weight": random(5, 3).T}
    close(both(lambda: ops.linear(weights, "a", random(4, 5, 6)[:, :, ::2].swapaxes(1, 2))))


def test_gelu(both):
    x = mx.array(np.linspace(-200, 200, 4001, dtype=np.float32))
    numpy, mlx = both(lambda: ops.gelu(x))
    np.testing.assert_allclose(numpy, mlx, rtol=1e-6, atol=1e-6)
    assert numpy[0] == 0
    assert numpy[-1] == 200


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("scores", [1, 20, 1 << 18])
@pytest.mark.parametrize("mask", [None, "causal", "window"])
def test_attention(both, monkeypatch, mask, scores, batch):
    """In pieces of any size, with any mask, and with two query heads to a key head."""
    monkeypatch.setattr(host_tokens, "_SCORES", scores)
    q, k, v = random(batch, 4, 13, 8), random(batch, 2, 13, 8, seed=1) * 3, random(batch, 2, 13, 8, seed=2)
    if mask == "window":
        back = np.arange(13)[:, None] - np.arange(13)
        mask = mx.array((back >= 0) & (back < 4))
    close(both(lambda: ops.attention(q, k, v, 0.3, mask)))


def test_attention_over_another_sequence(both):
    q, k, v = random(1, 2, 5, 8), random(1, 2, 17, 8, seed=1), random(1, 2, 17, 8, seed=2)
    close(both(lambda: ops.attention(q, k, v, 0.3)))


def test_attention_with_scores_beyond_the_range_of_exp(both):
    q, k, v = random(1, 1, 3, 4) * 100, random(1, 1, 6, 4, seed=1) * 100, random(1, 1, 6, 4, seed=2)
    close(both(lambda: ops.attention(q, k, v, 1.0)))


def test_blocks_have_their_own_names():
    weights = {"b.0.x": mx.array(0), "b.1.x": mx.array(1), "b.10.x": mx.array(10), "top": mx.array(5)}
    assert [{name: value.item() for name, value in block.items()} for block in ops.blocks(weights, "b.", 2)] == [
        {"x": 0},
        {"x": 1},
    ]
