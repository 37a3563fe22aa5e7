"""What saving the state after each step costs: the same steps with it and without, in turns.

    uv run python -m benchmarks.saving [--turns 2] [--steps 5] [--out FILE.json] [--small]

A worker's own denoising loop and its `Saver`, into a home in a temporary folder (`--home`: another), with random
weights of full size: stage 1 (two guidance passes, 4,290 tokens) and stage 2 (one, 17,160). "Between" is the time from
a step's result to the beginning of the next step; it is there without saving, too. Prints Markdown, with medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx

from benchmarks import environment, shapes, tables
from benchmarks.activations import values, weights_of
from benchmarks.shapes import Shapes
from benchmarks.speed_tokens import predictor
from cache.home import open_home
from cache.partial import drop_partial
from weights.architecture import transformer
from workers.channel import EventChannel
from workers.context import Context
from workers.protocol import Item, Job
from workers.sampling.denoise import OnStep, Predict, denoise
from workers.sampling.schedules import stage2_sigmas
from workers.stages.saving import Saver

KEY = "0" * 64


@dataclass(frozen=True)
class Times:
    """Seconds of each step but a loop's first, and from each step to the next."""

    steps: tuple[float, ...]
    between: tuple[float, ...]

    @property
    def whole(self) -> float:
        """From one step's result to the next one's."""
        return statistics.median(self.steps) + statistics.median(self.between)


def loop(predict: Predict, latent: mx.array, steps: int, saver: AbstractContextManager[OnStep]) -> Times:
    """One denoising of so many steps."""
    begun: list[float] = []
    ended: list[float] = []

    def timed(x: mx.array, sigma: float) -> mx.array:
        begun.append(time.monotonic())
        return predict(x, sigma)

    with saver as save:

        def on_step(done: int, total: int, x: mx.array, seconds: float) -> None:
            ended.append(time.monotonic())
            save(done, total, x, seconds)

        denoise(timed, latent, stage2_sigmas(steps), on_step=on_step)
    lengths = [end - start for start, end in zip(begun, ended, strict=True)]
    gaps = [start - end for start, end in zip(begun[1:], ended[:-1], strict=True)]
    return Times(tuple(lengths[1:]), tuple(gaps))


def ignore(done: int, total: int, latent: mx.array, seconds: float) -> None:
    """Saves nothing."""


def measure(predict: Predict, latent: mx.array, folder: Path, turns: int, steps: int) -> tuple[Times, Times, float]:
    """Without saving, with it, and the seconds of one save by itself."""
    home = open_home(folder)
    job = Job("stage2", (Item(KEY, str(folder / "result")),), (), str(home.root))
    context = Context(job, EventChannel(None))
    savers: dict[bool, Callable[[], AbstractContextManager[OnStep]]] = {
        False: lambda: nullcontext(ignore),
        True: lambda: Saver(job, context, job.items[0]),
    }
    found: dict[bool, list[Times]] = {False: [], True: []}
    loop(predict, latent, 2, savers[False]())
    for _ in range(turns):
        for saving, make in savers.items():
            found[saving].append(loop(predict, latent, steps, make()))
    alone = []
    for _ in range(3):
        began = time.monotonic()
        with Saver(job, context, job.items[0]) as save:
            save(1, 1, latent, 0.0)
        alone.append(time.monotonic() - began)
    drop_partial(home, KEY)
    without, with_saving = (
        Times(tuple(x for one in found[kind] for x in one.steps), tuple(x for one in found[kind] for x in one.between))
        for kind in (False, True)
    )
    return without, with_saving, statistics.median(alone)


HEADS = ("", "state", "a step, not saved", "saved", "between, not saved", "saved", "saving costs", "a save by itself")


def cells(name: str, state: int, without: Times, saved: Times, alone: float) -> list[str]:
    more = saved.whole - without.whole
    return [
        name,
        f"{state / 1e6:.1f} MB",
        *(f"{statistics.median(times.steps):.4f} s" for times in (without, saved)),
        *(f"{1000 * statistics.median(times.between):.2f} ms" for times in (without, saved)),
        f"{1000 * more:+.1f} ms ({more / without.whole:+.2%})",
        f"{1000 * alone:.1f} ms",
    ]


def cases(sizes: Shapes) -> Iterator[tuple[str, Predict, mx.array]]:
    config = sizes.transformer
    top, block = weights_of(transformer.top_tensors(config)), weights_of(transformer.block_tensors(config))
    blocks: list[Any] = [dict(block) for _ in range(config.num_layers)]
    for name, grid, passes in (("stage 1", sizes.base, 2), ("stage 2", sizes.twice, 1)):
        tokens = grid[0] * grid[1] * grid[2]
        latent = values(1, tokens, config.in_channels)
        yield f"{name}, {tokens:,} tokens", predictor(config, top, blocks, grid, passes, "ahead", True), latent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=2, help="how often each of the two is done (2)")
    parser.add_argument("--steps", type=int, default=5, help="steps of each (5)")
    parser.add_argument("--home", type=Path, help="a folder on the disk to be measured")
    parser.add_argument("--small", action="store_true", help="a rehearsal with the tiny model's networks")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    sizes = shapes.tiny() if asked.small else shapes.full()
    print(f"{mx.device_info().get('device_name', 'CPU')}, MLX {version('mlx')}, bfloat16, {sizes.name}\n")
    print(tables.head(HEADS))
    rows = []
    with tempfile.TemporaryDirectory(dir=asked.home) as folder:
        for name, predict, latent in cases(sizes):
            without, saved, alone = measure(predict, latent, Path(folder) / "home", asked.turns, asked.steps)
            rows.append({"case": name, "not_saved": asdict(without), "saved": asdict(saved), "alone": alone})
            print(tables.line(cells(name, latent.nbytes, without, saved, alone)), flush=True)
            if asked.out:
                asked.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    environment.enter("benchmarks.saving")
    main()
