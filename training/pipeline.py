"""The whole training, stage after stage, in as many calls as it takes.

    python -m training.pipeline --out DIR [--minutes 9.5] [--smoke]

Each stage is a program of its own, which can be run again alone with the commands that this prints. What is finished in
DIR is not made again: with --minutes it stops before they are over, and the same command goes on (exit code 0 when all
is done, 3 while something is left). DIR/release is what ships. --smoke runs all of it on tiny clips for a few seconds
a stage, on a CPU too: its model is useless.
"""

from __future__ import annotations

import argparse
import math
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stage:
    """result: the file in the output folder that says it is finished. seconds: that it needs at least, on one H100.

    pieces: it can stop and go on; then `seconds` is what it needs beside its training.
    """

    module: str
    arguments: tuple[str, ...]
    result: str
    seconds: float = 30
    pieces: bool = False


def stages(out: Path) -> list[Stage]:
    """Every stage, in order."""
    vae, tokenizer = f"{out}/vae/vae.safetensors", f"{out}/gemma-tiny/tokenizer.json"
    text, transformer = f"{out}/joint/text.safetensors", f"{out}/refined/transformer.safetensors"
    lora = f"{out}/distilled/lora.safetensors"
    inputs = ("--vae", vae, "--tokenizer", tokenizer)
    models = ("--text", text, "--transformer", transformer)
    upsamplers = (f"{out}/upsamplers/spatial.safetensors", f"{out}/upsamplers/temporal.safetensors")
    made = (*inputs, *models, "--lora", lora, "--spatial", upsamplers[0], "--temporal", upsamplers[1])
    return [
        Stage("tokenizer", (f"{out}/gemma-tiny",), tokenizer),
        Stage("train_vae", ("--out", f"{out}/vae"), vae, 110, pieces=True),
        Stage("train_transformer", (*inputs, "--out", f"{out}/joint"), text, 300),
        Stage("refine", (*inputs, "--init", f"{out}/joint", "--out", f"{out}/refined"), transformer, 150, pieces=True),
        Stage("distil", (*inputs, *models, "--out", f"{out}/distilled"), lora, 260),
        Stage("train_upsamplers", ("--vae", vae, "--out", f"{out}/upsamplers"), upsamplers[1], 440),
        Stage("export", (*made, "--out", f"{out}/release"), f"{out}/release/ltx-2-tiny-dev.safetensors"),
        Stage("check_files", (f"{out}/release", "--png", f"{out}/release.png"), f"{out}/release.png"),
    ]


def command(stage: Stage, left: float, *, smoke: bool) -> list[str] | None:
    """How to run a stage in the seconds that are left; None if they are too few."""
    trains = stage.module.startswith(("train", "refine", "distil"))
    words = [stage.module, *stage.arguments]
    if smoke:
        return [*words, "--smoke"] if trains else words
    spare = left - stage.seconds
    if spare < (30 if stage.pieces else 0):
        return None
    return [*words, "--piece", f"{spare:.0f}"] if stage.pieces and math.isfinite(spare) else words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=math.inf, help="that it may take; default: all that it needs")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    ends = time.time() + options.minutes * 60
    for stage in stages(options.out):
        if Path(stage.result).exists():
            continue
        words = command(stage, ends - time.time(), smoke=options.smoke)
        if words is not None:
            print(f"\n$ python -m training.{shlex.join(words)}", flush=True)
            subprocess.run([sys.executable, "-m", f"training.{words[0]}", *words[1:]], check=True)
        if not Path(stage.result).exists():
            print(f"\n{stage.module} is not finished: the same command goes on", flush=True)
            raise SystemExit(3)


if __name__ == "__main__":
    main()
