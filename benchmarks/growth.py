"""How time and memory grow with frames, size and steps, and what to expect of a Mac: tables and plots.

    uv run python -m benchmarks.growth --out docs

Writes DIR/images/growth.svg and prints Markdown; what `benchmarks.growth_measured` left beside it is in both. Full-size
LTX-2 19B in bfloat16, preset `max`. Memory is what the plan predicts from the headers of the official files; how well
it does is in docs/memory.md. Seconds on the H100 are measured where `benchmarks.growth_model` has them, and elsewhere
follow from operations at the measured pace plus what each worker took beside its steps; seconds on Macs are predictions
(`benchmarks.macs`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from benchmarks import macs
from benchmarks.growth_model import (
    COMPUTED,
    GB,
    LEAST,
    MEASURED,
    RESIDENT,
    TERA,
    Case,
    block_bytes,
    full_size,
    h100_seconds,
    mac,
    mac_seconds,
    pass_operations,
    peak,
    plan,
)
from benchmarks.growth_panels import FRAMES, SIZES, cells, measured, panels
from benchmarks.growth_panels import HEADS as HEADS_MEASURED
from benchmarks.plot import draw
from benchmarks.tables import table
from orchestrator.memory_backends import CUDA, METAL
from orchestrator.memory_plan import StageMemory
from tests.orchestrator import memory_machines as machines

STEPS = (8, 15, 20, 30)


def clock(seconds: float | None) -> str:
    if seconds is None:
        return "does not fit"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def row(folder: Path, case: Case, label: str) -> list[str]:
    resident, small = plan(folder, case, machines.H100), plan(folder, case, mac(32))
    measured = MEASURED.get((case.size, case.frames, case.steps1, case.steps2))
    seconds = sum((measured or h100_seconds(case, resident)).values())
    works = [resident[name].work for name in ("stage1", "stage2")]
    held = [peak(work, CUDA, RESIDENT) for work in works] + [resident[name].expected / GB for name in COMPUTED[2:]]
    most = max(memory.expected for memory in small.values()) / GB
    kept = [small[name].holding.resident_blocks for name in ("stage1", "stage2")]
    fits = all(memory.fits for memory in small.values())
    chip = next(chip for chip in macs.CHIPS if chip.name == "M4 Max")
    other = mac_seconds(chip, case, plan(folder, case, mac(36)))
    return [
        label,
        *(f"{work.result.tokens:,}" for work in works),
        *(f"{size:.1f}" for size in held),
        *(f"{peak(work, METAL, LEAST):.1f}" for work in works),
        f"{most:.1f}" if fits else f"{most:.1f}: too much",
        " and ".join(str(48 if count is None else count) for count in kept) if fits else "",
        f"**{seconds:.1f} s**" if measured else clock(seconds),
        clock(other and sum(other.values())),
    ]


HEADS = (
    *("tokens, stage 1", "stage 2"),
    *("all in memory: stage 1", "stage 2", "temporal", "decode"),
    *("least: stage 1", "stage 2"),
    *("Mac 32 GB: largest worker", "blocks kept"),
    *("H100", "M4 Max, 36 GB"),
)


def growth_tables(folder: Path) -> Iterator[str]:
    large = Case((3840, 2160), 257)
    lines = [*(row(folder, Case(size), f"{size[0]}x{size[1]}") for size in SIZES)]
    lines.append(row(folder, large, "3840x2160, 257 frames"))
    yield table(["frames", *HEADS], (row(folder, Case(frames=count), str(count)) for count in FRAMES))
    yield table(["size", *HEADS], lines)
    last = [[*line[:1], *line[-2:]] for count in STEPS for line in [row(folder, Case(steps1=count), str(count))]]
    yield table(["steps of stage 1", *HEADS[-2:]], last)


def check_table(folder: Path) -> str:
    """What the H100's figures are worth: predicted beside measured."""
    lines = []
    for (size, frames, steps1, steps2), seconds in MEASURED.items():
        case = Case(size, frames, steps1, steps2)
        found = h100_seconds(case, plan(folder, case, machines.H100))
        label = f"{size[0]}x{size[1]}, {frames} frames, {steps1} + {steps2} steps"
        lines += [[label, name, f"{seconds[name]:.1f} s", f"{found[name]:.1f} s"] for name in COMPUTED]
    return table(["H100", "worker", "measured", "by the formula"], lines)


MEMORIES = (16, 32, 64)


def mac_table(folder: Path) -> str:
    """The whole `max` run at its default size, per chip and memory."""

    @cache
    def stages(memory: int) -> Mapping[str, StageMemory]:
        return plan(folder, Case(), mac(memory))

    def total(chip: macs.Chip, memory: int) -> str:
        sold = next((size for size in chip.memories if memory <= size < 2 * memory), None)
        if sold is None:
            return ""
        found = mac_seconds(chip, Case(), stages(sold))
        return clock(found and sum(found.values()))

    def cells(chip: macs.Chip) -> list[str]:
        base = stages(64)["stage1"].work
        step, _ = macs.step_seconds(chip, 2 * pass_operations(base), block_bytes(base), 0.0)
        peak = f"{chip.peak / TERA:.1f}" + (" (estimate)" if chip.estimated else "")
        figures = [f"{chip.bandwidth / 1e9:.0f}", f"{chip.efficiency:.2f}", f"{step:.0f} s"]
        return [chip.name, peak, *figures, *(total(chip, memory) for memory in MEMORIES)]

    heads = ["chip", "TFLOP/s", "GB/s", "efficiency", "a step of stage 1", *(f"`max`, {size} GB" for size in MEMORIES)]
    return table(heads, map(cells, macs.CHIPS))


def stage_table(folder: Path) -> str:
    """One chip's run worker by worker, at three sizes of memory."""
    chip = next(chip for chip in macs.CHIPS if chip.name == "M4 Max")
    lines = []
    for memory in (16, 36, 64):
        stages = plan(folder, Case(), mac(memory))
        found = mac_seconds(chip, Case(), stages) or {}
        held = [
            "" if not stages[name].work.blocks else f"{48 if kept is None else kept} of 48"
            for name in ("stage1", "stage2")
            for kept in [stages[name].holding.resident_blocks]
        ]
        lines.append([f"{memory} GB", *held, *(clock(found[name]) for name in ("text", *COMPUTED))])
    return table(["M4 Max", "blocks kept, stage 1", "stage 2", "text", *COMPUTED], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the folder whose images/growth.svg is written")
    asked = parser.parse_args()
    folder = full_size()
    points = measured()
    parts = [*growth_tables(folder), check_table(folder), mac_table(folder), stage_table(folder)]
    print("\n\n".join([*parts, *([table(HEADS_MEASURED, map(cells, points))] if points else [])]))
    if asked.out:
        note = (
            "Dots: measured on an H100. Lines: predicted; memory on the H100. Its seconds are without the text encoder."
        )
        (asked.out / "images" / "growth.svg").write_text(draw(panels(folder, points), note))


if __name__ == "__main__":
    main()
