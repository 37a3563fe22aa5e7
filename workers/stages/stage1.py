"""Stage 1: guided denoising at the base size, from noise."""

from __future__ import annotations

from workers.context import Context
from workers.protocol import Job
from workers.sampling.guidance import Guidance
from workers.stages.denoising import denoise_items, unfinished


def run(job: Job, context: Context) -> None:
    guidance = Guidance(
        cfg=job.params["cfg"],
        rescale=job.params["guidance_rescale"],
        stg=job.params["stg"],
        stg_blocks=tuple(job.params["stg_blocks"]),
    )
    denoise_items(job, context, unfinished(job, context), lambda item: None, guidance)
