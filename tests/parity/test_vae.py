"""The video VAE and the latent upsamplers give the reference's numbers: float32, random weights.

The goldens come from make_vae.py. Whole networks run in both formulations: "host" is how a CPU computes (numpy's
convolution), "mlx" how a GPU does, here on the CPU as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from safetensors import safe_open

from tests.parity import vae_cases as cases
from tests.parity.random_weights import Floats, noise, uniform, weights
from weights.architecture import upsampler as upsampler_tables
from weights.architecture.upsampler import UpsamplerConfig
from weights.architecture.vae import (
    DecoderConfig,
    EncoderConfig,
    decoder_tensors,
    encoder_tensors,
    statistics_tensors,
)
from workers.networks import host, upsampler, vae_decoder
from workers.video import vae
from workers.video.tiling import Box, TileSizes, decode_grid, decode_tiles

pytestmark = pytest.mark.usefixtures("on_the_cpu")

TOLERANCE = 2e-5
"""Of the output's standard deviation."""


@pytest.fixture(scope="module")
def goldens() -> Iterator[Callable[[str], Floats]]:
    with safe_open(Path(__file__).parent / "data" / "vae.safetensors", "np") as file:
        yield file.get_tensor


@pytest.fixture(params=["host", "mlx"])
def formulation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "mlx":
        monkeypatch.setattr(host, "applies", lambda x: False)


def arrays(values: Mapping[str, Floats]) -> dict[str, mx.array]:
    """Convolution weights channels-last, as the loader gives them."""
    return {
        name: mx.array(np.moveaxis(value, 1, -1) if value.ndim in (4, 5) else value) for name, value in values.items()
    }


def statistics(channels: int = 8) -> dict[str, mx.array]:
    return arrays(weights("statistics", statistics_tensors(channels)))


def sizes(case: cases.Case) -> TileSizes | None:
    return None if case.tiles is None else TileSizes(*case.tiles)


def check(goldens: Callable[[str], Floats], name: str, output: Floats) -> None:
    std = float(goldens(f"{name}.std"))
    for part, values in (("sample", cases.sampled(output)), ("frames", cases.per_frame(output))):
        expected = goldens(f"{name}.{part}")
        assert values.shape == expected.shape
        error = np.abs(values - expected).max() / std
        assert error < TOLERANCE, f"{name}, {part}: {error:.1e} of the standard deviation"


def encode(case: cases.Case) -> Floats:
    config = EncoderConfig.from_metadata(case.config)
    pixels = np.moveaxis(uniform("pixels", case.shape)[0], 0, -1)
    own = arrays(weights("encoder", encoder_tensors(config)))
    return np.array(vae.encode(own, config, statistics(), pixels, sizes(case), mx.float32))


def draws() -> Callable[[tuple[int, ...]], mx.array]:
    count = 0

    def draw(shape: tuple[int, ...]) -> mx.array:
        nonlocal count
        count += 1
        return mx.array(noise(f"decoder/{count - 1}", shape))

    return draw


def decode(case: cases.Case) -> list[Floats]:
    """Chunks before they become uint8, [1, 3, n, height, width] each."""
    config = DecoderConfig.from_metadata(case.config)
    own, normal, source = arrays(weights("decoder", decoder_tensors(config))), statistics(), draws()
    latent = mx.array(noise("latent", case.shape)).transpose(0, 2, 3, 4, 1)

    def tile(box: Box) -> Floats:
        return np.array(vae_decoder.decode(own, config, normal, latent[:, *box], source)[0])

    grid = decode_grid(*case.shape[2:], sizes(case))
    return [np.moveaxis(chunk, -1, 0)[None] for chunk in decode_tiles(tile, grid)]


def upsampling(case: cases.Case) -> tuple[dict[str, mx.array], UpsamplerConfig, mx.array]:
    config = UpsamplerConfig.from_metadata(case.config)
    own = arrays(weights("upsampler", upsampler_tables.tensors(config)))
    return own, config, mx.array(noise("latent", case.shape))


@pytest.mark.usefixtures("formulation")
@pytest.mark.parametrize("case", cases.ENCODER, ids=lambda case: case.name)
def test_encoder(case: cases.Case, goldens: Callable[[str], Floats]) -> None:
    check(goldens, f"encoder/{case.name}", encode(case))


@pytest.mark.parametrize("case", cases.TILED_ENCODE, ids=lambda case: case.name)
def test_tiled_encode(case: cases.Case, goldens: Callable[[str], Floats]) -> None:
    check(goldens, f"tiled-encode/{case.name}", encode(case))


@pytest.mark.usefixtures("formulation")
@pytest.mark.parametrize("case", cases.DECODER, ids=lambda case: case.name)
def test_decoder(case: cases.Case, goldens: Callable[[str], Floats]) -> None:
    check(goldens, f"decoder/{case.name}", decode(case)[0])


@pytest.mark.parametrize("case", cases.TILED_DECODE, ids=lambda case: case.name)
def test_tiled_decode_chunk_by_chunk(case: cases.Case, goldens: Callable[[str], Floats]) -> None:
    chunks = decode(case)
    with safe_open(Path(__file__).parent / "data" / "vae.safetensors", "np") as file:
        lengths = json.loads(file.metadata()["chunks"])[case.name]
    # The reference also yields an empty chunk where two tiles begin with the same latent.
    assert [chunk.shape[2] for chunk in chunks] == [length for length in lengths if length]
    check(goldens, f"tiled-decode/{case.name}", np.concatenate(chunks, axis=2))


@pytest.mark.usefixtures("formulation")
@pytest.mark.parametrize("case", cases.UPSAMPLER, ids=lambda case: case.name)
def test_upsampler(case: cases.Case, goldens: Callable[[str], Floats]) -> None:
    own, config, latent = upsampling(case)
    result = upsampler.upsample_raw(own, config, latent.transpose(0, 2, 3, 4, 1)).transpose(0, 4, 1, 2, 3)
    assert result.shape[2:] == config.upsampled(*case.shape[2:])
    check(goldens, f"upsampler/{case.name}", np.array(result))


def test_upsampling_of_a_normalised_latent(goldens: Callable[[str], Floats]) -> None:
    own, config, latent = upsampling(cases.UPSAMPLER[0])
    check(goldens, "upsample-video", np.array(upsampler.upsample(own, config, statistics(), latent)))
