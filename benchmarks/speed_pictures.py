"""Seconds of the networks that work on pictures, for `benchmarks.speed`: both halves of the VAE, both upsamplers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import mlx.core as mx
import numpy as np

from benchmarks import activations, flops
from benchmarks.activations import values, weights_of
from benchmarks.flops import Grid
from benchmarks.shapes import Shapes
from benchmarks.timing import Device, Row, turns
from weights.architecture import upsampler, vae
from workers.networks import upsampler as upsampling
from workers.networks import vae_decoder, vae_encoder
from workers.networks.ops import Weights
from workers.networks.pace import settled
from workers.video import vae as video


def statistics() -> Weights:
    found = {name: mx.ones(shape, mx.bfloat16) for name, shape in vae.statistics_tensors().items()}
    mx.eval(found)
    return found


def pixels(grid: Grid) -> tuple[int, int, int]:
    """Frames, rows and columns of what a latent stands for."""
    return (grid[0] - 1) * vae.TIME_SCALE + 1, grid[1] * vae.SPACE_SCALE, grid[2] * vae.SPACE_SCALE


def words(grid: Grid) -> str:
    frames, height, width = pixels(grid)
    return f"{frames} frames of {width}x{height}"


def decode(sizes: Shapes, device: Device, reference: Mapping[str, float], times: int) -> Iterator[Row]:
    """Untiled: to pixels on the device, and to bytes in memory."""
    grid, config, of = sizes.twice, sizes.decoder, statistics()
    weights = weights_of(vae.decoder_tensors(config), channels_last=True)
    latent = values(1, config.latent_channels, *grid)

    def network() -> None:
        settled(vae_decoder.decode(weights, config, of, latent.transpose(0, 2, 3, 4, 1), None, settled))

    def whole() -> None:
        for _ in video.decode(weights, config, of, latent, None, mx.bfloat16):
            pass

    done = flops.pictures(flops.decoder(config, grid))
    theirs = reference.get(f"decode/{'x'.join(map(str, grid))}")
    yield Row(f"decode {words(grid)}, untiled", turns(network, times), done, theirs, device.least(done))
    yield Row("the same, as bytes in memory", turns(whole, min(times, 3)), done, None, device.least(done))


def encode(sizes: Shapes, device: Device, reference: Mapping[str, float], times: int) -> Iterator[Row]:
    """Untiled: from pixels on the device, and from bytes in memory."""
    config, of = sizes.encoder, statistics()
    weights = weights_of(vae.encoder_tensors(config), channels_last=True)
    for grid in (sizes.base, sizes.twice):
        frames = values(1, *pixels(grid), config.channels)

        def network(frames: mx.array = frames) -> None:
            settled(vae_encoder.encode(weights, config, of, frames, settled))

        done = flops.pictures(flops.encoder(config, grid))
        theirs = reference.get(f"encode/{'x'.join(map(str, grid))}")
        yield Row(f"encode {words(grid)}, untiled", turns(network, times), done, theirs, device.least(done))
        del frames
    read = np.random.default_rng(0).integers(0, 256, (*pixels(sizes.twice), config.channels), np.uint8)
    from_bytes = turns(lambda: mx.eval(video.encode(weights, config, of, read, None, mx.bfloat16)), min(times, 3))
    yield Row("the same, from bytes in memory", from_bytes, done, None, device.least(done))


def upsamplers(sizes: Shapes, device: Device, reference: Mapping[str, float], times: int) -> Iterator[Row]:
    of = statistics()
    for name, config, grid in (("spatial", sizes.spatial, sizes.base), ("temporal", sizes.temporal, sizes.twice)):
        weights = weights_of(upsampler.tensors(config), channels_last=True)
        latent = values(1, config.channels, *grid)
        work = partial(activations.evaluate, upsampling.upsample, weights, config, of, latent)
        done = flops.pictures(flops.upsampler(config, grid))
        size = "x".join(map(str, grid))
        theirs = reference.get(f"{name}/{size}")
        yield Row(f"{name} upsampler, latent of {size}", turns(work, times), done, theirs, device.least(done))
