"""Video to latents and back, in tiles where asked: what the encode and decode stages call.

Latents are `[1, 128, frames, height, width]`, normalised; frames are `[n, height, width, 3]`, RGB. Decoded frames
come as they are finished, so that a whole video need not be in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from weights.architecture.vae import SPACE_SCALE, TIME_SCALE, DecoderConfig, EncoderConfig
from weights.errors import UsageError, WorkerFailed
from workers.networks import vae_decoder, vae_encoder
from workers.networks.ops import Weights
from workers.networks.pace import settled
from workers.networks.vae_ops import Noise
from workers.video.tiling import Box, Floats, TileSizes, decode_grid, decode_tiles, encode_grid, encode_tiles

Frames = NDArray[np.uint8]
BAND_VALUES = 1 << 17
"""Of a frame that are turned into bytes at a time: what stays in a core's cache is three times as fast."""
Progress = Callable[[int, int], None]
"""Called with (done, total) tiles."""
Beat = Callable[[], None]
"""Called after each block of a network: still alive."""


def decode(
    weights: Weights,
    config: DecoderConfig,
    statistics: Weights,
    latent: mx.array,
    sizes: TileSizes | None,
    dtype: mx.Dtype,
    *,
    noise: Callable[[], Noise] | None = None,
    progress: Progress = lambda done, total: None,
    beat: Beat = lambda: None,
    begin: int = 0,
) -> Iterator[Frames]:
    """Latent -> uint8 frames in order, a chunk at a time; without sizes, or when one tile holds it all, at once.

    `weights` are the decoder's, in `dtype`. `noise`, where it needs some, makes a new source for each tile: none
    depends on those before it. `begin`: how many of the first chunks are there already, and left out.
    WorkerFailed when the decoder gives values that are no numbers.
    """
    x = latent.transpose(0, 2, 3, 4, 1).astype(dtype)
    _, frames, height, width, _ = x.shape
    grid = decode_grid(frames, height, width, sizes)
    counted = _counter(progress, grid.count, grid.left(begin)[0] * len(grid.rows) * len(grid.columns))

    def tile(box: Box) -> Floats:
        pixels = vae_decoder.decode(weights, config, statistics, x[:, *box], noise() if noise else None, _watch(beat))
        result = np.array(pixels[0].astype(mx.float32), copy=False)
        counted()
        return result

    for chunk in decode_tiles(tile, grid, begin):
        done = to_uint8(chunk)
        del chunk  # a view of a whole row of tiles, which would live on while the next one is decoded
        yield done
        del done


def encode(
    weights: Weights,
    config: EncoderConfig,
    statistics: Weights,
    frames: Frames | Floats,
    sizes: TileSizes | None,
    dtype: mx.Dtype,
    *,
    progress: Progress = lambda done, total: None,
    beat: Beat = lambda: None,
) -> mx.array:
    """Frames -> latent in `dtype`. uint8 frames become value / 127.5 - 1; floats are in [-1, 1] already.

    Frames beyond the last 8k + 1 are left out. `weights` are the encoder's, in `dtype`. UsageError when there is no
    frame, or height or width is no multiple of 32.
    """
    count, height, width, _ = frames.shape
    if count < 1 or height < 1 or width < 1 or height % SPACE_SCALE or width % SPACE_SCALE:
        raise UsageError(
            f"A video of {count} frames, {width}x{height}, cannot be encoded: "
            f"it needs a frame, and sides that are multiples of {SPACE_SCALE}."
        )
    count -= (count - 1) % TIME_SCALE
    grid = encode_grid(count, height, width, sizes)
    counted = _counter(progress, grid.count)

    def tile(box: Box) -> Floats:
        part = frames[box]
        pixels = part.astype(np.float32) / np.float32(127.5) - 1 if part.dtype == np.uint8 else part
        latent = vae_encoder.encode(weights, config, statistics, mx.array(pixels)[None].astype(dtype), _watch(beat))
        result = np.array(latent[0].astype(mx.float32), copy=False)
        counted()
        return result

    return mx.array(encode_tiles(tile, grid)).transpose(3, 0, 1, 2)[None].astype(dtype)


def to_uint8(pixels: Floats) -> Frames:
    """[-1, 1] -> 0 to 255, truncated as in the reference; WorkerFailed when a value is no number."""
    frames = np.empty(pixels.shape, np.uint8)
    rows = max(1, BAND_VALUES // (pixels.shape[2] * pixels.shape[3]))
    for frame, result in zip(pixels, frames, strict=True):
        for top in range(0, len(frame), rows):
            band = frame[top : top + rows] + np.float32(1)
            if not np.isfinite(band).all():
                raise WorkerFailed(
                    "The video decoder computed values that are no numbers.",
                    advice="Fetch the weights anew if they may be damaged, or try --dtype float32.",
                )
            band /= np.float32(2)
            np.clip(band, 0, 1, out=band)
            band *= np.float32(255)
            result[top : top + rows] = band
    return frames


def _watch(beat: Beat) -> Callable[[mx.array], None]:
    """Settles after each part, which bounds what is in memory and what a GPU is given at once."""

    def watch(x: mx.array) -> None:
        settled(x)
        beat()

    return watch


def _counter(progress: Progress, total: int, done: int = 0) -> Callable[[], None]:

    def count() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    return count
