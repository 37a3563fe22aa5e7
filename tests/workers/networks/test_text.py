"""What Gemma, the projection and the connector promise beyond the reference's numbers."""

from __future__ import annotations

import gc
import weakref

import mlx.core as mx
import numpy as np
import pytest

from weights.architecture import gemma
from weights.architecture.connector import ConnectorConfig
from weights.architecture.gemma import GemmaConfig
from weights.architecture.projection import ProjectionConfig
from workers.networks.connector import connect, with_registers
from workers.networks.gemma import embed, hidden_states
from workers.networks.ops import blocks
from workers.networks.projection import normalise, project

CONFIG = GemmaConfig.from_metadata(
    {
        "model_type": "gemma3_text",
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "vocab_size": 10,
        "sliding_window": 4,
        "sliding_window_pattern": 3,
        "rope_scaling": None,
    }
)


def random(*shape, seed=0):
    return mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * 0.3)


WEIGHTS = {name: random(*shape, seed=n) for n, (name, shape) in enumerate(gemma.tensors(CONFIG).items())}


def states(*texts, layers=None, length=32):
    source = blocks(WEIGHTS, gemma.LAYERS, CONFIG.num_hidden_layers) if layers is None else layers
    rows = [embed(CONFIG, WEIGHTS["embed_tokens.weight"][mx.array(ids)], mx.float32) for ids in texts]
    return [list(step) for step in hidden_states(CONFIG, WEIGHTS["norm.weight"], source, rows, length)]


def test_texts_together_are_texts_alone():
    a, b = [1, 2, 3], [4, 5, 6, 7, 8, 9, 1, 2]
    both = states(a, b)
    assert len(both) == 4
    for together, (first,), (second,) in zip(both, states(a), states(b), strict=True):
        assert mx.array_equal(together[0], first).item()
        assert mx.array_equal(together[1], second).item()


def test_padding_moves_positions_and_changes_only_rounding():
    near, far = states([1, 2, 3, 4, 5], length=5), states([1, 2, 3, 4, 5], length=1024)
    for (a,), (b,) in zip(near, far, strict=True):
        np.testing.assert_allclose(np.array(a), np.array(b), atol=2e-4)
    assert not mx.array_equal(near[-1][0], far[-1][0]).item()


def test_later_tokens_do_not_change_earlier_ones():
    for (a,), (b,) in zip(states([1, 2, 3], length=0), states([1, 2, 3, 4, 5, 6], length=0), strict=True):
        np.testing.assert_allclose(np.array(a), np.array(b)[:3], atol=1e-5)


def test_a_sliding_layer_looks_back_no_further_than_its_window():
    """After one layer token 4 cannot know token 0; after the full third layer it does."""
    (a, b), (c, d) = ([step[0] for step in states(ids)][1:4:2] for ids in ([1, 2, 3, 4, 5], [9, 2, 3, 4, 5]))
    assert mx.array_equal(a[4], c[4]).item()
    assert not mx.array_equal(a[3], c[3]).item()
    assert not mx.array_equal(b[4], d[4]).item()


def test_the_embedding_factor_is_rounded_to_the_dtype():
    config = GemmaConfig.from_metadata(
        {
            "model_type": "gemma3",
            "text_config": {
                "hidden_size": 3840,
                "intermediate_size": 15360,
                "num_hidden_layers": 48,
                "num_attention_heads": 16,
                "num_key_value_heads": 8,
            },
        }
    )
    rows = mx.ones((1, 3840))
    assert embed(config, rows, mx.bfloat16)[0, 0].item() == 62.0
    assert embed(config, rows, mx.float32)[0, 0].item() == pytest.approx(3840**0.5, abs=1e-5)


class Layer(dict):
    """A dict that can be watched by a weak reference."""


def test_one_layer_is_alive_at_a_time():
    alive: list[weakref.ref[Layer]] = []

    def visits():
        for weights in blocks(WEIGHTS, gemma.LAYERS, 3):
            gc.collect()
            assert all(reference() is None for reference in alive)
            layer = Layer(weights)
            alive.append(weakref.ref(layer))
            yield layer
            del layer

    assert len(states([1, 2, 3], [4, 5], layers=visits())) == 4


def test_too_few_layers():
    with pytest.raises(ValueError, match="1 layers were given, Gemma has 3"):
        states([1], layers=[dict(next(blocks(WEIGHTS, gemma.LAYERS, 1)))])


def test_flat_order_is_channel_then_state():
    """A projection that picks flat input 4 finds channel 1 of state 1 (three states)."""
    config = ProjectionConfig(2, hidden_size=5, num_states=3, video_dim=5, audio_dim=5)
    given = [random(2, 5, seed=seed) for seed in range(3)]
    weights = {"video_aggregate_embed.weight": mx.eye(15)[4:5], "video_aggregate_embed.bias": mx.zeros((1,))}
    found = project(config, weights, given)
    assert mx.array_equal(found[0, :, 0], given[1][:, 1]).item()


def test_a_projection_takes_all_states():
    config = ProjectionConfig(1, hidden_size=5, num_states=3, video_dim=5, audio_dim=5)
    with pytest.raises(ValueError, match="2 hidden states were given, the projection takes 3"):
        project(config, {"aggregate_embed.weight": mx.eye(15)}, [random(2, 5)] * 2)


def test_normalisations():
    x = random(4, 6) + 2
    first = normalise(ProjectionConfig(1, 6, 1, 6, 6), x)
    assert first.mean().item() == pytest.approx(0, abs=1e-5)
    assert (first.max() - first.min()).item() == pytest.approx(8, abs=1e-4)
    second = normalise(ProjectionConfig(2, 6, 1, 6, 6), x)
    np.testing.assert_allclose(np.array((second * second).mean(axis=-1)), 1, atol=1e-5)
    assert normalise(ProjectionConfig(1, 6, 1, 6, 6), x.astype(mx.bfloat16)).dtype == mx.bfloat16


def test_registers_fill_by_position():
    registers, features = random(4, 3), random(1, 6, 3, seed=1)
    found = with_registers(registers, features, 11)
    assert mx.array_equal(found[:, :6], features).item()
    assert mx.array_equal(found[0, 6:], registers[mx.array([2, 3, 0, 1, 2])]).item()
    assert mx.array_equal(with_registers(registers, features, 6), features).item()


def test_a_text_longer_than_the_context():
    config = ConnectorConfig(1, 1, 4, 4, 10000.0, (4096,), "split", True, False)
    with pytest.raises(ValueError, match="7 text tokens do not fit a context of 6"):
        connect(config, random(4, 4), [], random(1, 7, 4), 6)
