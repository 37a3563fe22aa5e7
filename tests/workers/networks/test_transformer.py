"""What the transformer promises beyond the reference's numbers (see tests/parity for those)."""

from __future__ import annotations

import gc
import weakref

import mlx.core as mx
import numpy as np
import pytest

from workers.networks import transformer
from workers.networks.modulation import Timesteps
from workers.networks.transformer import Pass, Tokens


def evaluate(tiny, passes, blocks=None, timesteps=None, dtype=mx.float32, sigma=0.5):
    run = transformer.streams(tiny.config, tiny.positions, dtype)
    tokens = Tokens(tiny.latent().astype(dtype), timesteps or Timesteps.uniform(sigma), sigma)
    source = tiny.blocks() if blocks is None else blocks
    return [v for (v,) in transformer.velocity(tiny.config, tiny.weights, source, run, passes, [tokens])]


def prompt(tiny, scale=1.0, dtype=mx.float32, keep=False):
    return transformer.prepare_prompt(tiny.config, tiny.weights, [tiny.context * scale], dtype, keep)


def same(a, b):
    return bool(mx.array_equal(a, b).item())


def test_a_pass_does_not_depend_on_the_others(tiny):
    positive, negative = Pass(prompt(tiny)), Pass(prompt(tiny, -0.5))
    perturbed = Pass(prompt(tiny), perturbed=(frozenset({1}),))
    together = evaluate(tiny, [positive, negative, perturbed])
    alone = [evaluate(tiny, [one])[0] for one in (positive, negative, perturbed)]
    assert all(same(a, b) for a, b in zip(together, alone, strict=True))
    assert not same(together[0], together[1])
    assert not same(together[0], together[2])


def test_kept_text_keys_change_no_bit(tiny):
    kept = prompt(tiny, keep=True)
    first, again = evaluate(tiny, [Pass(kept)])[0], evaluate(tiny, [Pass(kept)], sigma=0.25)[0]
    assert same(first, evaluate(tiny, [Pass(prompt(tiny))])[0])
    assert same(again, evaluate(tiny, [Pass(prompt(tiny))], sigma=0.25)[0])
    # The 2.3 form's depend on sigma: there is nothing to keep.
    assert (kept.known is None) == tiny.config.cross_attention_adaln
    if kept.known is not None:
        assert len(kept.known) == tiny.config.num_layers


class Block(dict):
    """A dict that can be watched by a weak reference."""


def test_one_block_is_alive_at_a_time(tiny):
    alive: list[weakref.ref[Block]] = []

    def visits():
        for weights in tiny.blocks():
            gc.collect()
            assert all(reference() is None for reference in alive)
            block = Block(weights)
            alive.append(weakref.ref(block))
            yield block
            del block

    evaluate(tiny, [Pass(prompt(tiny)), Pass(prompt(tiny, -1.0))], visits())
    assert len(alive) == tiny.config.num_layers


@pytest.mark.parametrize("count", [0, 2])
def test_too_few_blocks(tiny, count):
    some = [weights for weights, _ in zip(tiny.blocks(), range(count), strict=False)]
    with pytest.raises(ValueError, match=f"{count} blocks were given, the transformer has 3"):
        evaluate(tiny, [Pass(prompt(tiny))], some)


def test_one_timestep_for_every_token_is_the_uniform_case(tiny):
    each = Timesteps.per_token(np.full((1, 30), 0.5))
    assert same(evaluate(tiny, [Pass(prompt(tiny))], timesteps=each)[0], evaluate(tiny, [Pass(prompt(tiny))])[0])


def test_a_clean_token_keeps_its_value(tiny):
    mask = np.ones((1, 30), np.float32)
    mask[0, 4:9] = 0
    timesteps = Timesteps.per_token(mask).times(0.5)
    (velocity,) = evaluate(tiny, [Pass(prompt(tiny))], timesteps=timesteps)
    x0 = transformer.denoised(tiny.latent(), velocity, timesteps)
    kept = mx.array(mask[0] == 0)[None, :, None]
    assert same(mx.where(kept, x0, 0), mx.where(kept, tiny.latent(), 0))
    assert not same(x0, tiny.latent())


@pytest.mark.parametrize("mask", [None, np.linspace(0, 1, 30, dtype=np.float32)[None]])
def test_bfloat16_is_never_promoted(tiny, monkeypatch, mask):
    """Not even inside: every product, norm and attention gets and gives bfloat16."""
    seen = []

    def watch(place, name):
        original = getattr(place, name)

        def watched(*args, **kwargs):
            result = original(*args, **kwargs)
            seen.extend(x.dtype for x in (*args, *kwargs.values(), result) if isinstance(x, mx.array))
            return result

        monkeypatch.setattr(place, name, watched)

    watch(mx, "addmm")
    watch(mx, "concatenate")
    for name in ("rms_norm", "layer_norm", "scaled_dot_product_attention"):
        watch(mx.fast, name)
    half = tiny.astype(mx.bfloat16)
    # Official files hold these tables in float32, and a loader may leave them so.
    for name, value in tiny.weights.items():
        if "scale_shift_table" in name:
            half.weights[name] = value
    timesteps = None if mask is None else Timesteps.per_token(mask).times(0.5)
    one = Pass(prompt(half, dtype=mx.bfloat16), perturbed=(frozenset({1}),))
    (velocity,) = evaluate(half, [one], timesteps=timesteps, dtype=mx.bfloat16)
    assert velocity.dtype == mx.bfloat16
    assert len(seen) > 100
    assert set(seen) == {mx.bfloat16}
    (exact,) = evaluate(tiny, [Pass(prompt(tiny), perturbed=(frozenset({1}),))], timesteps=timesteps)
    assert mx.abs(velocity - exact).max().item() < 0.1 * mx.std(exact).item()


def test_tables_are_made_once_per_run(tiny, monkeypatch):
    run = transformer.streams(tiny.config, tiny.positions, mx.float32)
    monkeypatch.setattr(transformer, "table", None)
    one = Pass(prompt(tiny))
    tokens = Tokens(tiny.latent(), Timesteps.uniform(0.5), 0.5)
    for _ in range(2):
        transformer.velocity(tiny.config, tiny.weights, tiny.blocks(), run, [one], [tokens])


def test_heartbeats(tiny):
    run = transformer.streams(tiny.config, tiny.positions, mx.float32)
    tokens, beats = Tokens(tiny.latent(), Timesteps.uniform(0.5), 0.5), []
    transformer.velocity(tiny.config, tiny.weights, tiny.blocks(), run, [Pass(prompt(tiny))], [tokens], beats.append)
    assert beats == [0, 1, 2]
