"""Seconds and memory of a full-size run, from operations, published figures and the memory plan.

Memory is what the plan predicts. Seconds on an H100 follow from the transformer's operations at the pace that was
measured there, plus what each worker took beside its steps; seconds on a Mac from `benchmarks.macs`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import flops, macs
from orchestrator.effort import effort
from orchestrator.memory import Holding, Work, predict
from orchestrator.memory_backends import CUDA
from orchestrator.memory_plan import StageMemory
from orchestrator.recipe import Recipe
from tests.orchestrator import memory_machines as machines
from weights.architecture.transformer import BLOCKS

GB, TERA = 1 << 30, 1e12
# One NVIDIA H100, MLX 0.32.4; benchmarks/README.md and docs/memory.md have the conditions.
H100_PACE = 570 * TERA
"""Operations a second of the transformer, when workers used CUDA graphs: 559 at 4,290 tokens (two passes), 579 at
17,160. Without them 574 and 597 (benchmarks/README.md); no whole run was measured so."""
H100_BESIDE = {"stage1": 5.4, "stage2": 6.2, "temporal": 0.8}
"""Seconds of a worker beside its steps: start, loading from the page cache, saving."""
H100_TEMPORAL = 0.29 / 17_160
H100_DECODE = 4.6e-8
"""Seconds for a token of the upscaled latent; for a pixel, decoding and H.264 together."""
MEASURED: Mapping[tuple[tuple[int, int], int, int, int], dict[str, float]] = {
    ((1408, 960), 97, 15, 3): {"stage1": 11.4, "stage2": 9.5, "temporal": 1.1, "decode": 11.7},
    ((3840, 2160), 97, 1, 1): {"stage1": 8.1, "stage2": 25.8, "temporal": 2.6, "decode": 75.5},
}
"""Seconds by (size, frames, steps of both stages). The 4K run had a budget of 16 GB, the other all blocks in memory."""
STREAMED_MEASURED = {"stage1": 2.1, "stage2": 4.3}
"""GiB on the card for 97 frames of 1408x960, all blocks streamed."""
COMPUTED = ("stage1", "stage2", "temporal", "decode")


@dataclass(frozen=True)
class Case:
    """A video that could be asked for. size: width and height of the finished one."""

    size: tuple[int, int] = (1408, 960)
    frames: int = 97
    steps1: int = 15
    steps2: int = 3

    def recipe(self, folder: Path) -> Recipe:
        asked = {"size": self.size, "frames": self.frames}
        return machines.recipe_for(folder, **asked, steps_stage1=self.steps1, steps_stage2=self.steps2)


def full_size() -> Path:
    """The official files' headers, with nothing behind them."""
    return machines.write_full_size(Path(tempfile.mkdtemp(prefix="growth-")))


def plan(folder: Path, case: Case, machine: Any) -> Mapping[str, StageMemory]:
    _, stages, _ = machines.planned(folder, case.recipe(folder), machine, available=machine.memory / GB)
    return stages


def mac(memory: int) -> Any:
    return machines.machine("metal", memory, working_set=macs.working_set(memory))


RESIDENT = Holding(keep_text=True)
STREAMED = Holding(0, prefetch=1)
LEAST = Holding(0, prefetch=0, pace="parts", spare=True)
ALL_IN_MEMORY = (Holding(pace="ahead", keep_text=True), Holding(keep_text=True), Holding(), Holding(pace="parts"))
"""Ways of keeping all blocks in memory, the fastest first."""


def fastest(work: Work, memory: float) -> Holding | None:
    """How a denoising stage is held on an H100 of which it may have so many GiB; None: not with all blocks."""
    return next((one for one in ALL_IN_MEMORY if peak(work, CUDA, one) <= memory), None)


def peak(work: Work, backend: Any, holding: Holding) -> float:
    """GiB of a denoising stage held so: all blocks in memory; all streamed, one ahead; the least that works."""
    return predict(work, backend, holding).peak / GB


def pass_operations(work: Work) -> float:
    config = work.networks["transformer"].selection.config
    return flops.forward(config, work.result.tokens, keep_text=True)


def block_bytes(work: Work) -> int:
    """Of all blocks, as stored."""
    return work.networks["transformer"].selection.within(BLOCKS).bytes


def h100_seconds(case: Case, stages: Mapping[str, StageMemory]) -> dict[str, float]:
    """Of each worker but text, with everything in memory."""
    found = {}
    for name in ("stage1", "stage2"):
        work = stages[name].work
        found[name] = H100_BESIDE[name] + work.steps * work.passes * pass_operations(work) / H100_PACE
    found["temporal"] = H100_BESIDE["temporal"] + stages["temporal"].work.before.tokens * H100_TEMPORAL
    width, height = case.size
    found["decode"] = (2 * case.frames - 1) * width * height * H100_DECODE
    return found


def mac_seconds(chip: macs.Chip, case: Case, stages: Mapping[str, StageMemory]) -> dict[str, float] | None:
    """Of each worker; None where the plan does not fit."""
    if not all(memory.fits for memory in stages.values()):
        return None
    gemma = stages["text"].work.networks["gemma"].selection.bytes
    found = {"text": gemma / chip.disk}
    for name in ("stage1", "stage2"):
        memory = stages[name]
        work, size = memory.work, block_bytes(memory.work)
        step, _ = macs.step_seconds(chip, work.passes * pass_operations(work), size, memory.streamed)
        found[name] = size * (1 - memory.streamed) / chip.disk + work.steps * step
    vae = chip.peak * chip.efficiency / 2
    found["temporal"] = 2 * effort(stages["temporal"].work) / vae
    width, height = case.size
    pixels = (2 * case.frames - 1) * width * height
    found["decode"] = 2 * effort(stages["decode"].work) / vae + pixels * macs.ENCODING
    return {**found, "starting": macs.STARTING}
