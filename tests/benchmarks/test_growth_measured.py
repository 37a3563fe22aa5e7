"""Points of growth are chosen within limits, measured by the real networks, and drawn where they belong."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import growth_measured, growth_panels
from benchmarks.growth_measured import LONG, Point
from benchmarks.growth_model import ALL_IN_MEMORY, Case, fastest, peak
from orchestrator.memory import Holding
from orchestrator.memory_backends import CUDA
from tests.orchestrator.memory_machines import write_full_size


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> list[Point]:
    folder = write_full_size(tmp_path_factory.mktemp("full"))
    return list(growth_measured.points(folder, growth_measured.cases(False), 68))


def test_every_case_has_its_three_points_and_cheap_ones_come_first(points):
    assert len(points) == 3 * len(growth_measured.cases(False))
    assert [point.cost for point in points] == sorted(point.cost for point in points)
    assert {(point.size, point.frames) for point in points} >= {((3840, 2160), 257), ((1408, 960), 25)}


def test_what_is_measured_fits_the_card(points):
    for point in points:
        assert point.predicted < 68 * 2**30
        if point.stage != "decode":
            assert point.holding == fastest(point.work, 68)
            faster = ALL_IN_MEMORY[: ALL_IN_MEMORY.index(point.holding)]
            assert all(peak(point.work, CUDA, holding) > 68 for holding in faster)
    large = [point for point in points if point.size == (3840, 2160) and point.work.blocks]
    assert all(fastest(point.work, 20) is None for point in large)


def test_a_long_step_computes_fewer_blocks(points):
    steps = [point for point in points if point.work.blocks]
    assert {point.blocks for point in steps if point.expected <= LONG} == {48}
    for point in steps:
        assert point.expected * point.blocks / 48 <= LONG
    assert any(1 <= point.blocks < 48 for point in steps)


def test_a_rehearsal_writes_every_point_and_leaves_out_what_takes_too_long(tmp_path, monkeypatch, capsys):
    """The tiny model's networks. The first cases' points fit the limit, the last one's do not."""
    out = tmp_path / "points.json"
    monkeypatch.setattr(sys, "argv", ["growth_measured", "--small", "--out", str(out), "--limit-seconds", "1e6"])
    cases = [Case((64, 64), 9), Case((96, 64), 9)]
    monkeypatch.setattr(growth_measured, "cases", lambda small: cases)
    cost = Point.cost.fget  # type: ignore[attr-defined]
    long = property(lambda point: 1e9 if point.size[0] == 96 else cost(point))
    monkeypatch.setattr(Point, "cost", long)
    growth_measured.main()
    rows = json.loads(out.read_text())["points"]
    assert [row["stage"] for row in rows] == ["stage1", "stage2", "decode"]
    assert all(row["seconds"] > 0 and row["operations"] > 0 for row in rows)
    assert "Left out, as it would have taken too long: 96x64, 9 frames, stage1" in capsys.readouterr().out


def test_fewer_blocks_stand_for_all(points, monkeypatch):
    """Their seconds are multiplied, and the text that is missing is added to the peak."""
    point = next(point for point in points if 0 < point.blocks < 48)
    point = replace(point, holding=Holding(keep_text=True))
    networks = growth_measured.Networks()
    networks._blocks = [{} for _ in range(48)]
    asked = []

    def predictor(config, top, blocks, grid, passes, pace, keep):
        asked.append((config.num_layers, len(blocks), keep))

    monkeypatch.setattr(growth_measured, "predictor", predictor)
    monkeypatch.setattr(growth_measured, "stepper", lambda make, config, grid: None)
    monkeypatch.setattr(growth_measured, "turn", lambda work, idle, times: (2.0, 1000))
    seconds, size = networks.step(point)
    assert asked == [(point.blocks, point.blocks, True)]
    assert seconds == 2.0 * 48 / point.blocks
    text = 2 * 1024 * 4096 * 2 * (48 - point.blocks) * point.work.prompts
    assert size == pytest.approx(1000 + text, abs=1)


def test_points_are_drawn_in_the_panels_they_belong_to():
    def row(size, frames, stage):
        return {"size": size, "frames": frames, "stage": stage, "peak": 3 * 2**30, "seconds": 5.0}

    rows = [row([1408, 960], 97, "stage1"), row([1408, 960], 25, "decode"), row([768, 512], 97, "stage2")]
    rows.append(row([3840, 2160], 257, "stage2"))
    frames = [Case(frames=count) for count in growth_panels.FRAMES]
    sizes = [Case(size) for size in growth_panels.SIZES]
    stages = ("stage1", "stage2", "decode")
    spots = growth_panels.spots
    assert spots(rows, frames, growth_panels.frame_count, stages, "peak", 2**30) == [(97, 3.0), (25, 3.0)]
    assert spots(rows, sizes, growth_panels.megapixels, stages[:2], "seconds") == [(1.35168, 5.0), (0.393216, 5.0)]


def test_without_measured_points_there_is_nothing_to_draw(tmp_path: Path):
    assert growth_panels.measured(tmp_path / "none.json") == ()
