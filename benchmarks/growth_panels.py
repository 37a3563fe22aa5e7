"""The picture of `benchmarks.growth`: memory of a worker, seconds of a step and of a run, against frames and size.

And the points that `benchmarks.growth_measured` measures, as lines of a table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import macs
from benchmarks.growth_model import (
    GB,
    H100_PACE,
    MEASURED,
    STREAMED,
    STREAMED_MEASURED,
    Case,
    fastest,
    h100_seconds,
    mac,
    mac_seconds,
    pass_operations,
    peak,
    plan,
)
from benchmarks.plot import Line, Panel
from orchestrator.memory import Work
from orchestrator.memory_backends import CUDA
from orchestrator.memory_plan import StageMemory
from tests.orchestrator import memory_machines as machines

FRAMES = (9, 33, 49, 97, 121, 161, 257)
SIZES = ((256, 192), (384, 256), (768, 512), (1408, 960), (1920, 1080), (2560, 1440), (3840, 2160))
"""Width and height of the finished video."""
MEASURED_FILE = Path(__file__).parent / "growth_measured.json"
CARD = 68.0
"""GiB of the card that the lines of a resident run are drawn for."""

Rows = Sequence[Mapping[str, Any]]
Stages = Mapping[str, StageMemory]
Axis = Callable[[Case], float]
Wanted = tuple[str, Callable[[Stages], float], bool]
"""A line: its name, its value, whether it is dashed."""


def measured(path: Path = MEASURED_FILE) -> Rows:
    """The points of `benchmarks.growth_measured`; none where it has not run."""
    return json.loads(path.read_text(encoding="utf-8"))["points"] if path.exists() else ()  # type: ignore[no-any-return]


HEADS = ("size", "frames", "", "tokens", "held", "seconds", "by 570 TFLOP/s", "TFLOP/s", "peak", "predicted", "ratio")


def cells(row: Mapping[str, Any]) -> list[str]:
    """A point of the file as a line of the table."""
    part = "" if row["blocks"] == row["all_blocks"] else f", {row['blocks']} of {row['all_blocks']} blocks computed"
    return [
        "x".join(map(str, row["size"])),
        str(row["frames"]),
        "decode, a tile" if row["stage"] == "decode" else f"{row['stage']}, a step",
        f"{row['tokens']:,}",
        row["held"] + part,
        f"{row['seconds']:.3f} s",
        f"{row['expected']:.3f} s" if row["stage"] != "decode" else "",
        f"{row['operations'] / row['seconds'] / 1e12:,.3g}",
        f"{row['peak'] / GB:.2f} GiB",
        f"{row['predicted'] / GB:.2f} GiB",
        f"{row['predicted'] / row['peak']:.3f}" if row["peak"] else "",
    ]


def frame_count(case: Case) -> float:
    return case.frames


def megapixels(case: Case) -> float:
    return case.size[0] * case.size[1] / 1e6


def resident(work: Work) -> float:
    """GiB with all blocks in memory, as fast as the card allows."""
    holding = fastest(work, CARD)
    return peak(work, CUDA, holding) if holding else float("nan")


def step(work: Work) -> float:
    """Seconds of a step on the H100, by its operations."""
    return work.passes * pass_operations(work) / H100_PACE


def spots(rows: Rows, cases: Sequence[Case], x: Axis, stages: Sequence[str], value: str, unit: float = 1) -> list[Any]:
    """Of the measured points of these cases' kind: as many frames, or the same size."""
    frames, sizes = {case.frames for case in cases}, {case.size for case in cases}
    found = []
    for row in rows:
        case = Case(tuple(row["size"]), row["frames"])
        if row["stage"] in stages and (frames == {case.frames} or sizes == {case.size}):
            found.append((x(case), row[value] / unit))
    return found


def panels(folder: Path, rows: Rows = ()) -> Sequence[Panel]:
    """Lines are predictions; rows: what was measured."""
    frames, sizes = [Case(frames=count) for count in FRAMES], [Case(size) for size in SIZES]

    def lines(
        cases: Sequence[Case], x: Axis, wanted: Sequence[tuple[str, Callable[[Stages], float], bool]]
    ) -> list[Line]:
        planned = [plan(folder, case, machines.H100) for case in cases]
        return [
            Line(name, [(x(case), of(stages)) for case, stages in zip(cases, planned, strict=True)], dashed)
            for name, of, dashed in wanted
        ]

    def memory(cases: Sequence[Case], x: Axis) -> list[Line]:
        return lines(
            cases,
            x,
            (
                ("all blocks in memory, stage 2", lambda stages: resident(stages["stage2"].work), False),
                ("all blocks in memory, stage 1", lambda stages: resident(stages["stage1"].work), False),
                ("all blocks streamed, stage 2", lambda stages: peak(stages["stage2"].work, CUDA, STREAMED), True),
                ("all blocks streamed, stage 1", lambda stages: peak(stages["stage1"].work, CUDA, STREAMED), True),
                ("decode", lambda stages: stages["decode"].expected / GB, False),
            ),
        )

    def steps(cases: Sequence[Case], x: Axis) -> list[Line]:
        return lines(
            cases,
            x,
            (
                ("stage 2 (one pass)", lambda stages: step(stages["stage2"].work), False),
                ("stage 1 (two passes)", lambda stages: step(stages["stage1"].work), False),
            ),
        )

    def seconds(cases: Sequence[Case], x: Axis) -> list[Line]:
        h100 = [sum(h100_seconds(case, plan(folder, case, machines.H100)).values()) for case in cases]
        found = [Line("H100", list(zip(map(x, cases), h100, strict=True)))]
        for name, size in (("M5 Max", 64), ("M4 Max", 64), ("M2 Pro", 32), ("M1", 16)):
            chip = next(chip for chip in macs.CHIPS if chip.name == name)
            runs = [(x(case), mac_seconds(chip, case, plan(folder, case, mac(size)))) for case in cases]
            points = [(at, sum(parts.values())) for at, parts in runs if parts]
            found.append(Line(f"{name}, {size} GB (predicted)", points, dashed=True))
        return found

    whole = sum(MEASURED[(1408, 960), 97, 15, 3].values())
    streamed = list(STREAMED_MEASURED.values())
    of_frames, of_size = (frames, frame_count, "frames"), (sizes, megapixels, "megapixels of the video")
    found = []
    for (cases, x, name), title, at in ((of_frames, "1408x960", 97.0), (of_size, "97 frames", 1.352)):
        dots = [(at, one) for one in streamed]
        dots += spots(rows, cases, x, ("stage1", "stage2", "decode"), "peak", GB)
        found.append(Panel(f"Memory of a worker, {title}", name, "GiB", memory(cases, x), tuple(dots)))
    for (cases, x, name), title in ((of_frames, "1408x960"), (of_size, "97 frames")) if rows else ():
        dots = spots(rows, cases, x, ("stage1", "stage2"), "seconds")
        found.append(Panel(f"A step on the H100, {title}", name, "s", steps(cases, x), tuple(dots), True))
    for (cases, x, name), title, at in ((of_frames, "1408x960", 97.0), (of_size, "97 frames", 1.352)):
        panel = Panel(f"max, {title}, 15 + 3 steps", name, "s", seconds(cases, x), ((at, whole),), True)
        found.append(panel)
    return tuple(found)
