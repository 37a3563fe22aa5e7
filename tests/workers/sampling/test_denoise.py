from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from weights.errors import WorkerFailed
from workers.sampling.denoise import denoise, euler
from workers.sampling.guidance import Guidance, guide
from workers.sampling.latents import from_tokens, to_tokens
from workers.sampling.schedules import ltx2_sigmas, stage2_sigmas


def random(*shape, seed=0):
    return mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


TARGET = random(1, 6, 4, seed=9)


def curved(latent, sigma):
    """A prediction that depends on where the latent is."""
    return mx.tanh(latent.astype(mx.float32)) * sigma + TARGET * (1 - sigma)


def test_a_straight_flow_ends_at_its_target():
    """While the prediction is right, every point on the way is noise * sigma + target * (1 - sigma)."""
    noise, sigmas, visited = random(1, 6, 4), ltx2_sigmas(7), []
    final = denoise(lambda latent, sigma: TARGET, noise, sigmas, on_step=lambda done, total, x, s: visited.append(x))
    for sigma, latent in zip(sigmas[1:], visited, strict=True):
        expected = np.array(noise) * sigma + np.array(TARGET) * (1 - sigma)
        np.testing.assert_allclose(np.array(latent), expected, atol=2e-6)
    assert mx.array_equal(final, visited[-1]).item()


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_going_on_from_any_step_ends_in_the_same_bits(dtype):
    saved = {}
    start, sigmas = random(1, 6, 4).astype(dtype), stage2_sigmas(5)
    whole = denoise(curved, start, sigmas, on_step=lambda done, total, x, s: saved.update({done: x}))
    assert whole.dtype == dtype
    assert sorted(saved) == [1, 2, 3, 4, 5]
    for done, latent in saved.items():
        assert latent.dtype == dtype
        assert mx.array_equal(denoise(curved, latent, sigmas, start=done), whole).item()


def test_steps_are_reported_in_order():
    calls = []
    denoise(curved, random(1, 6, 4), ltx2_sigmas(3), on_step=lambda *args: calls.append(args))
    assert [(done, total) for done, total, _, _ in calls] == [(1, 3), (2, 3), (3, 3)]
    assert all(seconds >= 0 for *_, seconds in calls)


def test_each_step_asks_once_at_its_sigma():
    asked = []

    def predict(latent, sigma):
        asked.append(sigma)
        return TARGET

    denoise(predict, random(1, 6, 4), ltx2_sigmas(4))
    assert asked == ltx2_sigmas(4)[:-1].tolist()


def test_kept_tokens_end_as_they_are_given():
    mask = mx.array([0.0, 1, 1, 0, 1, 1])[None, :, None]
    clean = random(1, 6, 4, seed=3)
    final = denoise(curved, random(1, 6, 4), ltx2_sigmas(5), mask=mask, clean=clean)
    np.testing.assert_allclose(np.array(final)[0, [0, 3]], np.array(clean)[0, [0, 3]], atol=1e-6)
    assert mx.abs(final - clean)[0, 1].max().item() > 0.1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_an_error(value):
    def predict(latent, sigma):
        return TARGET if sigma == 1 else mx.where(mx.arange(4) == 2, value, TARGET)

    with pytest.raises(WorkerFailed, match="Step 2 of 4"):
        denoise(predict, random(1, 6, 4), np.array([1, 0.75, 0.5, 0.25, 0], np.float32))


def test_the_update_is_float32():
    """In bfloat16 the step would vanish: 1/256 is half of the distance to the next number."""
    x = mx.full((1,), 1.0, dtype=mx.bfloat16)
    moved = euler(x, mx.array([0.0]), np.float32(1.0), np.float32(0.994))
    assert moved.dtype == mx.bfloat16
    assert moved.item() == mx.array(0.994).astype(mx.bfloat16).item()


def test_guidance_that_is_off_is_the_prediction():
    positive = random(1, 6, 4)
    assert not Guidance().needs_negative
    assert not Guidance().needs_perturbed
    assert mx.array_equal(guide(Guidance(), positive), positive).item()
    assert guide(Guidance(), positive.astype(mx.bfloat16)).dtype == mx.float32


def test_full_rescale_keeps_the_spread():
    positive, negative = random(1, 6, 4), random(1, 6, 4, seed=1)
    plain = guide(Guidance(cfg=5.0), positive, negative)
    rescaled = guide(Guidance(cfg=5.0, rescale=1.0), positive, negative)
    assert mx.std(plain).item() > 2 * mx.std(positive).item()
    assert mx.std(rescaled, ddof=1).item() == pytest.approx(mx.std(positive, ddof=1).item(), rel=1e-5)


def test_latents_and_tokens():
    latent = random(1, 4, 2, 3, 5)
    tokens = to_tokens(latent)
    assert tokens.shape == (1, 30, 4)
    assert mx.array_equal(tokens[0, 1 * 15 + 2 * 5 + 3], latent[0, :, 1, 2, 3]).item()
    assert mx.array_equal(from_tokens(tokens, latent.shape[2:]), latent).item()
    longer = mx.concatenate([tokens, tokens[:, :7]], axis=1)
    assert mx.array_equal(from_tokens(longer, latent.shape[2:]), latent).item()
