"""The denoising that stages 1 and 2 share: a transformer, its contexts, and a state that is saved after every step.

Each item (one per seed) goes through all its steps before the next begins, with the weights loaded once. After each
step the latent goes to `partial/<key>`, so a killed run goes on from its last finished step, to the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import mlx.core as mx

from cache.artifacts import read
from cache.home import Home
from cache.partial import drop_partial, load_partial
from weights.errors import UsageError
from workers.arrays import DTYPES, publish_arrays, to_array
from workers.context import Context
from workers.networks.pace import Pace
from workers.networks.rope import video_positions
from workers.protocol import Item, Job
from workers.sampling.denoise import Predict, denoise
from workers.sampling.guidance import Guidance
from workers.sampling.latents import from_tokens, to_tokens
from workers.sampling.noise import noise, noise_from_file, noised
from workers.sampling.predictor import make_predictor
from workers.sampling.schedules import Sigmas, distilled_sigmas, ltx2_sigmas, stage2_sigmas
from workers.stages.loading import Transformer, open_transformer
from workers.stages.saving import Saver
from workers.stages.watching import Viewer

SCHEDULES: dict[str, Callable[[int], Sigmas]] = {
    "dev": ltx2_sigmas,
    "distilled": distilled_sigmas,
    "stage2": stage2_sigmas,
}
LATENT_CHANNELS = 128

Clean = Callable[[Item], mx.array | None]
"""The latent [1, 128, frames, height, width] that an item's noise is mixed with; None: nothing but noise."""


def unfinished(job: Job, context: Context) -> dict[str, tuple[int, mx.array]]:
    """The saved states of this job's items: key -> (steps done, latent tokens)."""
    home, found = Home(Path(job.home)), {}
    for item in job.items:
        partial = load_partial(home, item.key, on_damage=context.warn)
        if partial is not None and partial.total == job.params["steps"]:
            found[item.key] = (partial.step, to_array(partial.tensors["latent"]))
    return found


def denoise_items(
    job: Job, context: Context, saved: dict[str, tuple[int, mx.array]], clean: Clean, guidance: Guidance
) -> None:
    """Publishes `video` [1, 128, frames, height, width] of every item, normalised, in the compute dtype."""
    dtype, total = DTYPES[job.dtype], job.params["steps"]
    sigmas = SCHEDULES[job.params["schedule"]](total)
    done = {item.key: saved[item.key][0] if item.key in saved else 0 for item in job.items}

    def begin(index: int, item: Item) -> None:
        context.item(item.key, index + 1, len(job.items))
        if done[item.key]:
            context.emit("resumed", key=item.key, index=done[item.key], total=total)

    left = []
    for index, item in enumerate(job.items):
        if done[item.key] < total:
            left.append((index, item))
            continue
        # Killed between its last step and its result: that needs no weights.
        begin(index, item)
        finish(job, context, item, saved.pop(item.key)[1])
    if not left:
        return
    with open_transformer(job, context, dtype, sum(total - done[item.key] for _, item in left)) as transformer:
        predict = predictor(job, context, transformer, guidance, dtype)
        for index, item in left:
            begin(index, item)
            _, latent = saved.pop(item.key, (0, None))
            if latent is None:
                latent = to_tokens(start(job, item, sigmas, clean(item), dtype))
            with Saver(job, context, item) as save, Viewer(job, context, item) as view:
                result = denoise(view.watch(predict), latent, sigmas, start=done[item.key], on_step=view.after(save))
            finish(job, context, item, result)


def finish(job: Job, context: Context, item: Item, tokens: mx.array) -> None:
    """Publishes an item's result; its state has served."""
    began = time.monotonic()
    video = {"video": from_tokens(tokens, tuple(job.params["shape"]))}
    size = publish_arrays(item.output, item.key, job.stage, video, {})
    drop_partial(Home(Path(job.home)), item.key)
    context.emit("artifact", key=item.key, path=item.output, bytes=size, seconds=time.monotonic() - began)
    context.check_stop()


def predictor(job: Job, context: Context, transformer: Transformer, guidance: Guidance, dtype: mx.Dtype) -> Predict:
    """The items share prompts and shape, so one predictor serves them all."""
    text = read(Path(job.items[0].inputs["text"]), stage="text").tensors
    positions = video_positions(tuple(job.params["shape"]), float(Fraction(job.params["fps"])))
    pace: Pace = job.params.get("pace", "whole")
    if pace == "ahead" and "residency" in job.params:
        raise UsageError("The job asks for blocks that come and go to be computed ahead.")
    return make_predictor(
        transformer.config,
        transformer.top,
        transformer.blocks,
        to_array(text["positive"]),
        to_array(text["negative"]) if guidance.needs_negative else None,
        positions,
        guidance,
        dtype,
        after_block=lambda index: context.heartbeat(),
        pace=pace,
        keep_text=bool(job.params.get("keep_text")),
    )


def start(job: Job, item: Item, sigmas: Sigmas, clean: mx.array | None, dtype: mx.Dtype) -> mx.array:
    """The noisy latent that denoising begins with, [1, 128, frames, height, width]."""
    shape = (1, LATENT_CHANNELS, *job.params["shape"])
    if clean is not None and clean.shape != shape:
        raise UsageError(f"The latent before {job.stage} is {list(clean.shape)} instead of {list(shape)}.")
    if "noise" in item.inputs:
        values = noise_from_file(Path(item.inputs["noise"]), job.stage, shape)
    else:
        values = noise(item.params["seed"], job.stage, shape)
    return noised(clean, mx.array(values), float(sigmas[0]), dtype)
