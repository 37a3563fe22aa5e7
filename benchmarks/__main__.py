"""All that is measured on a machine with a card, in one run and within a time: the parts of most worth first.

    uv run python -m benchmarks --out DIR --model FOLDER [--minutes 9] [--only speed relay ...] [--reference FOLDER]
    uv run python -m benchmarks --out DIR --small [--only ...]          tiny sizes: does it run? On a CPU too

FOLDER has LTX-2 19B and its Gemma, real or of `benchmarks.random_weights`. DIR/report.md has every part's Markdown and
is there after each part, so that a run that is cut off keeps what it measured; DIR/NAME.json has the numbers. A part
that fails or takes too long is said, and the next one begins; then the exit code is 1.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[1]
_WORTH = 8
"""Seconds below which beginning a part is not worth it."""


@dataclass(frozen=True)
class Part:
    """seconds: that it may take. commands: words after `python -m`. log: what the first of them says is no report."""

    name: str
    seconds: float
    commands: tuple[tuple[str, ...], ...]
    log: bool = False


@dataclass(frozen=True)
class Asked:
    """model: None for tiny sizes, which need no weights."""

    out: Path
    model: Path | None
    reference: Path | None = None

    @property
    def small(self) -> tuple[str, ...]:
        return ("--small",) if self.model is None else ()

    @property
    def homes(self) -> Path:
        return self.out / "homes"


RUN = "the relay's run"
"""Stands for the folder of the run that the part "relay" made."""


def parts(asked: Asked) -> list[Part]:
    """In the order of their worth."""

    def results(name: str) -> tuple[str, str]:
        return "--out", str(asked.out / f"{name}.json")

    reference = ("--reference", str(asked.reference)) if asked.reference else ()
    model = ("--model", str(asked.model)) if asked.model else ("--model", "tiny", "--size", "small")
    relay = ("--out", str(asked.out / "relay"))
    ball = ("orchestrator", "generate", "A red ball bouncing on green grass", "--model", "tiny", "--quiet")
    ball = (*ball, "--home", str(asked.out / "tiny"))
    run = ("benchmarks.full_size", "run", "resident", *model, *relay, "--homes", str(asked.homes))
    growth = ("benchmarks.growth_measured", "--limit-seconds", "95", *results("growth"), *asked.small)
    encoder = ("benchmarks.activations", "--only", "encoder", *results("activations"), *["--quick"] * len(asked.small))
    return [
        Part("speed", 215, (("benchmarks.speed", "--times", "3", *reference, *results("speed"), *asked.small),)),
        Part("tiny", 60, tuple((*ball, "--seed", seed, "--output", str(asked.out / f"{seed}.mp4")) for seed in "12")),
        Part("relay", 140, (run, ("benchmarks.full_size", "table", *relay)), log=True),
        Part("monolith", 95, (("benchmarks.monolith", RUN, *results("monolith")),)),
        Part("split", 90, (("benchmarks.split", RUN, "decode", "--warm", *results("split")),)),
        Part("saving", 60, (("benchmarks.saving", "--turns", "2", *results("saving"), *asked.small),)),
        Part("growth", 110, (growth,)),
        Part("activations", 60, (encoder,)),
        Part("residency", 60, (("benchmarks.residency", RUN, "stage1", "24" if asked.model else "2"),)),
    ]


def measure(part: Part, asked: Asked, seconds: float, report: TextIO) -> str:
    """Runs a part's commands within the seconds, their output into the report; "" or what went wrong."""
    ends = time.monotonic() + min(seconds, part.seconds)
    for index, words in enumerate(part.commands):
        if RUN in words:
            runs = sorted((asked.homes / "resident" / "runs").glob("*"))
            if not runs:
                return "the relay's run is not there"
            words = tuple(str(runs[-1]) if word == RUN else word for word in words)
        began = time.monotonic()
        with open(asked.out / f"{part.name}.log", "a", encoding="utf-8") as log:
            try:
                done = subprocess.run(
                    [sys.executable, "-m", *words],
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log if part.log and index == 0 else report,
                    stderr=log,
                    timeout=max(0.0, ends - began),
                )
            except subprocess.TimeoutExpired:
                return "took too long"
        if done.returncode:
            return f"{words[0]} ended with {done.returncode}, see {part.name}.log"
        report.write(f"\n{words[0]}: {time.monotonic() - began:.2f} s\n")
        report.flush()
    return ""


def run(chosen: Sequence[Part], asked: Asked, seconds: float) -> list[str]:
    """Runs parts until the seconds are over; the names of those that are missing."""
    ends, missing = time.monotonic() + seconds, []
    with (asked.out / "report.md").open("a", encoding="utf-8") as report:
        for part in chosen:
            began = time.monotonic()
            report.write(f"\n## {part.name}\n\n")
            report.flush()
            left = ends - began
            problem = measure(part, asked, left, report) if left > _WORTH else "no time was left"
            missing += [part.name] if problem else []
            line = f"{part.name}: {problem or 'done'}, {time.monotonic() - began:.0f} s"
            report.write(f"\n{line}\n")
            report.flush()
            print(line, file=sys.stderr, flush=True)
    return missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--reference", type=Path, help="folder in which ltx_core lies, if it is not installed")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--only", nargs="+", metavar="PART")
    options = parser.parse_args()
    if options.small == (options.model is not None):
        parser.error("give --model FOLDER, or --small")
    asked = Asked(options.out.resolve(), options.model and options.model.resolve(), options.reference)
    chosen = parts(asked)
    unknown = set(options.only or ()) - {part.name for part in chosen}
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(part.name for part in chosen)}")
    asked.out.mkdir(parents=True, exist_ok=True)
    wanted = [part for part in chosen if not options.only or part.name in options.only]
    raise SystemExit(1 if run(wanted, asked, options.minutes * 60) else 0)


if __name__ == "__main__":
    main()
