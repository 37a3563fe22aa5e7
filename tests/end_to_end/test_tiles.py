"""Tiles against the whole, on latents that the relay made: how near they are, and that no seam shows.

A seam is measured as a bend: how far the step across a line is from the steps on either side of it, as a mean over the
line. Where the picture itself bends there, the whole decode does too. The same is done with tiles that do not overlap,
which must show: so the measure can. (Overlapping ones agree so well that the tiny model's seams would not show without
blending either.)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from cache.artifacts import read
from orchestrator.memory_tiles import SPATIAL, TEMPORAL, with_overlaps
from weights import reader
from weights.select import select
from weights.tiny_model import tiny_folder
from workers.arrays import to_array
from workers.networks import vae_decoder
from workers.video import vae
from workers.video.tiling import (
    Box,
    Floats,
    Grid,
    Span,
    TileSizes,
    decode_grid,
    decode_tiles,
    encode_grid,
)

pytestmark = pytest.mark.usefixtures("on_the_cpu")

CHECKPOINT = tiny_folder() / "ltx-2-tiny-dev.safetensors"
PROMPT = "A red ball bouncing on green grass"
STEPS = ("--steps-stage1", "6", "--steps-stage2", "3", "--model", "tiny", "--json", "--output", "x.mp4")
WIDE = ("--preset", "two-stage", "--height", "480", "--width", "704", "--frames", "1", *STEPS)
LONG = ("--preset", "two-stage", "--height", "64", "--width", "96", "--frames", "65", *STEPS)
NEAR = 40.0
"""dB between a tiled decode and the whole one."""
BEND = 1.15
"""A seam may bend so much more than the whole decode does there. Tiles without an overlap bend more."""

Frames = NDArray[np.uint8]
Latent = Callable[..., mx.array]


class Decoder:
    """The tiny model's decoder, of one latent: whole, or in tiles that are put together by a grid."""

    def __init__(self, latent: mx.array) -> None:
        selection = select(CHECKPOINT, "vae_decoder")
        self.config, self.weights = selection.config, reader.load(selection, mx.float32)
        self.statistics = reader.load(select(CHECKPOINT, "statistics"), mx.float32)
        self.latent = latent.transpose(0, 2, 3, 4, 1)
        self.size = self.latent.shape[1:4]
        self.parts: dict[str, Floats] = {}
        self.whole = self.tiled(decode_grid(*self.size, None))

    def tiled(self, grid: Grid) -> Frames:
        return np.concatenate([vae.to_uint8(chunk) for chunk in decode_tiles(self.tile, grid)])

    def tile(self, box: Box) -> Floats:
        if str(box) not in self.parts:
            pixels = vae_decoder.decode(self.weights, self.config, self.statistics, self.latent[:, *box])
            self.parts[str(box)] = np.array(pixels[0])
        return self.parts[str(box)]


@pytest.fixture(scope="module")
def latent(shared: Any) -> Latent:
    """What stage 2 made with these arguments."""

    def made(*arguments: str) -> mx.array:
        shared.environment["LTX_RELAY_THREADS"] = "1"
        result = shared("generate", PROMPT, *arguments, "--stop-after", "stage2")
        assert result.code == 0, result.err
        stages = json.loads(shared("runs", "show", "last", "--json").out)["stages"]
        (path,) = [stage["artifacts"][0] for stage in stages if stage["name"] == "stage2"]
        return to_array(read(Path(path), stage="stage2").tensors["video"])

    return made


def psnr(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(10 * np.log10(255**2 / np.mean(np.square(one.astype(np.float64) - other))))


def seams(spans: tuple[Span, ...]) -> list[int]:
    """Where a tile begins or ends inside an axis, and the middle between."""
    pairs = [(later.target.start, earlier.target.stop) for earlier, later in pairwise(spans)]
    return sorted({line for start, stop in pairs for line in (start, (start + stop) // 2, stop) if line > 1})


def bends(frames: Frames, axis: int, lines: list[int]) -> NDArray[np.float64]:
    """For each line, between the values before and after it: how far its step is from the mean of its neighbours'."""
    values = np.moveaxis(frames, axis, 0)
    found = []
    for line in lines:
        before, step, after = np.diff(values[line - 2 : line + 2].astype(np.float64), axis=0)
        found.append(np.abs(step - (before + after) / 2).mean())
    return np.array(found)


def worst_bend(tiled: Frames, whole: Frames, grid: Grid) -> float:
    """The most that a seam bends, against what the whole decode bends there or, if that is more, on average."""
    worst = 0.0
    for axis, spans in enumerate((grid.time, grid.rows, grid.columns)):
        lines = seams(spans)
        if lines:
            usual = bends(whole, axis, list(range(2, whole.shape[axis] - 1))).mean()
            worst = max(worst, float((bends(tiled, axis, lines) / np.maximum(bends(whole, axis, lines), usual)).max()))
    return worst


def blind_bend(decoder: Decoder, sizes: TileSizes) -> float:
    """The same of tiles that see nothing of each other."""
    grid = decode_grid(*decoder.size, sizes)
    return worst_bend(decoder.tiled(grid), decoder.whole, grid)


def test_tiles_in_space(latent: Latent) -> None:
    """1408 x 960 pixels in tiles of the ladder that a decode of that size gets where memory is not very short."""
    decoder = Decoder(latent(*WIDE))
    assert decoder.whole.shape == (1, 960, 1408, 3)
    for pixels in (1024, 512):
        assert pixels in [size for size, _ in SPATIAL]
        grid = decode_grid(*decoder.size, TileSizes(**with_overlaps(pixels, 0).as_params()))
        tiled = decoder.tiled(grid)
        assert grid.count > 3
        assert psnr(tiled, decoder.whole) >= NEAR, pixels
        assert worst_bend(tiled, decoder.whole, grid) <= BEND, pixels
        assert blind_bend(decoder, TileSizes(pixels, 0, None)) > BEND, "the measure sees a seam"


def test_tiles_in_time(latent: Latent) -> None:
    """Not the smallest of the ladder, of 16 frames: they see too little around them for either (docs/tiles.md)."""
    decoder = Decoder(latent(*LONG))
    assert decoder.whole.shape == (65, 128, 192, 3)
    blind = []
    for frames, overlap in [(size, overlap) for size, overlap in TEMPORAL if size in (48, 32)]:
        grid = decode_grid(*decoder.size, TileSizes(None, 64, frames, overlap))
        tiled = decoder.tiled(grid)
        assert len(grid.time) > 1
        assert psnr(tiled, decoder.whole) >= NEAR, frames
        assert worst_bend(tiled, decoder.whole, grid) <= BEND, frames
        blind.append(blind_bend(decoder, TileSizes(None, 64, frames, 0)))
    assert max(blind) > BEND, "the measure sees a seam, where something moves at it"


def test_encoding_in_tiles(latent: Latent) -> None:
    """Latents are cut and put together without blending: judged by the pictures that they decode to."""
    encoder, statistics = select(CHECKPOINT, "vae_encoder"), reader.load(select(CHECKPOINT, "statistics"), mx.float32)
    weights = reader.load(encoder, mx.float32)
    frames = Decoder(latent(*LONG)[:, :, :4]).whole

    def decoded(sizes: TileSizes | None) -> Frames:
        encoded = vae.encode(weights, encoder.config, statistics, frames, sizes, mx.float32)
        return Decoder(encoded).whole

    whole = decoded(None)
    for sizes in (TileSizes(None, 64, 24, 16), TileSizes(160, 64, None, 24)):
        assert encode_grid(*frames.shape[:3], sizes).count > 1
        assert psnr(decoded(sizes), whole) >= NEAR, sizes
