"""What the plan says for Macs that nobody has measured yet: how many blocks stay, peaks, bytes read, per memory size.

    uv run python -m benchmarks.mac_memory

From the true headers of LTX-2 19B and Gemma 3 12B (files with holes for data) and Metal's constants; nothing is run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.macs import working_set
from orchestrator.memory_plan import StageMemory
from tests.orchestrator.memory_machines import GB, machine, planned, recipe_for, write_full_size

MEMORY = (16, 24, 32, 48, 64)
FLOWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("`max`, 704x480, 97 frames", {}),
    ("the same, `--quantize 8`", {"quantize": 8}),
    ("the same, `--quantize 4`", {"quantize": 4}),
    ("`max`, `--size 1920x1080`, 121 frames", {"size": (1920, 1080), "frames": 121}),
)


def rows() -> Iterator[str]:
    yield "| memory | video | stage 1 | stage 2 | largest worker | fits |"
    yield "|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory() as name:
        folder = write_full_size(Path(name))
        for memory in MEMORY:
            mac = machine("metal", memory, working_set=working_set(memory))
            for label, asked in FLOWS:
                _, stages, _ = planned(folder, recipe_for(folder, **asked), mac, available=working_set(memory))
                worst = max(stages.values(), key=lambda stage: stage.expected)
                kept = [blocks_words(stages[stage]) for stage in ("stage1", "stage2")]
                fits = "yes" if all(stage.fits for stage in stages.values()) else "no"
                yield (
                    f"| {memory} GB ({working_set(memory):.1f}) | {label} | {kept[0]} | {kept[1]} | "
                    f"{worst.expected / GB:.1f} GB, {worst.work.stage} | {fits} |"
                )


def blocks_words(stage: StageMemory) -> str:
    kept = stage.holding.resident_blocks
    return "all" if kept is None else f"{kept} of {stage.work.blocks}"


if __name__ == "__main__":
    print("\n".join(rows()))
