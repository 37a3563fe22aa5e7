"""Stage 2: the latent at twice the size, then a short distilled refinement without guidance.

The upscaler has done its work for every item, and is gone, before the transformer is read.
"""

from __future__ import annotations

import mlx.core as mx

from workers.arrays import DTYPES, read_array
from workers.context import Context
from workers.networks.upsampler import upsample
from workers.protocol import Item, Job
from workers.sampling.guidance import Guidance
from workers.stages.denoising import denoise_items, unfinished
from workers.stages.loading import forget, load


def run(job: Job, context: Context) -> None:
    saved = unfinished(job, context)
    fresh = tuple(item for item in job.items if item.key not in saved)
    upscaled = upscale(job, context, fresh) if fresh else {}
    denoise_items(job, context, saved, lambda item: upscaled.pop(item.key), Guidance())


def upscale(job: Job, context: Context, items: tuple[Item, ...]) -> dict[str, mx.array]:
    """Stage 1's latents through the spatial upscaler: key -> normalised latent."""
    dtype = DTYPES[job.dtype]
    _, statistics = load(job, context, "statistics", dtype)
    config, weights = load(job, context, "upsampler", dtype)
    found = {}
    for item in items:
        latent = read_array(item.inputs["latent"], "video", "stage1").astype(dtype)
        found[item.key] = upsample(weights, config, statistics, latent, lambda done, total: context.heartbeat())
        mx.eval(found[item.key])
    forget(weights, statistics)
    return found
