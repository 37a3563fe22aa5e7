"""Carries a prepared upscaling out: the same workers, locks, records and healing as a video's own run."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cache.failpoints import failpoint
from cache.home import Home, sweep_home
from cache.runs import Run, create_run
from cache.videos import deliver, find_video
from orchestrator.disk import MARGIN, VIDEO_BYTES_PER_PIXEL, check_room
from orchestrator.display.words import count, frame_rate
from orchestrator.interrupts import Interrupts
from orchestrator.pipeline import StagePlan, latent_bytes, needed
from orchestrator.relay_run import OnEvent, RelayRun, RunResult
from orchestrator.upscaling.prepare import PreparedUpscale, check_memory, prepare
from orchestrator.upscaling.recipe import upscale_from_dict
from weights.errors import ArtifactError, UsageError


def upscale(
    prepared: PreparedUpscale,
    *,
    on_event: OnEvent,
    interrupts: Interrupts,
    run: Run | None = None,
    retry: bool = True,
) -> RunResult:
    """Makes the video. Raises a RelayError with its exit code; `resume` goes on from what was finished."""
    check_disk(prepared)
    check_memory(prepared)
    if run is None:
        run = create_run(prepared.home, prepared.recipe.to_dict(), prepared.recipe.title)
        failpoint("run.created")
    else:
        run.claim()
    return UpscaleRun(prepared, run, on_event, interrupts, retry).carry_out()


def resume(
    run: Run, *, home: Home, on_event: OnEvent, interrupts: Interrupts, overwrite: bool, retry: bool
) -> RunResult:
    """Goes on with such a run: the same recipe, the same output."""
    recipe, state = upscale_from_dict(run.recipe()), run.state()
    if not state.outputs:
        raise UsageError(f"The run {run.id} ended before it knew its output; run the same command again.")
    prepared = prepare(recipe, home=home, output=Path(state.outputs[0]), overwrite=overwrite, again=True)
    return upscale(prepared, on_event=on_event, interrupts=interrupts, run=run, retry=retry)


class UpscaleRun(RelayRun[PreparedUpscale]):
    """A video's own run: the one video that is made from it."""

    def locked_keys(self, stage: StagePlan) -> list[str]:
        """An hour has hundreds of chunks, and a process few files: who has the first and the last has the stage."""
        return list(dict.fromkeys([stage.items[0].key, stage.items[-1].key]))

    def unkeyed_params(self, stage: str) -> dict[str, Any]:
        """Where the video lies, for those who read it; what is written into the new one."""
        read = {"video": self.prepared.recipe.video, "seen": list(self.prepared.seen)}
        if stage == "encode":
            return read
        if stage == "join":
            return {**read, "title": "", "comment": comment(self.prepared)}
        return {}

    def begin(self) -> None:
        prepared = self.prepared
        width, height = prepared.sizes.size
        sweep_home(prepared.home)
        outputs = self.register()
        missing = self.results.missing(prepared.relay)
        self.emit(
            "run_started",
            stages=[
                {"name": stage.name, "cached": not missing[stage.name], "items": len(stage.items), "noun": "chunk"}
                for stage in prepared.relay
            ],
            outputs=outputs,
            width=width,
            height=height,
            frames=prepared.times.count,
            fps=rate_words(prepared),
            source={"frames": prepared.facts.frames, "seconds": float(prepared.facts.seconds)},
            recipe=prepared.recipe.to_dict(),
        )
        for note in prepared.notes:
            self.emit("warning", message=note)

    def deliver(self) -> tuple[Path, ...]:
        """Copies the finished video to its place; one that is there already stays."""
        prepared = self.prepared
        (item,) = prepared.relay[-1].items
        video, path = find_video(prepared.home, item.key), prepared.outputs[item.key]
        if video is None:
            raise ArtifactError(f"The video {path} was damaged after it was made.")
        deliver(video, path, prepared.overwrite)
        width, height = prepared.sizes.size
        self.emit(
            "video_done",
            path=str(path),
            key=item.key,
            role="video",
            cached=self.run.state().stages["join"].status != "computed",
            width=width,
            height=height,
            frames=prepared.times.count,
            fps=rate_words(prepared),
            variable=prepared.times.rate is None,
            seconds=float(prepared.times.seconds),
            summary=summary(prepared),
            bytes=video.bytes,
        )
        return (path,)


def rate_words(prepared: PreparedUpscale) -> str:
    """Frames a second, as a fraction's text; of a rate that varies, the mean."""
    rate = prepared.times.mean_rate
    return str(rate if prepared.times.rate is not None else rate.limit_denominator(1001))


def summary(prepared: PreparedUpscale) -> str:
    """Count, rate and duration, before and after."""
    facts, times = prepared.facts, prepared.times
    rate = "a varying rate" if facts.rate is None else f"{frame_rate(facts.rate)} fps"
    new_rate = f"{frame_rate(rate_words(prepared))} fps" + (" on the whole" if times.rate is None else "")
    width, height = prepared.sizes.size
    return (
        f"{facts.width}x{facts.height}, {count(facts.frames, 'frame')} at {rate}, {float(facts.seconds):.3f} s -> "
        f"{width}x{height}, {count(times.count, 'frame')} at {new_rate}, {float(times.seconds):.3f} s"
    )


def comment(prepared: PreparedUpscale) -> str:
    """What the new video says of itself: how it was made, without a word of this machine."""
    recipe = prepared.recipe
    made = {name: value for name, value in asdict(recipe).items() if name in ("kind", "sha256", "chunk", "codec")}
    return json.dumps({"made_by": "ltx-relay", **made})


def check_disk(prepared: PreparedUpscale) -> None:
    """DoesNotFit (4) when a disk has less room than the run needs: latents, pieces, and the video twice."""
    todo = needed(prepared.relay, lambda stage, item: os.path.exists(item.output))
    width, height = prepared.sizes.size
    video = int(width * height * prepared.times.count * VIDEO_BYTES_PER_PIXEL.get(prepared.recipe.codec, 3.0))
    item_bytes = 4 if prepared.dtype == "float32" else 2
    total = 0
    for stage in prepared.relay:
        items = len(todo[stage.name])
        if stage.name in ("decode", "join"):
            total += video * items // len(stage.items)
        else:
            total += items * latent_bytes(prepared.memory[stage.name].work.result.as_list(), item_bytes)
    places = {prepared.home.root: total + MARGIN}
    for path in prepared.outputs.values():
        if not path.exists():
            places[path.parent] = places.get(path.parent, 0) + video
    check_room(places)
