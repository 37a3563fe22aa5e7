"""The choice that a plan is: how each stage's weights are held, so that it is fastest within the budget.

Pure. The fastest way that fits has as many transformer blocks in memory as there is room for; the others come from the
disk at each step. Where nothing fits, the prediction is that of the most frugal way, and `fits` is false.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.memory import Holding, Pace, Prediction, Work, host_bytes, predict
from orchestrator.memory_backends import Backend
from orchestrator.memory_budget import Budget
from orchestrator.memory_tiles import Tiles, choose, cut, smaller
from orchestrator.memory_video import MOST_VALUES, decoder_values
from workers.protocol import Limits

_TOO_LARGE = 1 << 60


@dataclass(frozen=True)
class StageMemory:
    """What a stage is predicted to take. `expected`: the prediction, corrected by what earlier runs measured."""

    work: Work
    prediction: Prediction
    expected: int
    budget: Budget

    @property
    def fits(self) -> bool:
        return self.expected <= self.budget.bytes

    @property
    def holding(self) -> Holding:
        return self.prediction.holding

    @property
    def streamed(self) -> float:
        """Share of the transformer's blocks that come from the disk at each step."""
        kept = self.holding.resident_blocks
        return 0.0 if kept is None or not self.work.blocks else 1 - kept / self.work.blocks

    def limits(self, backend: Backend) -> Limits:
        """MLX's own limits: within the budget, less what is not MLX's; on Metal the weights stay wired.

        On a card the cache may take what is left: MLX gives it back before the memory limit, and new memory is slow.
        """
        memory = max(self.budget.bytes - self.prediction.base, self.prediction.arrays)
        cache = 0 if self.holding.spare else backend.cache
        if backend.on_card and cache:
            cache = max(cache, memory - self.prediction.arrays)
        wired = self.prediction.largest.weights if backend.name == "metal" else None
        return Limits(memory=memory, cache=cache, wired=wired)

    def to_dict(self) -> dict[str, Any]:
        """For plans, records and reports; bytes."""
        largest = self.prediction.largest
        return {
            "predicted": self.expected,
            "budget": self.budget.bytes,
            "fits": self.fits,
            "phase": largest.name,
            "weights": largest.weights,
            "activations": largest.activations,
            "kept": largest.kept,
            "holding": holding_words(self.work, self.holding),
            "resident_blocks": self.holding.resident_blocks,
            "blocks": self.work.blocks,
            "tiles": None if self.work.tiles is None else self.work.tiles.as_params(),
            "tile_count": None if self.work.tiles is None else cut(self.work.result, self.work.tiles).count,
        }


def stage_memory(work: Work, backend: Backend, limit: Budget, ratio: float = 1.0) -> StageMemory:
    """The fastest holding whose peak, times `ratio` (calibration), is within the budget; else the most frugal one."""

    def made(holding: Holding) -> StageMemory:
        prediction = predict(work, backend, holding)
        return StageMemory(work, prediction, int(prediction.peak * ratio), limit)

    if not work.blocks:
        everything = made(Holding())
        return everything if everything.fits else made(Holding(spare=True))
    for holding in (Holding(pace="ahead", keep_text=True), Holding(keep_text=True), Holding()):
        if (holding.pace != "ahead" or backend.ahead_units) and made(holding).fits:
            return made(holding)
    pace: Pace = "parts" if backend.runs_behind else "whole"
    most = most_blocks(work.blocks, lambda holding: made(holding).fits, pace)
    if most > 0 and backend.ahead_units and made(keeping(most - 1, work.blocks, "whole")).fits:
        # To a fast card a block from the disk costs about as much as the moments in which it waits for the next part.
        most, pace = most - 1, "whole"
    if most >= 0:
        return made(keeping(most, work.blocks, pace))
    one_block = made(Holding(0, prefetch=0, pace=pace))
    return one_block if one_block.fits else made(Holding(0, prefetch=0, pace=pace, spare=True))


def most_blocks(of: int, fits: Callable[[Holding], bool], pace: Pace) -> int:
    """How many of the blocks can stay, by halving: a block more never takes less. -1: not even none."""
    low, high = -1, of
    while low < high:
        middle = (low + high + 1) // 2
        if fits(keeping(middle, of, pace)):
            low = middle
        else:
            high = middle - 1
    return low


def keeping(blocks: int, of: int, pace: Pace) -> Holding:
    """So many of the transformer's blocks in memory."""
    return Holding(blocks if blocks < of else None, pace=pace)


def choose_tiles(work: Work, backend: Backend, stated: int, host: int) -> Tiles:
    """The decoder's tiles for a stated budget, and where it is a card's for the host's memory too. Not from what is
    free, nor from calibration: tiles change bits."""

    def peak(tiles: Tiles) -> int:
        if backend.on_card and host_bytes(replace(work, tiles=tiles)) > host:
            return _TOO_LARGE
        return tile_peak(work, backend, tiles)

    return choose(work.result, peak, stated)


def smaller_tiles(work: Work, backend: Backend) -> Tiles | None:
    """What to try after a decode with `work.tiles` ran out of memory; None: nothing is smaller."""
    assert work.tiles is not None
    return smaller(work.result, lambda tiles: tile_peak(work, backend, tiles), work.tiles)


def tile_peak(work: Work, backend: Backend, tiles: Tiles) -> int:
    """Bytes; more than any budget where an array would be too large for the kernels."""
    config = work.networks["vae_decoder"].selection.config
    if decoder_values(config, cut(work.result, tiles).tile) > MOST_VALUES:
        return _TOO_LARGE
    return predict(replace(work, tiles=tiles), backend).peak


def more_frugal(memory: StageMemory, backend: Backend, *, gpu: bool) -> tuple[Holding, ...]:
    """What to try, in this order, after a worker ran out of memory or (`gpu`) the GPU gave up; it changes no bit.

    Blocks part by part, where that takes less; half as many of them in memory; none; and last nothing that could be
    spared: one block, no cache, short command buffers. The GPU's watchdog asks for the latter first.
    """
    now, blocks = memory.holding, memory.work.blocks
    if blocks:
        now = replace(now, pace="parts" if backend.runs_behind else "whole", keep_text=False)
    spares = gpu or backend.cache > 0
    steps = [replace(now, spare=True)] if gpu or (spares and not blocks) else []
    if blocks:
        steps.append(replace(now, spare=now.spare or gpu))
        kept = blocks if now.resident_blocks is None else now.resident_blocks
        fewer = [count for count in (kept // 2, 0) if count < kept]
        steps += [replace(now, resident_blocks=count, spare=now.spare or gpu) for count in fewer]
        steps.append(replace(now, resident_blocks=0, prefetch=0, spare=True))
    return tuple(holding for index, holding in enumerate(steps) if holding not in (memory.holding, *steps[:index]))


def with_holding(memory: StageMemory, backend: Backend, holding: Holding) -> StageMemory:
    """The same stage held otherwise."""
    prediction = predict(memory.work, backend, holding)
    ratio = memory.expected / max(1, memory.prediction.peak)
    return replace(memory, prediction=prediction, expected=int(prediction.peak * ratio))


def whole_weights(work: Work, backend: Backend) -> int:
    """Bytes of the weights when all are in memory: tells models and quantisations apart, however they are held."""
    return max(phase.weights for phase in predict(work, backend).phases)


def holding_words(work: Work, holding: Holding) -> str:
    """How weights are held, for people."""
    if not work.blocks:
        return "layer by layer" if work.stage == "text" else "in memory"
    bits = f", {work.bits} bits" if work.bits else ""
    if holding.resident_blocks is None:
        return f"in memory{bits}"
    if holding.resident_blocks == 0:
        return f"streamed{bits}"
    return f"{holding.resident_blocks} of {work.blocks} blocks in memory, the rest streamed{bits}"
