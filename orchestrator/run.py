"""Carries a prepared recipe out: the relay, a contact sheet to choose seeds by, then the videos to their places."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from cache.failpoints import failpoint
from cache.home import Home, sweep_home
from cache.locks import hold_all
from cache.runs import Run, create_run
from cache.videos import VideoObject, deliver, find_video
from orchestrator import heal
from orchestrator.disk import check_disk
from orchestrator.interrupts import Interrupts
from orchestrator.machine_lock import machine_lock
from orchestrator.memory_plan import StageMemory, smaller_tiles
from orchestrator.pipeline import StagePlan
from orchestrator.prepare import Places, Prepared, check_memory, prepare_recipe, with_tiles
from orchestrator.recipe import recipe_from_dict
from orchestrator.relay_run import OnEvent, RelayRun, RunResult, command, figures
from orchestrator.supervisor import WorkerEnd
from orchestrator.told import means_of, unkeyed_params
from orchestrator.upscaling.recipe import is_upscale
from orchestrator.video_files import is_called, stem_of, suffix_of
from orchestrator.video_records import write_record
from weights.errors import ArtifactError, RelayError, UsageError
from workers.protocol import Item


def generate(
    prepared: Prepared, *, on_event: OnEvent, interrupts: Interrupts, run: Run | None = None, retry: bool = True
) -> RunResult:
    """Makes the videos. Raises a RelayError with its exit code; `resume` goes on from what was finished.

    retry: whether a worker that ran out of memory is started again, more frugally.
    """
    recipe = prepared.recipe
    check_disk(prepared)
    check_memory(prepared)
    if run is None:
        run = create_run(prepared.home, recipe.to_dict(), recipe.prompt)
        failpoint("run.created")
    else:
        run.claim()
    return VideoRun(prepared, run, on_event, interrupts, retry).carry_out()


def resume(
    run: Run,
    *,
    home: Home,
    on_event: OnEvent,
    interrupts: Interrupts,
    overwrite: bool = False,
    retry: bool = True,
) -> RunResult:
    """Goes on with a run: the same recipe, the same outputs; only what is missing is computed.

    An output that nobody named gets a number where another video has taken its name meanwhile.
    """
    if is_upscale(run.recipe()):
        from orchestrator.upscaling.run import resume as resume_upscaling

        return resume_upscaling(
            run, home=home, on_event=on_event, interrupts=interrupts, overwrite=overwrite, retry=retry
        )
    recipe, state = recipe_from_dict(run.recipe()), run.state()
    if state.stop_after is None and len(state.outputs) < len(recipe.seeds):
        raise UsageError(f"The run {run.id} ended before it knew its outputs; run the same command again.")
    outputs = state.outputs if state.stop_after is None else [f"none{suffix_of(recipe.codec)}"] * len(recipe.seeds)
    paths = {seed: Path(path) for seed, path in zip(recipe.seeds, outputs, strict=False)}
    unnamed = all(is_called(path, f"{stem_of(recipe.prompt)}-{seed}") for seed, path in paths.items())
    places = Places(paths, named=not unnamed)
    prepared = prepare_recipe(recipe, home=home, places=places, overwrite=overwrite, stop_after=state.stop_after)
    return generate(prepared, on_event=on_event, interrupts=interrupts, run=run, retry=retry)


class VideoRun(RelayRun[Prepared]):
    """A prompt's own run: the videos of its seeds."""

    def begin(self) -> None:
        recipe, geometry = self.prepared.recipe, self.prepared.recipe.geometry
        width, height = geometry.output_size
        sweep_home(self.prepared.home)
        outputs = self.register()
        missing = self.results.missing(self.prepared.relay)
        self.emit(
            "run_started",
            stages=[
                {"name": stage.name, "cached": not missing[stage.name], "items": len(stage.items)}
                for stage in self.prepared.relay
            ],
            outputs=outputs,
            width=width,
            height=height,
            frames=geometry.output_frames,
            fps=str(recipe.playing_fps),
            recipe=recipe.to_dict(),
            **means_of(self.prepared),
        )
        for note in self.prepared.notes:
            self.emit("warning", message=note)

    def deliver(self) -> tuple[Path, ...]:
        """Copies the finished videos to their places; one that is there already stays."""
        geometry, delivered = self.prepared.recipe.geometry, []
        width, height = geometry.output_size
        computed = self.run.state().stages["decode"].status == "computed"
        for item in self.prepared.relay[-1].items:
            video, path = find_video(self.prepared.home, item.key), self.prepared.outputs[item.key]
            if video is None:
                raise ArtifactError(f"The video of seed {item.params['seed']} was damaged after it was made.")
            deliver(video, path, self.prepared.overwrite)
            base = item.params["role"] == "base"
            self.emit(
                "video_done",
                path=str(path),
                key=item.key,
                seed=item.params["seed"],
                role=item.params["role"],
                cached=not computed,
                width=width,
                height=height,
                frames=geometry.frames if base else geometry.output_frames,
                fps=item.params["fps"],
                bytes=video.bytes,
                record=self.record(item, video, path),
            )
            delivered.append(path)
        return tuple(delivered)

    def record(self, item: Item, video: VideoObject, path: Path) -> str | None:
        """Writes what is known of the video beside it; a video without a record is a video all the same."""
        try:
            return str(write_record(self.prepared, self.run, item, video, path))
        except RelayError as error:
            self.emit("warning", message=error.message)
            return None

    def unkeyed_params(self, stage: str) -> dict[str, Any]:
        return unkeyed_params(self.prepared, self.run, stage)

    def going_on(self) -> str:
        """The command line that carries the seeds to the end."""
        return command("promote", self.run.id, *map(str, self.prepared.recipe.seeds), home=self.prepared.home)

    def after(self, stage: StagePlan) -> None:
        if stage.name == "stage1":
            self.preview()

    def preview(self) -> None:
        """A contact sheet to choose seeds by: of a sweep, and where stage 1 is the end. It never fails a run."""
        stage, sheet = self.prepared.preview, self.run.previews / "stage1.png"
        last = self.prepared.stop_after == "stage1"
        if sheet.exists() or not (last or (len(stage.items) > 1 and "stage1" in self.computed)):
            return
        if not all(os.path.exists(item.inputs["latent"]) for item in stage.items):
            return
        items = tuple(
            replace(item, output=str(self.run.previews / f"{item.params['seed']}.png")) for item in stage.items
        )
        with hold_all([machine_lock()], stop=lambda: self.interrupts.requested):
            end = self.run_worker(replace(stage, params={**stage.params, "sheet": str(sheet)}), items)
        self.interrupts.check()
        if end.code:
            self.run.update_stage(stage.name, status="failed", **figures(end))
            self.emit("warning", stage=stage.name, message=f"There is no contact sheet of stage 1. {end.message}")
            return
        self.run.update_stage(stage.name, status="computed", **figures(end))
        self.emit("stage_done", stage=stage.name, **figures(end))
        self.emit("contact_sheet", path=str(sheet), seeds=list(self.prepared.recipe.seeds))

    def smaller_tiles(self, memory: StageMemory, end: WorkerEnd) -> StagePlan | None:
        """The decode in smaller tiles, after it ran out of memory; None where that is not what is needed."""
        if end.code not in heal.HEALED or memory.work.tiles is None or not self.retry or self.shrunk >= heal.TILE_TRIES:
            return None
        tiles = smaller_tiles(memory.work, self.prepared.means.backend)
        if tiles is None:
            return None
        self.shrunk = self.tries + 1
        self.prepared = with_tiles(self.prepared, tiles)
        self.run.write_recipe(self.prepared.recipe.to_dict())
        self.register()
        stage = self.prepared.relay[-1]
        message = heal.tile_sentence(memory, end, tiles)
        now = self.prepared.memory[stage.name].to_dict()
        self.emit("retry", stage=stage.name, message=message, code=end.code, tries=self.shrunk, **now)
        return stage
