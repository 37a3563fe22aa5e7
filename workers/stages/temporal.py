"""Temporal upscaling, latent to latent: n latent frames become 2n - 1, for twice the frame rate.

Which of the upsamplers it is, its file says; `spatial` is this stage with the other one.
"""

from __future__ import annotations

import time

from workers.arrays import DTYPES, publish_arrays, read_array
from workers.context import Context
from workers.networks.upsampler import upsample
from workers.protocol import Job
from workers.stages.loading import load


def run(job: Job, context: Context) -> None:
    """Publishes `video` [1, 128, frames, height, width] of every item, normalised, under the job's stage."""
    dtype = DTYPES[job.dtype]
    _, statistics = load(job, context, "statistics", dtype)
    config, weights = load(job, context, "upsampler", dtype)
    for index, item in enumerate(job.items):
        context.item(item.key, index + 1, len(job.items))
        progress = context.stepper(item.key)
        latent = read_array(item.inputs["latent"], "video").astype(dtype)
        video = {"video": upsample(weights, config, statistics, latent, progress)}
        began = time.monotonic()
        size = publish_arrays(item.output, item.key, job.stage, video, {})
        context.emit("artifact", key=item.key, path=item.output, bytes=size, seconds=time.monotonic() - began)
        context.check_stop()
