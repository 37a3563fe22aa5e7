"""Several processes on one home: each result is computed once, whoever needs it, and everybody gets the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.relay import PROMPT, STAGES, Ended, Place
from tests.faults.scenario import SMALL

QUICK = ("generate", PROMPT, *SMALL, "--steps-stage1", "1", "--steps-stage2", "1")


def at_once(place: Place, *commands: tuple[str, ...]) -> list[Ended]:
    """Runs them all at the same time; each must succeed."""
    processes = [place.start(command, {}) for command in commands]
    ended = [process.communicate(timeout=300) for process in processes]
    codes = [process.returncode for process in processes]
    assert codes == [0] * len(commands), [err for _, err in ended]
    return [Ended(code, out, err, 0.0) for code, (out, err) in zip(codes, ended, strict=True)]


def count(ended: list[Ended], stage: str) -> int:
    return sum(event["stage"] == stage for one in ended for event in one.of("stage_started"))


def items(ended: list[Ended], stage: str) -> int:
    return sum(event["stage"] == stage for one in ended for event in one.of("item"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("shared")).make()


def test_four_processes_with_one_recipe_compute_each_stage_once(place: Place) -> None:
    ended = at_once(place, *((*QUICK, "--output", f"{number}.mp4") for number in range(4)))
    assert {stage: (count(ended, stage), items(ended, stage)) for stage in STAGES} == dict.fromkeys(STAGES, (1, 1))
    made = place.made()
    assert sorted(made) == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]
    assert len(set(made.values())) == 1
    assert not place.litter()


def test_four_seeds_at_once_share_the_text(tmp_path: Path) -> None:
    place = Place(tmp_path).make()
    ended = at_once(place, *((*QUICK, "--seed", str(seed), "--output", f"{seed}.mp4") for seed in range(4)))
    assert count(ended, "text") == 1
    assert items(ended, "stage1") == 4
    assert len(set(place.made().values())) == 4
    assert not place.litter()


def test_a_sweep_of_eight_loads_what_one_video_loads(place: Place, tmp_path: Path) -> None:
    sweep = Place(tmp_path).make()
    ended = sweep.run(*QUICK, "--seeds", "8", "--output", "sweep.mp4")
    assert ended.code == 0, ended.err
    loads = [(event["stage"], event["role"]) for event in ended.of("loading")]
    single = [
        *(("text", role) for role in ("gemma", "projection", "connector")),
        ("stage1", "transformer"),
        *(("stage2", role) for role in ("statistics", "upsampler", "transformer")),
        *(("temporal", role) for role in ("statistics", "upsampler")),
        *(("decode", role) for role in ("statistics", "vae_decoder")),
    ]
    assert [load for load in loads if load[0] != "preview"] == single, "eight single runs load all of this eight times"
    assert [load for load in loads if load[0] == "preview"] == [("preview", "statistics"), ("preview", "vae_decoder")]
    assert items([ended], "text") == 1
    assert {stage: items([ended], stage) for stage in STAGES[1:]} == dict.fromkeys(STAGES[1:], 8)
    assert sweep.made()["sweep-0.mp4"] == next(iter(place.made().values())), "a seed alone gives the same video"
