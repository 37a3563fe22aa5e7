"""Orders, norms and dtypes of the VAE's and the upsamplers' pieces: what parity alone would not explain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.parity.random_weights import weights as random_weights
from weights.architecture import upsampler as upsampler_tables
from weights.architecture.upsampler import UpsamplerConfig
from weights.architecture.vae import (
    DecoderConfig,
    EncoderConfig,
    decoder_tensors,
    encoder_tensors,
    statistics_tensors,
)
from weights.errors import WeightsError
from workers.networks import upsampler, vae_decoder, vae_encoder
from workers.networks.statistics import normalise, unnormalise
from workers.networks.vae_ops import depth_to_space, patchify, pixel_norm, space_to_depth, unpatchify

pytestmark = pytest.mark.usefixtures("on_the_cpu")

DOWN = [
    ["compress_space_res", {}],
    ["res_x", 1],
    ["compress_time_res", {}],
    *[["compress_all_res", {"multiplier": 1}]] * 2,
]
UP = [["res_x", 1], *[["compress_all", {"residual": True, "multiplier": 2}]] * 3]
CONFIG: dict[str, Any] = {
    "vae": {
        "encoder_blocks": DOWN,
        "decoder_blocks": UP,
        "latent_channels": 8,
        "decoder_base_channels": 4,
        "timestep_conditioning": False,
    }
}
ENCODER, DECODER = EncoderConfig.from_metadata(CONFIG), DecoderConfig.from_metadata(CONFIG)


def arrays(tensors: Mapping[str, tuple[int, ...]], dtype: mx.Dtype = mx.float32) -> dict[str, mx.array]:
    return {
        name: mx.array(np.moveaxis(value, 1, -1) if value.ndim in (4, 5) else value).astype(dtype)
        for name, value in random_weights("unit", tensors).items()
    }


STATISTICS = statistics_tensors(8)


def test_patches_have_the_height_as_fastest_index() -> None:
    pixels = mx.arange(2 * 8 * 12 * 3).reshape(1, 2, 8, 12, 3)
    patches = patchify(pixels, 4)
    assert patches.shape == (1, 2, 2, 3, 48)
    for channel, row, column in ((0, 1, 2), (2, 3, 0), (1, 0, 3)):
        index = channel * 16 + column * 4 + row
        assert patches[0, 1, 1, 2, index].item() == pixels[0, 1, 4 + row, 8 + column, channel].item()


def test_depth_to_space_has_the_width_as_fastest_index() -> None:
    x = mx.arange(2 * 3 * 2 * 16).reshape(1, 2, 3, 2, 16)
    y = depth_to_space(x, (2, 2, 2))
    assert y.shape == (1, 4, 6, 4, 2)
    for c, t, i, j in ((0, 0, 1, 0), (1, 1, 0, 1), (1, 0, 1, 1)):
        assert y[0, 2 + t, 4 + i, 2 + j, c].item() == x[0, 1, 2, 1, ((c * 2 + t) * 2 + i) * 2 + j].item()


@given(
    st.tuples(*[st.integers(1, 3)] * 4),
    st.sampled_from([(1, 1, 1), (2, 1, 1), (1, 2, 2), (2, 2, 2), (1, 3, 3)]),
    st.integers(1, 4),
)
def test_unfolding_and_folding_are_inverse(size: tuple[int, ...], stride: tuple[int, int, int], patch: int) -> None:
    frames, height, width, channels = size
    x = mx.random.normal((1, frames, height, width, channels * stride[0] * stride[1] * stride[2] * patch**2))
    assert mx.array_equal(space_to_depth(depth_to_space(x, stride), stride), x)
    assert mx.array_equal(patchify(unpatchify(x, patch), patch), x)


def test_pixel_norm_keeps_small_values_visible() -> None:
    """1e-8, not the 1e-6 that configs mention: a pixel of 1e-3 would come out 30% smaller."""
    x = mx.full((1, 1, 1, 1, 16), 1e-3)
    assert pixel_norm(x)[0, 0, 0, 0, 0].item() == pytest.approx((1 / 1.01) ** 0.5, rel=1e-5)


def test_statistics_are_applied_per_channel_and_undone() -> None:
    statistics = {"mean-of-means": mx.array([1.0, -2.0]), "std-of-means": mx.array([2.0, 0.5])}
    x = mx.array([[3.0, 4.0]])
    assert unnormalise(statistics, x).tolist() == [[7.0, 0.0]]
    assert mx.allclose(normalise(statistics, unnormalise(statistics, x)), x)
    assert unnormalise(statistics, x.astype(mx.bfloat16)).dtype == mx.bfloat16


def test_bfloat16_goes_through_every_network() -> None:
    """Nothing promotes to float32 on the way, and the result stays close to float32's."""
    grow = UpsamplerConfig.from_metadata({"in_channels": 8, "mid_channels": 32, "num_blocks_per_stage": 1})
    pixels = mx.random.uniform(-1, 1, (1, 9, 32, 64, 3), key=mx.random.key(1))
    latent = mx.random.normal((1, 2, 2, 2, 8), key=mx.random.key(2))
    for dtype, seen in ((mx.float32, exact := []), (mx.bfloat16, rounded := [])):
        dtypes: set[mx.Dtype] = set()

        def watch(x: mx.array, dtypes: set[mx.Dtype] = dtypes) -> None:
            dtypes.add(x.dtype)

        statistics = arrays(STATISTICS, dtype)
        encoder, decoder = arrays(encoder_tensors(ENCODER), dtype), arrays(decoder_tensors(DECODER), dtype)
        upscaler = arrays(upsampler_tables.tensors(grow), dtype)
        seen.append(vae_encoder.encode(encoder, ENCODER, statistics, pixels.astype(dtype), watch))
        seen.append(vae_decoder.decode(decoder, DECODER, statistics, latent.astype(dtype), watch=watch))
        seen.append(upsampler.upsample_raw(upscaler, grow, latent.astype(dtype), watch))
        assert dtypes == {dtype}
        assert {x.dtype for x in seen} == {dtype}
    for a, b in zip(exact, rounded, strict=True):
        assert mx.abs(a - b).mean().item() < 0.05 * mx.std(a).item()


def test_the_encoder_never_looks_ahead() -> None:
    encoder, statistics = arrays(encoder_tensors(ENCODER)), arrays(STATISTICS)
    pixels = mx.random.uniform(-1, 1, (1, 17, 32, 32, 3), key=mx.random.key(3))
    latent = vae_encoder.encode(encoder, ENCODER, statistics, pixels)
    for k in (0, 1):
        short = vae_encoder.encode(encoder, ENCODER, statistics, pixels[:, : 8 * k + 1])
        assert mx.allclose(short, latent[:, : k + 1], atol=1e-5)


def test_a_decoder_that_needs_noise_says_so() -> None:
    config = DecoderConfig.from_metadata({"vae": {**CONFIG["vae"], "timestep_conditioning": True}})
    assert config.needs_noise
    with pytest.raises(WeightsError, match="draws noise"):
        vae_decoder.decode(arrays(decoder_tensors(config)), config, arrays(STATISTICS), mx.zeros((1, 1, 1, 1, 8)))


def test_decoding_with_noise_depends_on_the_noise_alone() -> None:
    config = DecoderConfig.from_metadata({"vae": {**CONFIG["vae"], "timestep_conditioning": True}})
    decoder, statistics = arrays(decoder_tensors(config)), arrays(STATISTICS)
    latent = mx.random.normal((1, 1, 1, 2, 8))

    def run(value: float) -> mx.array:
        return vae_decoder.decode(decoder, config, statistics, latent, lambda shape: mx.full(shape, value))

    assert mx.array_equal(run(1.0), run(1.0))
    assert not mx.allclose(run(1.0), run(-1.0), atol=1e-4)


def test_upsampling_reports_its_blocks() -> None:
    config = UpsamplerConfig.from_metadata({"in_channels": 8, "mid_channels": 32, "num_blocks_per_stage": 2})
    seen: list[tuple[int, int]] = []
    weights = arrays(upsampler_tables.tensors(config))
    upsampler.upsample(weights, config, arrays(STATISTICS), mx.zeros((1, 8, 1, 2, 2)), lambda *step: seen.append(step))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
