"""The upsamplers in pieces against whole: the same numbers, whatever the pieces are, and less memory."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from weights.architecture import upsampler as tables
from weights.architecture.upsampler import GROUPS, UpsamplerConfig
from workers.networks import group_norm, host, upsampler

pytestmark = pytest.mark.usefixtures("on_the_cpu")

KINDS: dict[str, dict[str, Any]] = {
    "space": {"spatial_upsample": True},
    "space per frame": {"spatial_upsample": True, "dims": 2},
    "space x1.5": {"spatial_upsample": True, "rational_resampler": True, "spatial_scale": 1.5},
    "time": {"spatial_upsample": False, "temporal_upsample": True},
    "space and time": {"spatial_upsample": True, "temporal_upsample": True},
}


def config_of(kind: str) -> UpsamplerConfig:
    small = {"in_channels": 8, "mid_channels": 32, "num_blocks_per_stage": 2}
    return UpsamplerConfig.from_metadata({**small, **KINDS[kind]})


def random_weights(config: UpsamplerConfig) -> dict[str, mx.array]:
    """In MLX's layout, scaled so that activations stay of size one."""
    generator, found = np.random.default_rng(5), {}
    for name, shape in tables.tensors(config).items():
        values = generator.standard_normal(shape).astype(np.float32) / np.sqrt(max(1, np.prod(shape[1:])))
        if len(shape) > 2 and "kernel" not in name:
            values = np.moveaxis(values, 1, -1)
        found[name] = mx.array(values + ("norm" in name and name.endswith("weight")))
    if config.rational:
        found["upsampler.blur_down.kernel"] = mx.array(np.full((1, 5, 5, 1), 1 / 25, np.float32))
    return found


def run(config: UpsamplerConfig, weights: dict[str, mx.array], x: mx.array, limit: int, patch: Any) -> np.ndarray:
    patch.setattr(upsampler, "PIECE_VALUES", limit)
    return np.array(upsampler.upsample_raw(weights, config, x))


@pytest.mark.parametrize("frames", [1, 3, 5])
@pytest.mark.parametrize(("kind", "formulation"), [*((kind, "host") for kind in KINDS), ("space and time", "mlx")])
def test_pieces_give_what_the_whole_gives(kind: str, frames: int, formulation: str, monkeypatch: Any) -> None:
    if formulation == "mlx":
        monkeypatch.setattr(host, "applies", lambda x: False)
    config = config_of(kind)
    weights = random_weights(config)
    x = mx.random.normal((1, frames, 3, 4, 8), key=mx.random.key(frames))
    whole = run(config, weights, x, 1 << 40, monkeypatch)
    assert whole.shape[1:4] == config.upsampled(frames, 3, 4)
    for limit in (1, 2 * 32 * 3 * 4 * 4):  # a frame a piece; two frames where space alone grows, so the last has one
        pieces = run(config, weights, x, limit, monkeypatch)
        np.testing.assert_allclose(pieces, whole, atol=1e-5 * whole.std())


def test_the_length_of_a_piece_follows_the_shape_alone() -> None:
    official = {"in_channels": 128, "mid_channels": 1024}
    space = UpsamplerConfig.from_metadata(official)
    time = UpsamplerConfig.from_metadata({**official, "spatial_upsample": False, "temporal_upsample": True})
    assert upsampler.piece_frames(space, 13, 15, 22) == 3
    assert upsampler.piece_frames(space, 2, 15, 22) == 2
    assert upsampler.piece_frames(time, 13, 68, 120) == 1
    assert upsampler.piece_frames(space, 13, 512, 512) == 1


def test_pieces_bound_the_memory(monkeypatch: Any) -> None:
    """At the peak two activations and a few pieces are alive; whole, a norm in float32 alone takes as much again."""
    config = UpsamplerConfig.from_metadata(
        {"in_channels": 8, "mid_channels": 32, "num_blocks_per_stage": 1, "spatial_upsample": False}
        | {"temporal_upsample": True}
    )
    weights = {name: value.astype(mx.float32) for name, value in random_weights(config).items()}
    x = mx.random.normal((1, 16, 16, 16, 8), key=mx.random.key(0))
    mx.eval(x, weights)
    activation = 31 * 16 * 16 * 32 * 4
    peaks = []
    for limit in (1 << 40, 1):
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        run(config, weights, x, limit, monkeypatch)
        peaks.append((mx.get_peak_memory() - before) / activation)
    assert peaks[1] < 2.6 < 3.5 < peaks[0]


def group_normed(x: np.ndarray[Any, Any], axes: tuple[int, ...]) -> np.ndarray[Any, Any]:
    groups = x.astype(np.float64).reshape(*x.shape[:-1], GROUPS, -1)
    mean, variance = groups.mean(axes, keepdims=True), groups.var(axes, keepdims=True)
    result: np.ndarray[Any, Any] = ((groups - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)
    return result


@pytest.mark.parametrize("per_frame", [False, True])
def test_group_norm_takes_frames_together_or_apart(per_frame: bool) -> None:
    """Far from zero, and different from frame to frame, where a one-pass variance would be wrong."""
    x = np.random.default_rng(1).standard_normal((3, 4, 5, 2 * GROUPS)) + np.array([0, 300, -50]).reshape(3, 1, 1, 1)
    x = x.astype(np.float32)
    weights = {"n.weight": mx.ones(2 * GROUPS), "n.bias": mx.zeros(2 * GROUPS)}
    statistics = group_norm.frame_statistics(mx.array(x), GROUPS)
    if not per_frame:
        apart = [group_norm.frame_statistics(mx.array(x[i : i + 1]), GROUPS) for i in range(3)]
        statistics = group_norm.over_all_frames(apart)
    result = np.array(group_norm.apply(weights, "n", mx.array(x), statistics))
    np.testing.assert_allclose(result, group_normed(x, (1, 2, 4) if per_frame else (0, 1, 2, 4)), atol=1e-4)
