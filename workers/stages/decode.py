"""Decode: latents to video files. Frames go to the video encoder as they are finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
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
from workers.stages import segments
from workers.stages.loading import load
from workers.stages.watching import Learner
from workers.video.codecs import codec
from workers.video.pieces import Pieces
from workers.video.tiling import TileSizes, decode_grid
from workers.video.vae import decode
from workers.video.writer import COMMENT, TITLE, VideoWriter

Frames = NDArray[np.uint8]


def run(job: Job, context: Context) -> None:
    """Publishes every item's video under its key; of a video in chunks, its pieces."""
    if "crop" in job.params:
        return segments.run(job, context)
    dtype = DTYPES[job.dtype]
    _, statistics = load(job, context, "statistics", dtype)
    config, weights = load(job, context, "vae_decoder", dtype)
    for index, item in enumerate(job.items):
        context.item(item.key, index + 1, len(job.items))
        progress = context.stepper(item.key)
        latent = read_array(item.inputs["latent"], "video")
        tiles = TileSizes(**job.params["tiles"])
        _, _, frames, height, width = latent.shape
        chunks = sum(map(bool, decode_grid(frames, height, width, tiles).chunks()))
        decoder = partial(
            decode,
            weights,
            config,
            statistics,
            latent,
            tiles,
            dtype,
            noise=partial(noise_source, item.params["seed"], "decode") if config.needs_noise else None,
            progress=progress,
            beat=context.heartbeat,
        )
        write(job, context, item, decoder, chunks, Learner(job.params.get("preview_map"), latent))
        context.check_stop()
    return None


def write(
    job: Job, context: Context, item: Item, decoder: Callable[..., Iterator[Frames]], chunks: int, learner: Learner
) -> None:
    """Encodes the frames, cut to the wanted size, and publishes the file.

    decoder: `decoder(begin=n)` gives the frames without the first n of the `chunks` that they come in: those are still
    there, from a worker that did not finish.
    """
    home, name = Home(Path(job.home)), job.params["codec"]
    pieces = Pieces(home, item.key)
    width, height = job.params["size"]
    suffix = job.params["container"]
    temporary = temporary_path(home.tmp)
    metadata = {TITLE: job.params["title"], COMMENT: job.params["comments"][item.key]}
    with VideoWriter(
        temporary,
        width=width,
        height=height,
        fps=Fraction(item.params["fps"]),
        codec=name,
        metadata=metadata,
        container=codec(name).containers[suffix],
    ) as video:
        begin = 0
        for piece in pieces.read(context.warn):
            video.write(piece)
            learner.take(piece, whole=False)
            begin += 1
            del piece
        if begin:
            context.emit("resumed", key=item.key, index=begin, total=chunks)
        began = time.monotonic()
        for index, chunk in enumerate(decoder(begin=begin), begin):
            seconds = time.monotonic() - began
            failpoint("piece.computed", item.key, index)
            video.write(centre(chunk, width, height))
            learner.take(chunk)
            if index + 1 < chunks and pieces.save(index, centre(chunk, width, height), seconds):
                failpoint("piece.saved", item.key, index)
                context.check_stop()
            began = time.monotonic()
            del chunk  # not while the next one is decoded
    began = time.monotonic()
    made = publish_video(home, item.key, temporary, suffix)
    pieces.drop()
    learner.finish()
    context.emit("artifact", key=item.key, path=str(made.path), bytes=made.bytes, seconds=time.monotonic() - began)


def centre(frames: Frames, width: int, height: int) -> Frames:
    """The middle of frames [n, rows, columns, 3]."""
    top, left = (frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2
    return frames[:, top : top + height, left : left + width]
