"""Encode: a video file's frames to latents, a chunk of frames at a time.

The file is decoded once, in order; only the frames of the chunk at hand are in memory. Each frame is padded to the
latent grid with its own border, and a chunk to 8k + 1 frames with its last frame: what is padded is cut off again after
decoding. A file that changed since it was looked at is refused.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weights.errors import UsageError
from workers.arrays import DTYPES, publish_arrays
from workers.context import Context
from workers.protocol import Item, Job
from workers.stages.loading import load
from workers.video.source import VideoSource, unchanged
from workers.video.tiling import TileSizes
from workers.video.vae import encode

Frames = NDArray[np.uint8]


def run(job: Job, context: Context) -> None:
    """Publishes `video` [1, 128, k + 1, height, width] of every item, normalised.

    job.params: `video`, the file; `seen`, its size, and when it changed in nanoseconds; `padding`, (top, bottom, left,
    right) in pixels; `tiles`. An item's: `start`, its first frame; `frames`, how many it has; `padded`, how many it is
    given.
    """
    dtype = DTYPES[job.dtype]
    _, statistics = load(job, context, "statistics", dtype)
    config, weights = load(job, context, "vae_encoder", dtype)
    tiles = TileSizes(**job.params["tiles"])
    for index, (item, frames) in enumerate(chunks(job, context), 1):
        context.item(item.key, index, len(job.items))
        progress = context.stepper(item.key)
        latent = encode(weights, config, statistics, frames, tiles, dtype, progress=progress, beat=context.heartbeat)
        unchanged(Path(job.params["video"]), job.params["seen"])  # its key is that of the video as it was
        began = time.monotonic()
        size = publish_arrays(item.output, item.key, "encode", {"video": latent}, {})
        context.emit("artifact", key=item.key, path=item.output, bytes=size, seconds=time.monotonic() - began)
        context.check_stop()
        del frames  # not while the next chunk is read


def chunks(job: Job, context: Context) -> Iterator[tuple[Item, Frames]]:
    """Each item with its frames [padded, height, width, 3], in one array that the next item reuses."""
    path = Path(job.params["video"])
    items = sorted(job.items, key=lambda item: int(item.params["start"]))
    with VideoSource(path) as video:
        unchanged(path, job.params["seen"])
        pictures = enumerate(video)
        starts = {int(a.params["start"]): int(b.params["start"]) for a, b in pairwise(items)}
        held, first = np.zeros((0, 0, 0, 3), np.uint8), 0
        for item in items:
            start, count, padded = (int(item.params[name]) for name in ("start", "frames", "padded"))
            shared = max(0, min(count, first + len(held) - start))  # the end of the last chunk begins this one
            frames: Frames | None = None
            if shared:
                frames = np.empty((padded, *held.shape[1:]), np.uint8)
                frames[:shared] = held[len(held) - shared :]
            done = shared
            for number, shown in pictures:
                if number >= start:
                    picture = grid(video.picture(shown.frame), job.params["padding"])
                    if frames is None:
                        frames = np.empty((padded, *picture.shape), np.uint8)
                    frames[done] = picture
                    done += 1
                if number % 16 == 0:
                    context.heartbeat()
                if done == count:
                    break
            if done < count or frames is None:
                raise UsageError(
                    f"{path} has only {start + done} frames that can be read; it had {start + count} or more when the "
                    "run began.",
                    advice="Run the same command again.",
                )
            frames[count:] = frames[count - 1]
            after = starts.get(start, start + count)
            held, first = frames[max(0, after - start) : count].copy(), max(start, after)
            yield item, frames
            del frames


def grid(picture: Frames, padding: tuple[int, int, int, int]) -> Frames:
    """The picture with its border repeated outwards, so that its sides suit the latent grid."""
    top, bottom, left, right = padding
    return np.pad(picture, ((top, bottom), (left, right), (0, 0)), mode="edge") if any(padding) else picture
