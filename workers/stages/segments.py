"""Decode, for a video in chunks: each chunk's latent to a video file of its own, which `join` puts together.

A chunk shares its first frames with the end of the one before. There both pictures are known, and the video fades from
the earlier to the later one, away from either end: a chunk is least sure of itself at its ends. So an item reads its
own latent, and the one before it where that was not decoded in this very process.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache.durable import temporary_path
from cache.failpoints import failpoint
from cache.home import Home
from cache.videos import publish_video
from workers.arrays import DTYPES, read_array
from workers.context import Context
from workers.protocol import Item, Job
from workers.sampling.noise import noise_source
from workers.stages.loading import load
from workers.video.codecs import codec
from workers.video.tiling import TileSizes, decode_grid
from workers.video.vae import decode
from workers.video.writer import VideoWriter

Frames = NDArray[np.uint8]


@dataclass
class Carried:
    """The end of the chunk that was decoded last, from `start` on, for the next one to fade from."""

    start: int = -1
    frames: Frames | None = None


def run(job: Job, context: Context) -> None:
    """Publishes every item's piece of the video under its key.

    job.params: `codec`, `container`, `tiles`; `crop`, (top, left, height, width) in decoded pixels; `margin`, frames at
    either end of a shared part that come from one chunk alone; `fps`, at which the pieces play for themselves; `aspect`
    of a pixel. An item's: `start`, the number of its first frame; `write`, how many frames its file has; `keep`, how
    many after those belong to the next piece; `shared`, how many at its beginning the one before has too;
    `before_start`, where that one begins.
    """
    worker = _Decoder(job, context)
    for index, item in enumerate(job.items, 1):
        context.item(item.key, index, len(job.items))
        worker.make(item)
        context.check_stop()


class _Decoder:
    def __init__(self, job: Job, context: Context) -> None:
        self.job, self.context = job, context
        self.dtype = DTYPES[job.dtype]
        _, self.statistics = load(job, context, "statistics", self.dtype)
        self.config, self.weights = load(job, context, "vae_decoder", self.dtype)
        self.tiles = TileSizes(**job.params["tiles"])
        self.carried = Carried()

    def make(self, item: Item) -> None:
        """Decodes, fades, encodes, publishes."""
        job, home = self.job, Home(Path(self.job.home))
        start, write, keep, shared = (int(item.params[name]) for name in ("start", "write", "keep", "shared"))
        if shared and self.carried.start != start:
            before = int(item.params["before_start"])
            self.carried = Carried(start, self.end_of(item.inputs["before"], start - before, shared, item.key))
        past, kept = self.carried.frames, list[Frames]()
        _, _, height, width = job.params["crop"]
        suffix = job.params["container"]
        temporary = temporary_path(home.tmp)
        share = fade(shared, job.params["margin"])
        with VideoWriter(
            temporary,
            width=width,
            height=height,
            fps=Fraction(job.params["fps"]),
            codec=job.params["codec"],
            container=codec(job.params["codec"]).containers[suffix],
            aspect=Fraction(job.params["aspect"]),
        ) as video:
            done = 0
            for chunk in self.frames(item.inputs["latent"], item.key):
                for frame in chunk:
                    if done >= write + keep:
                        break
                    if done < shared and past is not None:
                        frame = mixed(past[done], frame, share[done])
                    if done < write:
                        video.write(frame[None])
                    else:
                        kept.append(np.array(frame))
                    done += 1
                del chunk, frame  # not while the next ones are decoded
        self.carried = Carried(start + write, np.stack(kept) if kept else None)
        failpoint("segment.encoded", item.key)
        began = time.monotonic()
        made = publish_video(home, item.key, temporary, suffix)
        seconds = time.monotonic() - began
        self.context.emit("artifact", key=item.key, path=str(made.path), bytes=made.bytes, seconds=seconds)

    def end_of(self, path: str, first: int, count: int, key: str) -> Frames:
        """Frames `first` to `first + count` of another chunk; tiles that only touch earlier ones are left out."""
        latent = read_array(path, "video")
        _, _, frames, height, width = latent.shape
        begin, done = 0, 0
        for size in filter(None, decode_grid(frames, height, width, self.tiles).chunks()):
            if done + size > first:
                break
            begin, done = begin + 1, done + size
        found = [np.array(frame) for part in self.frames(path, key, begin) for frame in part]
        return np.stack(found[first - done : first - done + count])

    def frames(self, path: str, key: str, begin: int = 0) -> Iterator[Frames]:
        """Of a latent, in order, cut to the video's size."""
        progress = self.context.stepper(key)
        top, left, height, width = self.job.params["crop"]
        for chunk in decode(
            self.weights,
            self.config,
            self.statistics,
            read_array(path, "video"),
            self.tiles,
            self.dtype,
            noise=partial(noise_source, 0, "decode") if self.config.needs_noise else None,
            progress=progress,
            beat=self.context.heartbeat,
            begin=begin,
        ):
            part = chunk[:, top : top + height, left : left + width]
            del chunk
            yield part
            del part


def fade(shared: int, margin: int) -> NDArray[np.float32]:
    """The later chunk's share in each of the frames that two chunks have: 0 at first, 1 at last, smooth between."""
    margin = min(margin, max(0, (shared - 1) // 2))
    steps = shared - 2 * margin
    x = (np.arange(steps, dtype=np.float32) + 1) / np.float32(steps + 1)
    ramp = x * x * (3 - 2 * x)
    return np.concatenate([np.zeros(margin, np.float32), ramp, np.ones(margin, np.float32)])


def mixed(before: Frames, after: Frames, share: np.float32) -> Frames:
    """One frame of two."""
    if share <= 0:
        return before
    if share >= 1:
        return after
    x = before.astype(np.float32)
    x += (after - x) * share
    return np.rint(x, out=x).astype(np.uint8)
