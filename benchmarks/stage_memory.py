"""Predicted and measured peak of every worker, at several sizes, through the whole program.

    uv run python -m benchmarks.stage_memory [--model FOLDER] [--out FILE.json] [--case NAME ...]

By default with the bundled tiny model, whose workers are small: what is checked then is what a process takes beside its
arrays, and the activations. Each case has a home of its own, so that no prediction is corrected by what an earlier one
measured. Prints Markdown; a ratio (predicted / measured) from 1.00 to 1.10 is right, below 1 is a mistake of the model.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LONG = "A red ball bounces on green grass while a blue square slides past it, slowly, in the evening. " * 40
CASES: dict[str, tuple[str, ...]] = {
    "draft": ("A red ball", "--preset", "draft"),
    "max": ("A red ball",),
    "long prompt": (LONG, "--preset", "draft", "--steps", "1"),
    "large": ("A red ball", "--height", "384", "--width", "512", "--frames", "49", "--steps-stage1", "2"),
    "long": ("A red ball", "--frames", "121", "--steps-stage1", "2"),
    "4 bits": ("A red ball", "--quantize", "4", "--steps-stage1", "2"),
    "small tiles": ("A red ball", "--tiles", "128x16", "--steps-stage1", "2"),
    "hevc": ("A red ball", "--codec", "hevc", "--steps-stage1", "2"),
    "no guidance, four seeds": ("A red ball", "--cfg", "1", "--seeds", "4", "--steps-stage1", "2"),
}


def run(case: str, model: str) -> list[dict[str, Any]]:
    """The stages of the run's report."""
    with tempfile.TemporaryDirectory() as folder:
        home = ("--home", f"{folder}/home")
        words = ["generate", *CASES[case], "--model", model, "--output", f"{folder}/out.mp4", *home, "--quiet"]
        subprocess.run([sys.executable, "-m", "orchestrator", *words], check=True, stdout=subprocess.DEVNULL)
        words = ["runs", "report", "last", "--json", *home]
        done = subprocess.run([sys.executable, "-m", "orchestrator", *words], check=True, capture_output=True)
        return list(json.loads(done.stdout)["stages"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--case", choices=tuple(CASES), nargs="+")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found = {}
    print("| case | worker | predicted, MB | measured, MB | ratio |\n|---|---|---|---|---|")
    for case in asked.case or CASES:
        found[case] = [stage for stage in run(case, asked.model) if stage["measured"]]
        for stage in found[case]:
            sizes = [f"{stage[name] / 2**20:,.1f}" for name in ("predicted", "measured")]
            print(f"| {case} | {stage['name']} | {' | '.join(sizes)} | {stage['ratio']:.3f} |", flush=True)
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
