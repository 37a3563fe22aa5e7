"""Seconds and peak memory of the networks on the card at hand, over frames and sizes: measured beside predicted.

    uv run python -m benchmarks.growth_measured --out FILE.json [--limit-seconds 120] [--memory 68] [--small]

Steps of stage 1 (two guidance passes) and stage 2 (one) with all 48 blocks of LTX-2 19B in memory (random weights),
held as the plan would hold them in that many GiB, and one tile of the decoder as the plan cuts it. Cheap points come
first; what would not fit the limit by its prediction is left out; the file is written after every point. A step that
would take long is computed with fewer of the blocks, all 48 being in memory: its seconds are multiplied ("blocks" says
by how much), and the text's keys and values of the others, which are missing in its peak, are added.

Prints Markdown. As `benchmarks/growth_measured.json` the file is what `benchmarks.growth` draws beside its predictions.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

import mlx.core as mx

from benchmarks import environment, flops, tables
from benchmarks.activations import exhaust, values, weights_of
from benchmarks.growth_model import GB, H100_PACE, Case, fastest, full_size, plan
from benchmarks.growth_panels import CARD, HEADS, cells
from benchmarks.shapes import TINY
from benchmarks.speed_pictures import statistics as vae_statistics
from benchmarks.speed_tokens import predictor, stepper
from orchestrator.memory import Holding, Work, predict
from orchestrator.memory_backends import CUDA
from orchestrator.memory_tiles import cut
from orchestrator.memory_tokens import kept_text
from tests.orchestrator import memory_machines as machines
from weights.architecture import transformer, vae
from workers.networks.ops import Weights
from workers.video.vae import decode

FRAMES = (25, 49, 97, 161, 257)
SIZES = ((768, 512), (1920, 1080), (2560, 1440), (3840, 2160))
"""Width and height of the finished video; the first list's is the default size."""
LONG = 8.0
"""Seconds that a step may be predicted to take before fewer blocks are computed."""
DECODE_PACE = 0.5 * H100_PACE


@dataclass(frozen=True)
class Point:
    """size: of the finished video. holding: of a denoising stage. expected: seconds of a step or of a tile."""

    size: tuple[int, int]
    frames: int
    stage: str
    work: Work
    holding: Holding
    expected: float

    @property
    def operations(self) -> float:
        if self.stage == "decode":
            return flops.pictures(flops.decoder(self.decoder, self.tile)).total
        done = flops.forward(self.transformer, self.work.result.tokens, keep_text=self.holding.keep_text)
        return self.work.passes * done

    @property
    def transformer(self) -> Any:
        return self.work.networks["transformer"].selection.config

    @property
    def decoder(self) -> Any:
        return self.work.networks["vae_decoder"].selection.config

    @property
    def tile(self) -> flops.Grid:
        assert self.work.tiles is not None
        tile = cut(self.work.result, self.work.tiles).tile
        return tile.frames, tile.height, tile.width

    @property
    def predicted(self) -> int:
        """Bytes at the peak of what is measured here."""
        prediction = predict(self.work, CUDA, self.holding)
        name = "decoding" if self.stage == "decode" else "denoising"
        return prediction.base + next(phase.arrays for phase in prediction.phases if phase.name == name)

    @property
    def blocks(self) -> int:
        """Of a step, to be computed."""
        count = self.work.blocks
        return count if self.expected <= LONG else max(1, int(count * LONG / self.expected))

    @property
    def turns(self) -> tuple[int, int]:
        """That count for nothing, and that count."""
        return (1, 3) if self.expected < 1 else (1, 1) if self.expected < 4 else (0, 1)

    @property
    def cost(self) -> float:
        """Seconds of all turns, predicted with some room."""
        one = self.expected * (self.blocks / self.work.blocks if self.work.blocks else 1)
        return 1.0 + 1.2 * one * sum(self.turns)


def cases(small: bool) -> list[Case]:
    if small:
        return [Case((128, 128), 9), Case((192, 128), 17)]
    return [*(Case(frames=count) for count in FRAMES), *(Case(size) for size in SIZES), Case(SIZES[-1], 257)]


def points(folder: Path, wanted: Sequence[Case], memory: float) -> Iterator[Point]:
    """Of all cases, the cheap ones first."""
    found = []
    for case in wanted:
        stages = plan(folder, case, machines.H100)
        for name in ("stage1", "stage2", "decode"):
            work = stages[name].work
            holding = stages[name].holding if name == "decode" else fastest(work, memory)
            if holding is None:
                continue
            point = Point(case.size, case.frames, name, work, holding, 0.0)
            pace = DECODE_PACE if name == "decode" else H100_PACE
            found.append(replace(point, expected=point.operations / pace))
    return iter(sorted(found, key=lambda point: point.cost))


def turn(work: Callable[[], object], idle: int, times: int) -> tuple[float, int]:
    """Seconds (median), and the bytes that were alive at most."""
    found = []
    peak = 0
    mx.clear_cache()  # of another size; between turns it stays, as new memory is slow
    for _ in range(idle + times):
        mx.synchronize()
        mx.reset_peak_memory()
        began = time.perf_counter()
        work()
        mx.synchronize()
        found.append(time.perf_counter() - began)
        peak = int(mx.get_peak_memory())
    return statistics.median(found[idle:]), peak


class Networks:
    """Random weights: of the transformer while it is used, then of the decoder."""

    def __init__(self) -> None:
        self._top: Weights = {}
        self._blocks: list[Weights] = []
        self._decoder: Weights = {}

    def step(self, point: Point) -> tuple[float, int]:
        """Seconds of a whole step, and its peak with all weights."""
        config, shape = point.transformer, point.work.result
        if not self._blocks:
            self._decoder = {}
            self._top = weights_of(transformer.top_tensors(config))
            self._blocks = [weights_of(transformer.block_tensors(config)) for _ in range(config.num_layers)]
        some, grid = replace(config, num_layers=point.blocks), (shape.frames, shape.height, shape.width)
        keep, passes = point.holding.keep_text, point.work.passes
        make = predictor(some, self._top, self._blocks[: point.blocks], grid, passes, point.holding.pace, keep)
        seconds, peak = turn(stepper(make, some, grid), *point.turns)
        share = point.blocks / config.num_layers
        kept = kept_text(config, point.work.prompts, "bfloat16", keep) if keep else 0
        return seconds / share, peak + int(kept * (1 - share))

    def tile(self, point: Point) -> tuple[float, int]:
        """Seconds of one tile, with its pixels brought to the host, and its peak."""
        self._top, self._blocks = {}, []
        if not self._decoder:
            mx.clear_cache()
            self._decoder = weights_of(vae.decoder_tensors(point.decoder), channels_last=True)
        latent = values(1, point.decoder.latent_channels, *point.tile)
        work = partial(exhaust, decode, self._decoder, point.decoder, vae_statistics(), latent, None, mx.bfloat16)
        return turn(work, *point.turns)


def held(point: Point) -> str:
    if point.stage == "decode":
        return "x".join(map(str, point.tile))
    return point.holding.pace + (", text kept" if point.holding.keep_text else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit-seconds", type=float, default=120.0)
    parser.add_argument("--memory", type=float, default=CARD, help=f"GiB that MLX may take ({CARD:g})")
    parser.add_argument("--small", action="store_true", help="a rehearsal with the tiny model's networks")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    began = time.monotonic()
    folder = TINY if asked.small else full_size()
    mx.set_memory_limit(int(asked.memory * GB))
    device = f"{mx.device_info().get('device_name', 'CPU')}, MLX {version('mlx')}, bfloat16"
    print(f"{device}\n\n{tables.head(HEADS)}")
    rows: list[dict[str, Any]] = []
    left: list[str] = []
    networks = Networks()
    found = list(points(folder, cases(asked.small), asked.memory))
    for point in sorted(found, key=lambda point: point.stage == "decode"):
        if time.monotonic() - began + point.cost > asked.limit_seconds:
            left.append(f"{point.size[0]}x{point.size[1]}, {point.frames} frames, {point.stage}")
            continue
        seconds, peak = networks.tile(point) if point.stage == "decode" else networks.step(point)
        rows.append(
            {
                **{name: getattr(point, name) for name in ("size", "frames", "stage", "expected", "operations")},
                "tokens": prod(point.tile) if point.stage == "decode" else point.work.result.tokens,
                "tiles": cut(point.work.result, point.work.tiles).count if point.work.tiles else 0,
                "held": held(point),
                "holding": asdict(point.holding),
                "blocks": point.blocks,
                "all_blocks": point.work.blocks,
                "seconds": seconds,
                "peak": peak,
                "predicted": point.predicted,
            }
        )
        print(tables.line(cells(rows[-1])), flush=True)
        asked.out.write_text(
            json.dumps({"device": device, "memory": asked.memory, "points": rows}, indent=1) + "\n", encoding="utf-8"
        )
    if left:
        print(f"\nLeft out, as it would have taken too long: {'; '.join(left)}.")


if __name__ == "__main__":
    environment.enter("benchmarks.growth_measured")
    main()
