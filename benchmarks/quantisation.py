"""What quantised weights cost in exactness: per weight, per block, per forward, and for a whole run.

    uv run python -m benchmarks.quantisation FOLDER [--prompts 3]

Against the same model with its weights as they are stored (bf16), everything computed in float32 on a CPU. Relative
error is |a - b| / |b| over all values. Block: one full-size block of LTX-2 19B with normally distributed weights. The
others: the bundled tiny model, forwards at four noise levels, and videos of `--preset two-stage` through the workers
(15 + 3 steps, CFG 5, lossless), whose stage 2 has the distilled LoRA on it; to compare with, the same weights computed
in bf16 too. Prints Markdown; files stay in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import av
import mlx.core as mx
import numpy as np

from benchmarks.streaming import Step, config_of
from weights import fp8
from weights.architecture.transformer import BLOCKS, block_tensors
from weights.header import read_header
from weights.quantize import dense, quantise
from weights.quantize_names import layer, quantisable
from weights.select import select
from weights.stream import BlockStream, read_whole
from weights.stream_form import Block, Form
from weights.tiny_model import tiny_folder
from workers.networks import transformer
from workers.networks.modulation import Timesteps
from workers.networks.rope import video_positions

TINY = tiny_folder() / "ltx-2-tiny-dev.safetensors"
PROMPTS = (
    "A red ball bouncing on green grass",
    "A blue square moving to the left on a white background",
    "A yellow triangle growing on a dark background",
)
SIGMAS = (1.0, 0.9, 0.6, 0.2)
VARIANTS = ("--quantize 8", "--quantize 4", "8-bit file", "4-bit file", "fp8 file")
Weights = Mapping[str, mx.array]


def relative(found: Any, expected: Any) -> float:
    a, b = (np.asarray(x, np.float64) for x in (found, expected))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def compact(name: str, array: mx.array, form: str) -> Weights:
    """A weight in one of the forms."""
    if form == "fp8":
        codes, scale = fp8.encode(array)
        return {name: codes, f"{name}_scale": scale}
    made = quantise(array, int(form), dtype=mx.float32)
    return {name: made.packed, f"{layer(name)}.scales": made.scales, f"{layer(name)}.biases": made.biases}


# -- one full-size block -----------------------------------------------------------------------------------------------


def full_size_block(tokens: int = 96) -> dict[str, tuple[float, float]]:
    """form -> (error of the weights, error of the block's output without its residual)."""
    config, random = config_of(1, 4096), np.random.default_rng(7)
    weights: dict[str, mx.array] = {}
    for name, shape in block_tensors(config).items():
        scale = shape[-1] ** -0.5 if len(shape) == 2 and not name.endswith("table") else 0.3
        values = random.standard_normal(shape).astype(np.float32) * np.float32(scale)
        weights[name] = (
            mx.array(values + np.float32(name.endswith("norm.weight"))).astype(mx.bfloat16).astype(mx.float32)
        )
    step = Step(config, tokens, mx.float32)
    x = mx.array(random.standard_normal((1, step.tokens, 4096)).astype(np.float32))
    condition = transformer.conditions(
        config, step.top, (transformer.Tokens(step.latent, Timesteps.uniform(0.7), 0.7),)
    )

    def output(held: Weights) -> np.ndarray:
        (y,) = transformer.block(config, held, 0, step.run, condition, step.passes[0], (x,))
        return np.array(y - x)

    exact, found = output(weights), {}
    for form in ("8", "4", "fp8"):
        held = dict(weights)
        errors = []
        for name, array in weights.items():
            if quantisable(name, array.shape):
                held |= compact(name, array, form)
                errors.append(relative(dense(held, layer(name), array.shape[1], mx.float32), array))
        found[form] = (float(np.mean(errors)), relative(output(held), exact))
    return found


# -- forwards of the tiny model ----------------------------------------------------------------------------------------


def forwards(paths: Mapping[str, Path], contexts: list[np.ndarray]) -> dict[str, dict[float, float]]:
    """variant -> sigma -> mean error of the predicted velocity over the prompts."""
    grid = (4, 4, 6)
    random = np.random.default_rng(3)
    latents = [random.standard_normal((1, int(np.prod(grid)), 128)).astype(np.float32) for _ in contexts]

    def velocities(path: Path, bits: int | None) -> list[np.ndarray]:
        selection, form = select(path, "transformer"), Form(mx.float32, bits)
        config = selection.config
        top = read_whole(Block(selection.outside(BLOCKS)), form)
        blocks = [Block(selection.within(f"{BLOCKS}{index}.")) for index in range(config.num_layers)]
        run, found = transformer.streams(config, video_positions(grid, 24.0), mx.float32), []
        with BlockStream(blocks, form, resident=len(blocks)) as stream:
            for context, latent in zip(contexts, latents, strict=True):
                prompt = transformer.prepare_prompt(config, top, (mx.array(context),), mx.float32)
                for sigma in SIGMAS:
                    tokens = (transformer.Tokens(mx.array(latent), Timesteps.uniform(sigma), sigma),)
                    ((y,),) = transformer.velocity(config, top, stream(), run, [transformer.Pass(prompt)], tokens)
                    found.append(np.array(y))
        return found

    exact = velocities(TINY, None)
    errors = {}
    for name in VARIANTS:
        made = velocities(paths.get(name, TINY), int(name[-1]) if name.startswith("--") else None)
        each = [relative(one, other) for one, other in zip(made, exact, strict=True)]
        errors[name] = {sigma: float(np.mean(each[index :: len(SIGMAS)])) for index, sigma in enumerate(SIGMAS)}
    return errors


# -- whole runs --------------------------------------------------------------------------------------------------------


def generate(folder: Path, prompt: str, name: str, more: list[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """(stage -> latent, frames) of a finished run; stage "text" has the context."""
    video = folder / f"{name}.mkv"
    words = ["generate", prompt, "--model", "tiny", "--preset", "two-stage", "--codec", "ffv1", "--overwrite", "--json"]
    command = [
        sys.executable,
        "-m",
        "orchestrator",
        *words,
        "--home",
        str(folder / "home"),
        "--output",
        str(video),
        *more,
    ]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    run = json.loads(lines[-1])["run"]
    state = json.loads((folder / "home" / "runs" / run / "state.json").read_text())
    latents = {}
    for stage in ("text", "stage1", "stage2"):
        tensors = mx.load(state["stages"][stage]["artifacts"][0], format="safetensors")
        latents[stage] = np.array(tensors["positive" if stage == "text" else "video"].astype(mx.float32))
    with av.open(str(video)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    return latents, frames.astype(np.float64)


def compact_tiny(folder: Path) -> dict[str, Path]:
    """The tiny checkpoint in 8 and 4 bits, as the program writes it, and in 8-bit floats."""
    paths = {}
    for bits in (8, 4):
        paths[f"{bits}-bit file"] = folder / f"ltx-2-tiny-dev-{bits}bit.safetensors"
        words = ["weights", "quantize", str(TINY), "--bits", str(bits), "-o", str(paths[f"{bits}-bit file"])]
        subprocess.run([sys.executable, "-m", "orchestrator", *words, "--overwrite", "--quiet"], check=True, stdout=-3)
    arrays = mx.load(str(TINY), format="safetensors")
    for name in [
        name
        for name in arrays
        if f".{BLOCKS}" in name and quantisable(name.split(BLOCKS)[1].split(".", 1)[1], arrays[name].shape)
    ]:
        arrays |= compact(name, arrays[name], "fp8")
    paths["fp8 file"] = folder / "ltx-2-tiny-dev-fp8.safetensors"
    write(paths["fp8 file"], arrays, read_header(TINY).metadata)
    return paths


def write(path: Path, arrays: Weights, metadata: Mapping[str, str]) -> None:
    kinds = {mx.float32: "F32", mx.bfloat16: "BF16", mx.uint8: "F8_E4M3"}
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        header[name] = {"dtype": kinds[array.dtype], "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            file.write(np.array(array.view(mx.uint16) if array.dtype == mx.bfloat16 else array).tobytes())


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-12, np.mean((one - other) ** 2))))


def table(title: str, columns: list[str], rows: Mapping[str, list[str]]) -> None:
    print(f"\n{title}\n\n| " + " | ".join(["", *columns]) + " |\n" + "| --- " * (len(columns) + 1) + "|")
    for name, cells in rows.items():
        print("| " + " | ".join([name, *cells]) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompts", type=int, default=len(PROMPTS))
    asked = parser.parse_args()
    folder, prompts = asked.folder.absolute(), PROMPTS[: asked.prompts]
    folder.mkdir(parents=True, exist_ok=True)
    percent: Callable[[float], str] = lambda value: f"{100 * value:.2f}%"  # noqa: E731
    blocks = full_size_block()
    table("One full-size block", ["weights", "output"], {form: [*map(percent, pair)] for form, pair in blocks.items()})
    paths = compact_tiny(folder)
    runs: dict[str, list[tuple[dict[str, np.ndarray], np.ndarray]]] = {"exact": []}
    runs["exact"] = [generate(folder, prompt, f"exact-{index}", []) for index, prompt in enumerate(prompts)]
    errors = forwards(paths, [latents["text"] for latents, _ in runs["exact"]])
    columns = [f"sigma {sigma:g}" for sigma in SIGMAS]
    table("A forward of the tiny model", columns, {k: [percent(e[s]) for s in SIGMAS] for k, e in errors.items()})
    rows = {}
    for name in (*VARIANTS, "--dtype bfloat16"):
        more = name.split() if name.startswith("--") else ["--weights", str(paths[name])]
        made = [generate(folder, p, f"{name.strip('-')}-{i}".replace(" ", "-"), more) for i, p in enumerate(prompts)]
        pairs = list(zip(made, runs["exact"], strict=True))
        stages = [np.mean([relative(a[0][s], b[0][s]) for a, b in pairs]) for s in ("stage1", "stage2")]
        rows[name] = [*map(percent, stages), f"{np.mean([psnr(a[1], b[1]) for a, b in pairs]):.1f} dB"]
    table("A whole run of the tiny model", ["latent of stage 1", "latent of stage 2", "frames"], rows)


if __name__ == "__main__":
    main()
