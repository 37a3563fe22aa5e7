"""From latents to uint8 frames and back: what the stages call."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from tests.parity.random_weights import weights as random_weights
from weights.architecture.vae import (
    DecoderConfig,
    EncoderConfig,
    decoder_tensors,
    encoder_tensors,
    statistics_tensors,
)
from weights.errors import UsageError, WorkerFailed
from workers.video.tiling import TileSizes
from workers.video.vae import decode, encode, to_uint8

pytestmark = pytest.mark.usefixtures("on_the_cpu")

CONFIG: dict[str, Any] = {
    "vae": {
        "encoder_blocks": [
            ["compress_space_res", {}],
            ["compress_time_res", {}],
            *[["compress_all_res", {"multiplier": 1}]] * 2,
        ],
        "decoder_blocks": [["compress_all", {"residual": True, "multiplier": 2}]] * 3,
        "latent_channels": 8,
        "decoder_base_channels": 4,
        "timestep_conditioning": False,
    }
}
ENCODER, DECODER = EncoderConfig.from_metadata(CONFIG), DecoderConfig.from_metadata(CONFIG)


def arrays(tensors: dict[str, tuple[int, ...]]) -> dict[str, mx.array]:
    return {
        name: mx.array(np.moveaxis(value, 1, -1) if value.ndim == 5 else value)
        for name, value in random_weights("unit", tensors).items()
    }


def decoded(latent: mx.array, sizes: TileSizes | None, **hooks: Any) -> list[np.ndarray[Any, Any]]:
    weights, statistics = arrays(decoder_tensors(DECODER)), arrays(statistics_tensors(8))
    return list(decode(weights, DECODER, statistics, latent, sizes, mx.float32, **hooks))


def encoded(frames: Any, sizes: TileSizes | None = None, **hooks: Any) -> mx.array:
    weights, statistics = arrays(encoder_tensors(ENCODER)), arrays(statistics_tensors(8))
    return encode(weights, ENCODER, statistics, frames, sizes, mx.float32, **hooks)


def test_bytes_are_truncated_not_rounded() -> None:
    values = np.array([-2, -1, -0.996, 0, 0.999, 1, 7], np.float32).reshape(1, 1, 7, 1)
    assert to_uint8(values).reshape(-1).tolist() == [0, 0, 0, 127, 254, 255, 255]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_picture_of_no_numbers_is_an_error(value: float) -> None:
    pixels = np.zeros((3, 2, 2, 3), np.float32)
    pixels[1, 1, 0, 2] = value
    with pytest.raises(WorkerFailed, match="no numbers"):
        to_uint8(pixels)


@pytest.mark.parametrize("sizes", [None, TileSizes(None, 0, None, 0), TileSizes(96, 32, 24, 8), TileSizes()])
def test_one_tile_is_the_whole_decode(sizes: TileSizes | None) -> None:
    latent = mx.random.normal((1, 8, 3, 2, 3), key=mx.random.key(0))
    (frames,) = decoded(latent, sizes)
    assert frames.shape == (17, 64, 96, 3)
    assert frames.dtype == np.uint8
    assert (frames == decoded(latent, None)[0]).all()


def test_tiles_differ_from_the_whole_decode_only_near_their_borders() -> None:
    latent = mx.random.normal((1, 8, 1, 2, 12), key=mx.random.key(0))
    (whole,) = decoded(latent, None)
    (tiled,) = decoded(latent, TileSizes(256, 64, None, 0))  # columns 0 to 8 and 6 to 12
    difference = np.abs(tiled.astype(int) - whole.astype(int)).max(axis=(0, 1, 3))
    assert difference[: 4 * 32].max() <= 1
    assert difference[10 * 32 :].max() <= 1
    assert difference[6 * 32 : 8 * 32].max() > 1


def test_tiles_are_counted_and_life_is_shown() -> None:
    seen: list[tuple[int, int]] = []
    beats: list[None] = []
    latent = mx.zeros((1, 8, 3, 1, 3))
    decoded(latent, TileSizes(64, 32, 16, 8), progress=lambda *step: seen.append(step), beat=lambda: beats.append(None))
    assert seen == [(i + 1, 4) for i in range(4)]
    assert len(beats) >= 4 * len(DECODER.blocks), "at least once in each block of each tile"


def test_bytes_and_floats_encode_alike() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (9, 32, 64, 3), np.uint8)
    latent = encoded(frames)
    assert latent.shape == (1, 8, 2, 1, 2)
    assert mx.array_equal(latent, encoded(frames.astype(np.float32) / np.float32(127.5) - 1))


def test_frames_beyond_the_last_8k_plus_1_are_left_out() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
    assert mx.array_equal(encoded(frames), encoded(frames[:9]))


def test_encoding_counts_its_tiles() -> None:
    seen: list[tuple[int, int]] = []
    frames = np.zeros((25, 32, 160, 3), np.uint8)
    encoded(frames, TileSizes(96, 64, 24, 16), progress=lambda *step: seen.append(step))
    assert seen[-1][0] == seen[-1][1] == len(seen) > 4


@pytest.mark.parametrize("shape", [(0, 32, 32, 3), (1, 33, 32, 3), (1, 32, 16, 3), (1, 0, 32, 3)])
def test_videos_that_cannot_be_encoded(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="cannot be encoded"):
        encoded(np.zeros(shape, np.uint8))
