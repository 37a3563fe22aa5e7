"""Preview: a few stills of each latent of stage 1, and all of them on one sheet, to choose seeds by.

Three short pieces of each latent are decoded at the base size, so that a preview costs seconds however long the video
is. Stills are for the eye: they are no artifacts, have no key, and nothing is computed from them.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np

from cache.durable import publish_bytes
from workers.arrays import DTYPES, read_array
from workers.context import Context
from workers.protocol import Item, Job
from workers.sampling.noise import noise_source
from workers.stages.loading import load
from workers.video.stills import Picture, contact_sheet, png, windows
from workers.video.tiling import TileSizes
from workers.video.vae import decode


def run(job: Job, context: Context) -> None:
    """Writes a PNG file for each item (to its `output`), and the sheet of them all."""
    dtype = DTYPES[job.dtype]
    _, statistics = load(job, context, "statistics", dtype)
    config, weights = load(job, context, "vae_decoder", dtype)
    tiles = TileSizes(**job.params["tiles"])
    rows = []
    for index, item in enumerate(job.items):
        context.item(item.key, index + 1, len(job.items))
        latent, stills = read_array(item.inputs["latent"], "video"), []
        parts = windows(latent.shape[2])
        for done, window in enumerate(parts, 1):
            began = time.monotonic()
            piece = latent[:, :, window.start : window.stop]
            source = partial(noise_source, item.params["seed"], "decode") if config.needs_noise else None
            chunks = decode(weights, config, statistics, piece, tiles, dtype, noise=source, beat=context.heartbeat)
            stills.append(np.concatenate(list(chunks))[window.frame])
            context.step(item.key, done, len(parts), time.monotonic() - began)
        rows.append((int(item.params["seed"]), stills))
        publish(context, item, rows[-1])
        context.check_stop()
    publish_bytes(Path(job.params["sheet"]), png(contact_sheet(rows)))


def publish(context: Context, item: Item, row: tuple[int, list[Picture]]) -> None:
    publish_bytes(Path(item.output), png(contact_sheet([row])))
    context.emit("preview", key=item.key, path=item.output)
