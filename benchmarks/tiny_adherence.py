"""Does the bundled tiny model do what prompts say, when it is run as people run it?

    python -m benchmarks.tiny_adherence --out DIR [--runs two-stage max] [--prompts 96] [--renders 64]

Runs `ltx-relay generate` on prompts whose combination of shape, colour, motion and background no network has seen, one
seed each, decodes the lossless video files, and measures what can be seen in them (`training.world.measure`: pixels, no
learned judge). `--renders` measures real renderings first: with their own prompts that is the ceiling of what can be
measured, with other prompts its floor. Prints a Markdown table; DIR/results.json has every prompt's answers, and
DIR/RUN.png frames of the first 24. The videos stay in DIR, so that an interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from training.world import captions, scenes
from training.world.captions import Combination
from training.world.measure import Measurement, measure, summarise

RUNS = {
    "draft": ("--preset", "draft"),
    "dev": ("--preset", "dev", "--steps", "15", "--cfg", "5"),
    "dev-cfg1": ("--preset", "dev", "--steps", "15", "--cfg", "1"),
    "two-stage": ("--preset", "two-stage"),
    "two-stage-distilled": ("--preset", "two-stage", "--model-variant", "distilled"),
    "max": ("--preset", "max"),
}
"""The flags of each run; the tiny model's own size and length apply."""
_COLUMNS = ("visible", "colour", "background", "motion", "direction", "shape", "colour+background+motion")

Video = npt.NDArray[np.float32]


def read_video(path: Path) -> Video:
    """All frames of a lossless RGB file, `[frames, height, width, 3]` in [0, 1]."""
    with av.open(f"file:{path}") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames).astype(np.float32) / np.float32(255)


def generate(command: Sequence[str], prompt: str, seed: int, flags: Sequence[str], home: Path, path: Path) -> float:
    """Makes one video through the command line; the seconds that took."""
    started = time.time()
    wanted = ["--model", "tiny", "--seed", str(seed), *flags]
    where = ["--codec", "ffv1", "--output", str(path), "--home", str(home), "--quiet"]
    ended = subprocess.run([*command, "generate", prompt, *wanted, *where], capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"{prompt!r} ended with exit code {ended.returncode}:\n{ended.stderr or ended.stdout}")
    return time.time() - started


def render_rows(count: int, seed: int = 11) -> dict[str, dict[str, float]]:
    """The ceiling and the floor, from renderings of held-out combinations at 256x384, 25 frames."""
    rng = np.random.default_rng(seed)
    unseen = captions.all_combinations(held_out=True)
    chosen = np.array([unseen[index] for index in rng.integers(len(unseen), size=count)])
    drawn = scenes.sample_scenes(chosen, (256, 384), lambda n, k: rng.random((n, k), dtype=np.float32))
    named = [Combination(*(int(value) for value in row)) for row in chosen]
    others = named[-7:] + named[:-7]
    right, wrong = [], []
    for index in range(count):
        video = (scenes.render(drawn[index : index + 1], 256, 384, 25, 24.0)[0].transpose(1, 2, 3, 0) + 1) / 2
        right.append(measure(video, named[index]))
        wrong.append(measure(video, others[index]))
    return {
        f"real renders ({count}; ceiling)": summarise(right, named),
        f"real renders, wrong prompts ({count}; floor)": summarise(wrong, others),
    }


def run_row(
    name: str, command: Sequence[str], prompts: Sequence[tuple[Combination, str]], out: Path
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """One run of all prompts: its row of the table, and every prompt's answers."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Measurement] = []
    details: list[dict[str, Any]] = []
    pictures: list[Video] = []
    for seed, (combination, prompt) in enumerate(prompts):
        path = folder / f"{seed:03d}.mkv"
        seconds = generate(command, prompt, seed, RUNS[name], out / "home", path)
        video = read_video(path)
        found.append(measure(video, combination))
        details.append({"prompt": prompt, "seed": seed, "seconds": round(seconds, 2), **dataclasses.asdict(found[-1])})
        if len(pictures) < 24:
            pictures.append(video[:: (len(video) - 1) // 3][:4])
        print(f"{name} {seed + 1}/{len(prompts)} {seconds:.1f} s  {prompt}", file=sys.stderr)
    save_sheet(pictures, out / f"{name}.png")
    return summarise(found, [combination for combination, _ in prompts]), details


def save_sheet(videos: Sequence[Video], path: Path, columns: int = 2) -> None:
    """Videos of four frames as rows of a picture, in columns."""
    rows = [np.concatenate(list(video), axis=1) for video in videos]
    rows += [np.zeros_like(rows[0])] * (-len(rows) % columns)
    lines = [np.concatenate(rows[start : start + columns], axis=1) for start in range(0, len(rows), columns)]
    pixels = np.round(np.concatenate(lines) * 255).astype(np.uint8)
    av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").save(path)


def as_markdown(rows: dict[str, dict[str, float]]) -> str:
    """The table, and the shapes by kind below it."""
    lines = [f"| | {' | '.join(_COLUMNS)} |", "| --- |" + " --- |" * len(_COLUMNS)]
    for name, row in rows.items():
        lines.append(f"| {name} | {' | '.join(f'{row[column]:.2f}' for column in _COLUMNS)} |")
    lines.append("")
    for name, row in rows.items():
        kinds = [
            f"{column.removeprefix('shape of ')} {row[column]:.2f}" for column in row if column.startswith("shape of")
        ]
        lines.append(f"Shapes, {name}: {', '.join(kinds)}.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", nargs="*", choices=RUNS, default=["two-stage", "max"])
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--renders", type=int, default=64)
    parser.add_argument("--command", default=str(Path(sys.executable).with_name("ltx-relay")), help="the program")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    rows = render_rows(options.renders) if options.renders else {}
    answers: dict[str, list[dict[str, Any]]] = {}
    prompts = captions.held_out_prompts(options.prompts)
    for name in options.runs:
        rows[f"{name} ({len(prompts)})"], answers[name] = run_row(
            name, shlex.split(options.command), prompts, options.out
        )
    (options.out / "results.json").write_text(json.dumps({"rows": rows, "answers": answers}, indent=1))
    print(as_markdown(rows))


if __name__ == "__main__":
    main()
