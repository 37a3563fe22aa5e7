"""The whole training, stage after stage: about 23 minutes on one H100.

    python -m training.pipeline --out DIR [--smoke]

Each stage is a program of its own, which can be run again alone with the commands that this prints. DIR/release is what
ships. --smoke runs all of it on tiny clips for a few seconds a stage, on a CPU too: its model is useless.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path


def commands(out: Path, *, smoke: bool) -> list[list[str]]:
    """Every stage's module and arguments, in order."""
    vae, tokenizer = f"{out}/vae/vae.safetensors", f"{out}/gemma-tiny/tokenizer.json"
    text, transformer = f"{out}/joint/text.safetensors", f"{out}/refined/transformer.safetensors"
    inputs = ["--vae", vae, "--tokenizer", tokenizer]
    models = [*inputs, "--text", text, "--transformer", transformer, "--lora", f"{out}/distilled/lora.safetensors"]
    models += ["--spatial", f"{out}/upsamplers/spatial.safetensors"]
    models += ["--temporal", f"{out}/upsamplers/temporal.safetensors"]
    trial = ["--smoke"] if smoke else []
    few = ["--prompts", "2", "--renders", "2"] if smoke else []
    return [
        ["tokenizer", f"{out}/gemma-tiny"],
        ["train_vae", "--out", f"{out}/vae", *trial],
        ["train_transformer", *inputs, "--out", f"{out}/joint", *trial],
        ["refine", *inputs, "--init", f"{out}/joint", "--out", f"{out}/refined", *trial],
        ["distil", *inputs, "--text", text, "--transformer", transformer, "--out", f"{out}/distilled", *trial],
        ["train_upsamplers", "--vae", vae, "--out", f"{out}/upsamplers", *trial],
        ["evaluate", *models, "--out", f"{out}/evaluation", *few],
        ["export", *models, "--out", f"{out}/release"],
        ["check_files", f"{out}/release", "--png", f"{out}/release.png"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    for module, *arguments in commands(options.out, smoke=options.smoke):
        print(f"\n$ python -m training.{module} {shlex.join(arguments)}", flush=True)
        subprocess.run([sys.executable, "-m", f"training.{module}", *arguments], check=True)


if __name__ == "__main__":
    main()
