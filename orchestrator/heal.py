"""A worker that ran out of memory, or that the GPU gave up on, is tried again: more frugally, and said so.

First what changes no bit (`memory_plan.more_frugal`): fewer blocks in memory, then none; the stage goes on from its
last saved step. A decode can only take smaller tiles, which makes another result with another key: that is the run's
affair, because it changes the recipe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.display.words import stage_label
from orchestrator.history import Entry
from orchestrator.memory_backends import Backend
from orchestrator.memory_plan import StageMemory, holding_words, more_frugal, whole_weights, with_holding
from orchestrator.memory_tiles import Tiles
from orchestrator.supervisor import WorkerEnd

HEALED = (5, 6)
"""Exit codes that are worth another try."""
SHORT_BUFFERS = {"MLX_MAX_OPS_PER_BUFFER": "4", "MLX_MAX_MB_PER_BUFFER": "16"}
"""For a worker that spares what it can: command buffers that are soon done."""
TILE_TRIES = 4


def run_healing(
    memory: StageMemory,
    backend: Backend,
    start: Callable[[StageMemory], WorkerEnd],
    tell: Callable[[StageMemory, WorkerEnd, str], None],
) -> tuple[WorkerEnd, StageMemory]:
    """Starts the worker until it ends otherwise than of memory or the GPU, or nothing is left to try.

    tell: called before each further try, with how it is held then, the end before, and a sentence.
    """
    end = start(memory)
    steps = None
    while end.code in HEALED:
        if steps is None:
            steps = iter(more_frugal(memory, backend, gpu=end.code == 6))
        holding = next(steps, None)
        if holding is None:
            break
        memory = with_holding(memory, backend, holding)
        tell(memory, end, sentence(memory, end))
        end = start(memory)
    return end, memory


def sentence(memory: StageMemory, end: WorkerEnd) -> str:
    """What happened, and what is tried now."""
    work = memory.work
    last = "from its last step" if work.blocks else "again"
    if memory.holding.spare:
        alone = work.blocks and memory.holding.resident_blocks == 0
        how = "with no cache and short command buffers" + (", one block at a time" if alone else "")
    elif work.blocks and memory.holding.resident_blocks is None:
        parts = memory.holding.pace == "parts"
        how = "with each block computed part by part" if parts else "with one block computed at a time"
    else:
        how = f"with its weights {holding_words(work, memory.holding)}"
    return f"{what_happened(memory, end)}; trying {last} {how}."


def tile_sentence(memory: StageMemory, end: WorkerEnd, tiles: Tiles) -> str:
    """The same for a decode that gets smaller tiles."""
    size = " x ".join(
        (f"{number} {unit}" if number else f"all {unit}")
        for number, unit in ((tiles.spatial, "pixels"), (tiles.temporal, "frames"))
    )
    return (
        f"{what_happened(memory, end)}; decoding again in smaller tiles ({size}). "
        "That changes the video a little, so it has a key of its own."
    )


def what_happened(memory: StageMemory, end: WorkerEnd) -> str:
    label = stage_label(memory.work.stage).capitalize()
    return f"{label} ran out of memory" if end.code == 5 else f"The GPU gave up on {stage_label(memory.work.stage)}"


def measured(end: WorkerEnd, backend: Backend) -> int:
    """The peak that the prediction was of."""
    return end.mlx_peak if backend.on_card else end.process_peak


def record(memory: StageMemory, end: WorkerEnd, backend: Backend, tries: int) -> dict[str, Any]:
    """For the run's state: predicted and measured, with how it was held."""
    return {"memory": {**memory.to_dict(), "measured": measured(end, backend), "tries": tries}}


def entry(memory: StageMemory, end: WorkerEnd, backend: Backend, effort: float) -> Entry:
    """For the history. effort: 0 when the worker did not compute the whole stage."""
    return Entry(
        backend=backend.name,
        stage=memory.work.stage,
        predicted=memory.prediction.peak,
        measured=measured(end, backend),
        weights=whole_weights(memory.work, backend),
        streamed=memory.streamed,
        effort=effort,
        seconds=end.seconds,
    )
