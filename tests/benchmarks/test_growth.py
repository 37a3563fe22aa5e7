"""The prediction of time and memory agrees with what was measured, and its picture is well formed."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import growth, growth_model, macs
from benchmarks.growth_model import Case
from benchmarks.plot import Axis, Line, Panel, draw
from orchestrator.memory_backends import CUDA
from tests.orchestrator.memory_machines import H100, write_full_size


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_full_size(tmp_path_factory.mktemp("full"))


def chip(name: str) -> macs.Chip:
    return next(one for one in macs.CHIPS if one.name == name)


@pytest.mark.parametrize("case", list(growth_model.MEASURED))
def test_the_formula_gives_what_the_h100_measured(folder, case):
    size, frames, steps1, steps2 = case
    asked = Case(size, frames, steps1, steps2)
    found = growth_model.h100_seconds(asked, growth_model.plan(folder, asked, H100))
    measured = growth_model.MEASURED[case]
    assert sum(found.values()) == pytest.approx(sum(measured.values()), rel=0.05)
    for name, seconds in measured.items():
        assert found[name] == pytest.approx(seconds, rel=0.2)


def test_streamed_memory_is_what_was_measured(folder):
    stages = growth_model.plan(folder, Case(), H100)
    for name, measured in growth_model.STREAMED_MEASURED.items():
        predicted = growth_model.peak(stages[name].work, CUDA, growth_model.STREAMED)
        assert measured <= predicted < 1.1 * measured


def test_time_grows_with_frames_size_and_steps(folder):
    def seconds(case: Case, memory: int = 64) -> float:
        found = growth_model.mac_seconds(
            chip("M4 Max"), case, growth_model.plan(folder, case, growth_model.mac(memory))
        )
        assert found is not None
        return sum(found.values())

    plain = seconds(Case())
    assert seconds(Case(frames=49)) < plain < seconds(Case(frames=161))
    assert seconds(Case((768, 512))) < plain < seconds(Case((1920, 1080)))
    assert seconds(Case(steps1=8)) < plain < seconds(Case(steps1=30))


@pytest.mark.parametrize("memory", [16, 32])
@pytest.mark.parametrize("name", [one.name for one in macs.CHIPS])
def test_a_mac_computes_longer_than_it_reads(folder, name, memory):
    """What has no room is streamed, and that costs nothing at the default size."""
    stages = growth_model.plan(folder, Case(), growth_model.mac(memory))
    for stage in ("stage1", "stage2"):
        work = stages[stage].work
        assert 0 < stages[stage].streamed < 1
        operations = work.passes * growth_model.pass_operations(work)
        size = growth_model.block_bytes(work)
        assert macs.step_seconds(chip(name), operations, size, stages[stage].streamed)[1] == "computing"


def test_what_does_not_fit_has_no_time(folder):
    case = Case((3840, 2160), 257)
    assert growth_model.mac_seconds(chip("M4"), case, growth_model.plan(folder, case, growth_model.mac(32))) is None
    assert growth.clock(None) == "does not fit"
    assert [growth.clock(seconds) for seconds in (12.4, 150, 7_000)] == ["12 s", "2 min", "1.9 h"]


def test_the_picture_is_well_formed_and_shows_every_line():
    lines = [Line("a < b & c", [(1, 2), (3, 400)]), Line("dashed", [(0, 1), (3, 9)], dashed=True)]
    text = draw(
        [Panel("One", "x", "s", lines, spots=[(2, 5)], logarithmic=True), Panel("Two", "x", "y", lines)], "note"
    )
    tree = ET.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert len(tree.findall(f".//{space}polyline")) == 4
    assert len(tree.findall(f".//{space}circle")) == 1
    assert "a < b & c" in {element.text for element in tree.iter(f"{space}text")}


def test_ticks_are_round_and_within_the_axis():
    assert Axis(0, 48.8, 0, 100).ticks() == [0, 10, 20, 30, 40]
    assert Axis(10, 100_000, 0, 100, logarithmic=True).ticks() == [10, 100, 1_000, 10_000, 100_000]
    assert Axis(10, 1_000, 300, 0, logarithmic=True).at(100) == pytest.approx(150)
