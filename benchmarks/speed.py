"""How fast the networks compute, beside the reference and beside what the device's own products reach, in one run.

    uv run python -m benchmarks.speed [--only forward decode] [--out FILE.json] [--reference PYTHONPATH]

Full-size shapes with random weights in bfloat16; the 48 blocks of the transformer are one block's weights 48 times,
which is the same to a GPU, whose cache holds none of them. Where PyTorch and ltx-core 1.0.0 can be imported
(`--reference` adds a folder to look in) `benchmarks.reference` measures the same shapes in a process of its own. Prints
Markdown; each number is the median of several turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx

from benchmarks import flops
from benchmarks.activations import CONTEXT, metadata, quantised, values, weights_of
from weights.architecture import transformer, vae
from weights.architecture.transformer import TransformerConfig
from workers.networks import vae_decoder
from workers.networks.ops import Weights
from workers.networks.pace import Pace, settled
from workers.networks.rope import video_positions
from workers.sampling.guidance import Guidance
from workers.sampling.predictor import make_predictor
from workers.video.vae import decode

Grid = tuple[int, int, int]
BASE, TWICE = (13, 15, 22), (13, 30, 44)
TIMES = 5
TERA = 1e12


@dataclass(frozen=True)
class Row:
    """seconds of ours and of the reference; operations: multiplications and additions."""

    what: str
    seconds: float
    operations: float = 0.0
    reference: float | None = None
    device: float | None = None
    """Operations per second of the device's own product of that kind."""

    @property
    def cells(self) -> list[str]:
        speed = self.operations / self.seconds
        return [
            self.what,
            f"{self.seconds:.4f} s",
            "" if self.reference is None else f"{self.reference:.4f} s",
            "" if self.reference is None else f"{self.seconds / self.reference:.3f}",
            f"{speed / TERA:,.0f}" if self.operations else "",
            f"{speed / self.device:.0%}" if self.operations and self.device else "",
        ]


def seconds(work: Callable[[], object], times: int = TIMES) -> float:
    """Median, after two turns that count for nothing."""
    found = []
    for _ in range(times + 2):
        mx.synchronize()
        began = time.perf_counter()
        work()
        mx.synchronize()
        found.append(time.perf_counter() - began)
    return statistics.median(found[2:])


def products() -> tuple[float, float]:
    """Operations per second of a large matrix product, and of attention over 17,160 tokens."""
    a, b = values(8192, 8192), values(8192, 8192)
    matrix = seconds(lambda: mx.eval([a @ b for _ in range(4)])) / 4
    q = values(1, 32, 17160, 128)
    one = seconds(lambda: mx.eval(mx.fast.scaled_dot_product_attention(q, q, q, scale=128**-0.5)))
    return 2 * 8192**3 / matrix, 4 * 17160**2 * 4096 / one


def stepper(
    config: TransformerConfig, top: Weights, block: Weights, grid: Grid, passes: int, pace: Pace, keep_text: bool
) -> Callable[[], object]:
    """A step as a worker computes it, once it is under way."""
    contexts = [values(1, CONTEXT, config.context_channels) for _ in range(2)]
    blocks = [dict(block) for _ in range(config.num_layers)]
    latent = values(1, grid[0] * grid[1] * grid[2], config.in_channels).astype(mx.float32)
    mx.eval(latent)
    predict = make_predictor(
        config,
        top,
        lambda: blocks,
        contexts[0],
        contexts[1],
        video_positions(grid, 24.0),
        Guidance(cfg=4.0 if passes == 2 else 1.0),
        mx.bfloat16,
        pace=pace,
        keep_text=keep_text,
    )
    return lambda: mx.eval(predict(latent, 0.7))


def measure_forward(reference: Callable[[str, list[str]], dict[str, float]]) -> Iterator[Row]:
    matrix, _ = products()
    cases = [(grid, passes) for grid in (BASE, TWICE) for passes in (1, 2)]
    names = {case: f"{'x'.join(map(str, case[0]))}:{case[1]}" for case in cases}
    theirs = reference("forward", list(names.values()))
    config = TransformerConfig.from_metadata(metadata("ltx-2-19b-dev")["config"])
    top, dense = weights_of(transformer.top_tensors(config)), weights_of(transformer.block_tensors(config))
    forms = {"bf16": dense} | {f"{bits} bits": quantised(dense, bits) for bits in (8, 4)}
    paces: tuple[tuple[Pace, bool, str], ...] = (
        ("ahead", True, "bf16"),
        ("whole", True, "bf16"),
        ("whole", False, "bf16"),
        ("parts", False, "bf16"),
        ("ahead", True, "8 bits"),
        ("ahead", True, "4 bits"),
    )
    for grid, passes in cases:
        tokens = grid[0] * grid[1] * grid[2]
        for pace, keep, form in paces:
            work = stepper(config, top, forms[form], grid, passes, pace, keep)
            kept = ", text kept" if keep else ""
            yield Row(
                f"{tokens} tokens, {passes} pass{'es' * (passes > 1)}, {form}, {pace}{kept}",
                seconds(work),
                passes * flops.forward(config, tokens, keep_text=keep),
                theirs.get(names[grid, passes]),
                matrix,
            )


def measure_decode(reference: Callable[[str, list[str]], dict[str, float]]) -> Iterator[Row]:
    theirs = reference("decode", ["x".join(map(str, TWICE))])
    config = vae.DecoderConfig.from_metadata(metadata("ltx-2-19b-dev")["config"])
    weights = weights_of(vae.decoder_tensors(config), channels_last=True)
    statistics_of = {name: mx.ones(shape, mx.bfloat16) for name, shape in vae.statistics_tensors().items()}
    latent = values(1, 128, *TWICE)

    def network() -> None:
        settled(vae_decoder.decode(weights, config, statistics_of, latent.transpose(0, 2, 3, 4, 1), None, settled))

    def whole() -> None:
        for _ in decode(weights, config, statistics_of, latent, None, mx.bfloat16):
            pass

    yield Row(
        "decode 97 frames of 1408x960, pixels on the card", seconds(network), 0.0, next(iter(theirs.values()), None)
    )
    yield Row("the same, as bytes in memory", seconds(whole, 3))


def references(folder: str | None) -> Callable[[str, list[str]], dict[str, float]]:
    """Asks `benchmarks.reference`; nothing where it cannot run."""
    path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH", "")]))

    def ask(what: str, cases: list[str]) -> dict[str, float]:
        words = [sys.executable, "-m", "benchmarks.reference", what, *cases]
        done = subprocess.run(
            words, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(f"(no reference: {(done.stderr.strip().splitlines() or ['?'])[-1]})\n", file=sys.stderr)
            return {}
        return dict(json.loads(done.stdout.splitlines()[-1]))

    return ask


MEASUREMENTS: dict[str, Any] = {"forward": measure_forward, "decode": measure_decode}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(MEASUREMENTS), nargs="+")
    parser.add_argument("--reference", metavar="FOLDER", help="where ltx_core and einops are, if not installed")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    print(f"{mx.device_info().get('device_name', 'CPU')}, MLX {version('mlx')}, bfloat16\n")
    matrix, attention = products()
    print(f"Matrix products reach {matrix / TERA:,.0f} TFLOP/s, attention {attention / TERA:,.0f}.\n")
    heads = ["", "ours", "reference", "ratio", "TFLOP/s", "of matrix products"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    rows = []
    ask = references(asked.reference)
    for name in asked.only or MEASUREMENTS:
        for row in MEASUREMENTS[name](ask):
            rows.append(row)
            print(f"| {' | '.join(row.cells)} |", flush=True)
        mx.clear_cache()
    if asked.out:
        asked.out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
