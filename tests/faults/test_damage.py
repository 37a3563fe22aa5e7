"""Damaged files are found out, and computed again; `python -m tests.faults.damage` runs the program on more of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cache.home import Home
from tests.faults.damage import Damage, leave_a_state, prepare, read_all, run_on, targets
from tests.faults.relay import Place
from tests.faults.scenario import Scenario

Whole = tuple[Scenario, Place, dict[str, str]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return prepare(tmp_path_factory.mktemp("damage"))


@pytest.mark.parametrize(
    ("kind", "damage"), [("stage1", Damage(3000, None)), ("temporal", Damage(20_000, 3)), ("video", Damage(5000, 0))]
)
def test_a_damaged_file_is_computed_again(whole: Whole, tmp_path: Path, kind: str, damage: Damage) -> None:
    scenario, place, stages = whole
    (target,) = [target for target in targets(Home(place.home), stages) if target.kind == kind]
    assert not run_on(scenario, target, damage, place, tmp_path / "case")


def test_every_cut_and_every_flipped_bit_is_found_out(whole: Whole) -> None:
    scenario, place, stages = whole
    leave_a_state(scenario, place)
    found = targets(Home(place.home), stages)
    assert {target.kind for target in found} == {
        "text", "stage1", "stage2", "temporal", "video", "record", "partial"
    }  # fmt: skip
    for target in found:
        count, missed = read_all(target, Home(place.home))
        assert count >= 105
        assert not missed
