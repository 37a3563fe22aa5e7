"""Which passes a guidance asks for, and what becomes of them."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from workers.networks import transformer
from workers.sampling import predictor
from workers.sampling.guidance import Guidance, guide
from workers.sampling.predictor import make_predictor


@pytest.fixture
def visits(monkeypatch):
    """The number of passes of every call of the network."""
    counts = []
    original = transformer.velocity

    def watched(config, top, blocks, run, passes, *rest):
        counts.append(len(passes))
        return original(config, top, blocks, run, passes, *rest)

    monkeypatch.setattr(transformer, "velocity", watched)
    return counts


def predict(tiny, guidance, sigma=0.5, scale=1.0, negative=-0.5, **options):
    make = make_predictor(
        tiny.config,
        tiny.weights,
        tiny.blocks,
        tiny.context * scale,
        None if negative is None else tiny.context * negative,
        tiny.positions,
        guidance,
        mx.float32,
        **options,
    )
    return make(tiny.latent(), sigma)


CFG, STG = Guidance(cfg=4.0, rescale=0.5), Guidance(stg=0.7, stg_blocks=(1,))
BOTH = Guidance(cfg=4.0, stg=0.7, stg_blocks=(1,))


def test_guidance_combines_what_each_pass_predicts(tiny, visits):
    positive = predict(tiny, Guidance())
    negative = predict(tiny, Guidance(), scale=-0.5)
    # stg 1 on one block is 2 positive - perturbed.
    perturbed = 2 * positive - predict(tiny, Guidance(stg=1.0, stg_blocks=(1,)))
    for guidance, unguided, disturbed in ((CFG, negative, None), (STG, None, perturbed), (BOTH, negative, perturbed)):
        expected = guide(guidance, positive, unguided, disturbed)
        np.testing.assert_allclose(np.array(predict(tiny, guidance)), np.array(expected), atol=2e-5)
    assert visits == [1, 1, 2, 2, 2, 3]


def test_spatio_temporal_guidance_depends_on_its_blocks(tiny):
    plain = predict(tiny, Guidance())
    found = [predict(tiny, Guidance(stg=1.0, stg_blocks=blocks)) for blocks in ((0,), (2,), (0, 2))]
    for index, one in enumerate(found):
        for other in (plain, *found[:index]):
            assert not np.allclose(np.array(one), np.array(other), atol=1e-4)
    assert np.allclose(np.array(predict(tiny, Guidance(stg=1.0, stg_blocks=()))), np.array(plain), atol=1e-5)


def test_no_guidance_ignores_the_negative_prompt(tiny):
    assert mx.array_equal(predict(tiny, Guidance()), predict(tiny, Guidance(), negative=None)).item()


def test_guidance_needs_a_negative_prompt(tiny):
    with pytest.raises(ValueError, match="negative"):
        predict(tiny, CFG, negative=None)


def test_a_clean_token_is_left_alone(tiny):
    mask = np.ones((1, 30), np.float32)
    mask[0, :15] = 0
    x0 = predict(tiny, Guidance(), mask=mask)
    assert mx.array_equal(x0[:, :15], tiny.latent()[:, :15]).item()
    assert not mx.array_equal(x0[:, 15:], predict(tiny, Guidance())[:, 15:]).item()


@pytest.mark.parametrize("limit", [0, 64 << 20])
def test_keeping_text_keys_is_bounded_and_changes_no_bit(tiny, monkeypatch, limit):
    expected, kept = predict(tiny, CFG), []
    original = transformer.prepare_prompt
    monkeypatch.setattr(predictor, "KEEP_TEXT_BYTES", limit)
    monkeypatch.setattr(transformer, "prepare_prompt", lambda *given: kept.append(given[-1]) or original(*given))
    assert mx.array_equal(predict(tiny, CFG), expected).item()
    assert kept == [tiny.config.cross_attention_adaln or limit > 0] * 2


def test_heartbeats_come_from_every_block(tiny):
    beats = []
    predict(tiny, CFG, after_block=beats.append)
    assert beats == [0, 1, 2]
