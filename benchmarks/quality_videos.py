"""Videos for `benchmarks.quality`: made by the product's workers, drawn by the world, and what is measured in each.

`make` runs the whole program in this process (`orchestrator.generate`, its workers in theirs) and keeps a lossless
file; `examine` reads and measures it; `drawn` renders what such a prompt should look like.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation

from benchmarks import quality_measures as measures
from benchmarks.quality_measures import Seen
from orchestrator import Settings, WeightsChoice, generate
from training.world import captions, scenes
from training.world.captions import Combination
from training.world.measure import measure_object
from training.world.silhouettes import Floats

EDGES = tuple(field.name for field in dataclasses.fields(measures.Edges))
HEIGHT, WIDTH, FRAMES, FPS = 256, 384, 25, 24
"""Of two stages with the tiny model; what is smaller is enlarged to it before it is measured."""
TINY = WeightsChoice(model="tiny")
Answers = dict[str, Any]
"""One video's: yes or no for each attribute, and numbers; None where there was nothing to measure."""

TWO_STAGE, ONE_STAGE = {"preset": "two-stage"}, {"preset": "dev", "steps": 15, "cfg": 5.0}
RUNS: Mapping[str, Mapping[str, Any]] = {
    "draft": {"preset": "draft"},
    "two-stage": TWO_STAGE,
    "two-stage, CFG 1": {**TWO_STAGE, "cfg": 1.0},
    "two-stage, distilled stage 1": {**TWO_STAGE, "weights": dataclasses.replace(TINY, model_variant="distilled")},
    "two-stage, 1 step in stage 2": {**TWO_STAGE, "steps_stage2": 1},
    "two-stage, 8 steps in stage 2": {**TWO_STAGE, "steps_stage2": 8},
    "max": {"preset": "max"},
    "max, CFG 1": {"preset": "max", "cfg": 1.0},
    "15 steps, CFG 5": ONE_STAGE,
    "8 steps": {**ONE_STAGE, "steps": 8},
    "20 steps": {**ONE_STAGE, "steps": 20},
    "30 steps": {**ONE_STAGE, "steps": 30},
    "CFG 1": {**ONE_STAGE, "cfg": 1.0},
    "CFG 3": {**ONE_STAGE, "cfg": 3.0},
    "CFG 7": {**ONE_STAGE, "cfg": 7.0},
    "CFG 10": {**ONE_STAGE, "cfg": 10.0},
    "rescale 0.7": {**ONE_STAGE, "guidance_rescale": 0.7},
    "no negative prompt": {**ONE_STAGE, "negative_prompt": ""},
}
"""What is asked beside prompt and seed; the tiny model's own size and length apply."""


def make(name: str, prompt: str, seed: int, home: Path, path: Path) -> float:
    """A video of that run, unless there is one already; the seconds that took."""
    if path.exists():
        return 0.0
    began = time.monotonic()
    wanted = {"weights": TINY, **RUNS[name]}
    generate(Settings(prompt=prompt, seeds=(seed,), codec="ffv1", **wanted), output=path, home=home)
    return time.monotonic() - began


def read_video(path: Path) -> Floats:
    """All frames, RGB in [0, 1]; smaller ones enlarged bicubically to HEIGHT x WIDTH."""
    with av.open(f"file:{path}") as container:
        frames = [_enlarged(frame).to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames).astype(np.float32) / np.float32(255)


def _enlarged(frame: av.VideoFrame) -> av.VideoFrame:
    if (frame.height, frame.width) == (HEIGHT, WIDTH):
        return frame
    return frame.reformat(WIDTH, HEIGHT, "rgb24", interpolation=Interpolation.BICUBIC)


def enlarged(video: Floats) -> Floats:
    """Frames of another size, bicubically at HEIGHT x WIDTH, as `read_video` would give them."""
    pixels = np.round(video * 255).astype(np.uint8)
    frames = [_enlarged(av.VideoFrame.from_ndarray(frame, format="rgb24")) for frame in pixels]
    return np.stack([frame.to_ndarray(format="rgb24") for frame in frames]).astype(np.float32) / np.float32(255)


def draws(count: int, seed: int) -> tuple[scenes.Scenes, list[Combination]]:
    """Scenes of combinations that no network has seen."""
    rng = np.random.default_rng(seed)
    unseen = captions.all_combinations(held_out=True)
    chosen = np.array([unseen[index] for index in rng.integers(len(unseen), size=count)])
    sampled = scenes.sample_scenes(chosen, (HEIGHT, WIDTH), lambda n, k: rng.random((n, k), dtype=np.float32))
    return sampled, [Combination(*(int(value) for value in row)) for row in chosen]


def drawn(
    sampled: scenes.Scenes,
    index: int,
    *,
    height: int = HEIGHT,
    width: int = WIDTH,
    frames: int = FRAMES,
    fps: int = FPS,
) -> Floats:
    """One of those scenes as a video."""
    video = scenes.render(sampled[index : index + 1], height, width, frames, float(fps))[0]
    pixels: Floats = np.ascontiguousarray((video.transpose(1, 2, 3, 0) + 1) / 2)
    return pixels


def answers_of(video: Floats, combination: Combination, *, smooth: bool = False) -> Answers:
    """Everything that is measured in one video of HEIGHT x WIDTH and of a second's length.

    smooth: also how it moves, shown at 48 frames a second: a video of 24 both with every frame twice and cross-faded.
    """
    seen = measures.see(video, combination)
    times = round((len(video) - 1) / (FRAMES - 1))  # of 24 frames a second
    found: Answers = dataclasses.asdict(measure_object(video, combination, seen.median, seen.masks))
    edges = measures.edges(seen, range(0, len(video), 4 * times))  # the same instants of either rate
    found |= dict.fromkeys(EDGES) if edges is None else dataclasses.asdict(edges)
    turns = measures.turning(seen, FPS * times)
    found |= {"rate": turns and turns.rate, "spins": None if turns is None else turns.spins}
    if smooth:
        ways = {"as it is": seen}
        if times == 1:
            faded = measures.see(measures.cross_faded(video), combination, seen.median)
            ways = {"doubled": _every(seen, measures.doubled), "cross-faded": faded}
        found["shown"] = {way: _shown(what) for way, what in ways.items()}
        found["at 24"] = dataclasses.asdict(measures.smoothness(_every(seen, lambda frames: frames[::times])))
    return found


def _every(seen: Seen, change: Callable[[Any], Any]) -> Seen:
    return dataclasses.replace(seen, video=change(seen.video), masks=change(seen.masks))


def _shown(seen: Seen) -> Answers:
    between = measures.edges(seen, range(3, len(seen.video), 8))
    return {**dataclasses.asdict(measures.smoothness(seen)), "width between": between and between.width}


def examine(path: Path, combination: Combination, smooth: bool) -> Answers:
    return answers_of(read_video(path), combination, smooth=smooth)


def run_prompts(
    name: str,
    prompts: Sequence[tuple[Combination, str]],
    out: Path,
    *,
    smooth: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[Answers]:
    """One run of all prompts, seed = place in the list. A process beside this one measures while the next is made."""
    folder = out / name.replace(", ", "-").replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        waiting = []
        for seed, (combination, prompt) in enumerate(prompts):
            path = folder / f"{seed:03d}.mkv"
            seconds = make(name, prompt, seed, out / "home", path)
            waiting.append((path, seconds, pool.submit(examine, path, combination, smooth)))
            say(f"{name} {seed + 1}/{len(prompts)} {seconds:.1f} s  {prompt}")
        return [
            {"prompt": prompts[seed][1], "seed": seed, "file": str(path.relative_to(out)), "seconds": seconds}
            | future.result()
            for seed, (path, seconds, future) in enumerate(waiting)
        ]
