"""Sharpness, smoothness and adherence of the bundled tiny model's videos, as people make them, from pixels.

    uv run python -m benchmarks.quality presets  --out DIR [--prompts 32]     draft, two-stage, max, CFG 1 and 5
    uv run python -m benchmarks.quality settings --out DIR [--prompts 32]     one stage: steps, CFG and more
    uv run python -m benchmarks.quality baseline --out DIR [--prompts 400]    two stages: what a better model must beat

Prompts name combinations that no network has seen; the seed is the prompt's place in the list, nothing is selected.
Videos are made by the real workers on a CPU and kept lossless in DIR; what is there is not made again, so that an
interrupted benchmark goes on (after a change of the model, take another DIR). Beside them stand the world's own renders
(the ceiling), measured with other prompts (the floor), enlarged from the base size, and encoded and decoded by the VAE
alone. Prints Markdown; DIR/SUITE.json has every number of every prompt, DIR/max.png the middle frame of each video. On
a machine that others use too, LTX_RELAY_THREADS=1 is faster (and has other bits).
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks import quality_tables as tables
from benchmarks.contact_sheet import write_png
from benchmarks.quality_videos import (
    FPS,
    FRAMES,
    HEIGHT,
    RUNS,
    WIDTH,
    Answers,
    answers_of,
    drawn,
    draws,
    enlarged,
    read_video,
    run_prompts,
)
from orchestrator.environment import worker_environment
from training.world.captions import Combination, held_out_prompts

SUITES: Mapping[str, Sequence[str]] = {
    "presets": ("draft", "two-stage", "max", "two-stage, CFG 1", "max, CFG 1"),
    "settings": (
        "15 steps, CFG 5",
        "8 steps",
        "20 steps",
        "30 steps",
        "CFG 1",
        "CFG 3",
        "CFG 7",
        "rescale 0.7",
        "no negative prompt",
        "draft",
    ),
    "baseline": ("two-stage",),
}
PROMPTS = {"presets": 32, "settings": 32, "baseline": 400}
SEED = 11
"""Of the renders."""
Row = tuple[list[Answers], list[Combination]]


def render_rows(count: int, smooth: bool) -> Iterator[tuple[str, Row]]:
    """What the measures say of drawn clips: right and wrong prompts, base size, every frame twice."""
    sampled, named = draws(count, SEED)
    others = named[-7:] + named[:-7]
    clips = [drawn(sampled, index) for index in range(count)]

    def measured(make: Callable[[int], Any], of: Sequence[Combination], also: bool = False) -> list[Answers]:
        return [answers_of(make(index), of[index], smooth=also) for index in range(count)]

    yield "real renders", (measured(lambda index: clips[index], named, smooth), named)
    yield "real renders, wrong prompts", (measured(lambda index: clips[index], others), others)
    small = {"height": HEIGHT // 2, "width": WIDTH // 2}
    yield (
        "real renders of half the size, enlarged",
        (
            measured(lambda index: enlarged(drawn(sampled, index, **small)), named),
            named,
        ),
    )
    if smooth:
        fast = {"frames": 2 * FRAMES - 1, "fps": 2 * FPS}
        yield "real renders at 48", (measured(lambda index: drawn(sampled, index, **fast), named, True), named)


def start_vae(count: int, path: Path) -> subprocess.Popen[bytes]:
    """The same clips through the VAE alone, in a process with a worker's BLAS, while the others are measured."""
    words = [sys.executable, "-m", "benchmarks.quality_vae", str(path), "--count", str(count), "--seed", str(SEED)]
    return subprocess.Popen(words, env=dict(worker_environment().variables))


def vae_row(count: int, path: Path) -> Row:
    clips, (_, named) = np.load(path, mmap_mode="r"), draws(count, SEED)
    found = [answers_of(clip.astype(np.float32) / np.float32(255), row) for clip, row in zip(clips, named, strict=True)]
    return found, named


def save_sheet(paths: Sequence[Path], path: Path, columns: int = 8, width: int = 144) -> None:
    """The middle frame of each video, in reading order."""
    pictures = []
    for video in paths:
        frames = read_video(video)
        middle = av.VideoFrame.from_ndarray(np.round(frames[len(frames) // 2] * 255).astype(np.uint8), format="rgb24")
        pictures.append(middle.reformat(width, width * HEIGHT // WIDTH, "rgb24", interpolation="AREA").to_ndarray())
    pictures += [np.full_like(pictures[0], 255)] * (-len(pictures) % columns)
    framed = [np.pad(picture, ((0, 3), (0, 3), (0, 0)), constant_values=255) for picture in pictures]
    lines = [np.concatenate(framed[start : start + columns], 1) for start in range(0, len(framed), columns)]
    write_png(path, np.ascontiguousarray(np.concatenate(lines)[:-3, :-3]))


def plain(value: Any) -> Any:
    """With null in the place of what is not a number."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def report(suite: str, rows: Mapping[str, Row]) -> str:
    """The suite's tables."""
    parts = [tables.adherence(rows)]
    if suite == "presets":
        parts += [tables.edges(rows), tables.smoothness(rows), tables.compare(rows)]
    if suite == "baseline":
        parts += [tables.kinds(rows), tables.turning(rows), tables.edges(rows)]
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--prompts", type=int, help="how many (presets, settings: 32; baseline: 400; at most 768)")
    parser.add_argument("--renders", type=int, default=64, help="drawn clips to measure beside them; 0: none")
    parser.add_argument("--runs", nargs="+", metavar="RUN", help="these rows, of any suite")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    unknown = set(asked.runs or ()) - set(RUNS)
    if unknown:
        parser.error(f"{'; '.join(sorted(unknown))}: there are {'; '.join(RUNS)}")
    smooth = asked.suite == "presets"
    rows: dict[str, Row] = {}
    through_vae = asked.renders and asked.suite == "baseline"
    vae = start_vae(asked.renders, asked.out / "vae.npy") if through_vae else None
    if asked.renders and asked.suite != "settings":
        rows |= {f"{name} ({asked.renders})": row for name, row in render_rows(asked.renders, smooth)}
    if vae is not None:
        if vae.wait():
            raise SystemExit("benchmarks.quality_vae failed.")
        rows[f"VAE alone ({asked.renders})"] = vae_row(asked.renders, asked.out / "vae.npy")
    prompts = held_out_prompts(PROMPTS[asked.suite] if asked.prompts is None else asked.prompts)
    for name in asked.runs or SUITES[asked.suite]:
        moves = smooth and "CFG" not in name
        found = run_prompts(name, prompts, asked.out, smooth=moves, say=lambda line: print(line, file=sys.stderr))
        rows[f"{name} ({len(prompts)})"] = found, [combination for combination, _ in prompts]
        if name == "max":
            save_sheet([asked.out / answer["file"] for answer in found], asked.out / "max.png")
    kept = {name: [{**answer, "named": row} for answer, row in zip(*both, strict=True)] for name, both in rows.items()}
    (asked.out / f"{asked.suite}.json").write_text(json.dumps(plain(kept), indent=1, allow_nan=False) + "\n")
    print(report(asked.suite, rows))


if __name__ == "__main__":
    main()
