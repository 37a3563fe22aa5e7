"""Stages that are used again: stopping early, promoting seeds, encoding anew, and a cache that is kept small."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.relay import PROMPT, Ended, Place
from tests.faults.scenario import SMALL

QUICK = ("--steps-stage1", "2", "--steps-stage2", "1")
GENERATE = ("generate", PROMPT, *SMALL, *QUICK)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("reuse")).make()


@pytest.fixture(scope="module")
def sweep(place: Place) -> Ended:
    ended = place.run(*GENERATE, "--seed", "4,5,6", "--stop-after", "stage1")
    assert ended.code == 0, ended.err
    return ended


def started(ended: Ended) -> list[str]:
    assert ended.code == 0, ended.err
    return [event["stage"] for event in ended.of("stage_started")]


def run_of(ended: Ended) -> str:
    return str(ended.events[0]["run"])


def test_a_sweep_stops_after_stage_1_with_a_contact_sheet(sweep: Ended, place: Place) -> None:
    assert started(sweep) == ["text", "stage1", "preview"]
    (sheet,) = sweep.of("contact_sheet")
    assert sheet["seeds"] == [4, 5, 6]
    assert Path(sheet["path"]).read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in Path(sheet["path"]).parent.iterdir()) == [
        "4.png", "5.png", "6.png", "stage1-4.png", "stage1-5.png", "stage1-6.png", "stage1.png",
    ]  # fmt: skip
    assert not place.made()
    done = sweep.of("run_done")[0]
    assert done["outputs"] == []
    assert done["next"].startswith(f"ltx-relay promote {run_of(sweep)} 4 5 6")
    shown = json.loads(place.run("runs", "show", run_of(sweep), "--json").out)
    assert (shown["status"], shown["outputs"]) == ("done", [])
    assert [stage["name"] for stage in shown["stages"]] == ["text", "stage1", "preview"]


def test_promoted_seeds_use_what_is_there(sweep: Ended, place: Place, tmp_path: Path) -> None:
    ended = place.run("promote", run_of(sweep), "6", "4", "--output", "chosen.mp4", "--json")
    assert started(ended) == ["stage2", "temporal", "decode"]
    assert [event["seed"] for event in ended.of("video_done")] == [6, 4]
    single = Place(tmp_path).make()
    assert single.run(*GENERATE, "--seed", "4", "--output", "alone.mp4").code == 0
    assert place.made()["chosen-4.mp4"] == single.made()["alone.mp4"], "as if it had been made at once"


def test_promoting_what_is_not_there(sweep: Ended, place: Place) -> None:
    for arguments, said in [
        ((run_of(sweep), "7"), "no seed 7; its seeds are 4, 5, 6"),
        ((run_of(sweep), "4", "4"), "twice"),
        ((run_of(sweep), "four"), "four"),
        (("20000101-000000-x-0000", "4"), "There is no run"),
    ]:
        ended = place.run("promote", *arguments)
        assert ended.code == 2
        assert said in ended.err


def test_a_stopped_sweep_that_was_killed_goes_on_to_its_stop(tmp_path: Path) -> None:
    place = Place(tmp_path).make()
    command = (*GENERATE, "--seed", "4,5", "--stop-after", "stage1")
    killed = place.run(*command, LTX_RELAY_FAILPOINTS="stage1.step.saved:3=kill")
    assert killed.code == 7
    again = place.run("resume", "--json")
    assert started(again) == ["stage1", "preview"]
    assert again.of("contact_sheet")
    assert [event["index"] for event in again.of("step") if event["stage"] == "stage1"] == [2], "of the second seed"


@pytest.mark.parametrize(("stage", "runs"), [("text", []), ("stage2", ["stage1", "stage2"])])
def test_stopping_elsewhere(sweep: Ended, place: Place, stage: str, runs: list[str]) -> None:
    ended = place.run(*GENERATE, "--seed", "20", "--stop-after", stage)
    assert started(ended) == runs
    assert ended.of("run_done")[0]["next"]
    assert not ended.of("contact_sheet")


def test_stopping_after_a_stage_that_is_not_there(place: Place) -> None:
    ended = place.run(*GENERATE, "--preset", "two-stage", "--stop-after", "temporal")
    assert ended.code == 2
    assert "text, stage1, stage2, decode" in ended.err


@pytest.fixture(scope="module")
def finished(place: Place) -> Ended:
    ended = place.run(*GENERATE, "--seed", "30", "--output", "first.mp4")
    assert ended.code == 0, ended.err
    return ended


def test_decode_makes_the_video_alone_again(finished: Ended, place: Place, read_video: Callable[[Path], Any]) -> None:
    ended = place.run("decode", run_of(finished), "--codec", "ffv1", "--output", "again.mkv", "--json")
    assert started(ended) == ["decode"]
    assert read_video(place.videos / "again.mkv").codec == "ffv1"
    slow = place.run("decode", run_of(ended), "--play-fps", "12", "--output", "slow.mkv", "--json")
    assert started(slow) == ["decode"]
    found, before = read_video(place.videos / "slow.mkv"), read_video(place.videos / "again.mkv")
    assert (found.rate, before.rate) == (12, 48)
    assert (found.frames == before.frames).all()
    assert slow.of("video_done")[0]["fps"] == "12"


def test_decode_never_overwrites_the_first_video(finished: Ended, place: Place) -> None:
    before = place.made()["first.mp4"]
    ended = place.run("decode", run_of(finished), "--codec", "hevc", "--output", "first.mp4")
    assert ended.code == 2
    assert "--overwrite" in ended.err
    assert place.made()["first.mp4"] == before


@pytest.mark.parametrize(
    ("change", "runs"),
    [
        (("--steps-stage2", "2"), ["stage2", "temporal", "decode"]),
        (("--fps", "12"), ["stage1", "stage2", "temporal", "decode"]),
    ],
)
def test_a_change_computes_what_depends_on_it(
    finished: Ended, place: Place, change: tuple[str, ...], runs: list[str]
) -> None:
    name = f"changed{'-'.join(change)}.mp4"
    assert started(place.run(*GENERATE, "--seed", "30", *change, "--output", name)) == runs


def test_the_cache_is_kept_small_and_never_at_the_cost_of_this_run(tmp_path: Path) -> None:
    place = Place(tmp_path).make()
    assert place.run(*GENERATE, "--output", "one.mp4").code == 0
    before = place.finished_keys()
    ended = place.run("generate", "A blue box", *SMALL, *QUICK, "--output", "two.mp4", LTX_RELAY_CACHE_SIZE="100kB")
    assert ended.code == 0, ended.err
    assert ended.of("cache_pruned")[0]["removed"] == 5, "all of the first run's, the text included"
    assert not before & place.finished_keys()
    assert len(place.finished_keys()) == 5
    listed = [json.loads(line) for line in place.run("cache", "list", "--json").out.splitlines()]
    assert sorted(entry["stage"] for entry in listed) == ["decode", "stage1", "stage2", "temporal", "text"]
    assert {run for entry in listed for run in entry["runs"]} == {run_of(ended)}
    verified = place.run("cache", "verify")
    assert (verified.code, verified.out) == (0, "5 results, all whole.\n")
    damaged = next(Path(entry["paths"][0]) for entry in listed if entry["stage"] == "stage2")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    verified = place.run("cache", "verify")
    assert verified.code == 7
    assert "1 of 5 results was damaged" in verified.err
    pruned = place.run("cache", "prune", "--max-size", "0")
    assert (pruned.code, place.finished_keys()) == (0, set())
    assert "5 results removed" in pruned.out
    assert place.run("cache").err == "The cache is empty.\n"
    assert place.run("runs", "delete", run_of(ended)).code == 0
    assert run_of(ended) not in place.run("runs").out
    assert sorted(place.made()) == ["one.mp4", "two.mp4"], "videos outside of the cache stay"


def test_pruning_takes_nothing_that_a_run_under_way_needs(tmp_path: Path, disturbed: Callable[..., Ended]) -> None:
    busy = Place(tmp_path).make()
    assert busy.run(*GENERATE, "--seed", "1", "--stop-after", "stage1").code == 0
    before = busy.finished_keys()

    def prune() -> None:
        pruned = busy.run("cache", "prune", "--max-size", "0", "--older-than", "0s")
        assert pruned.code == 0, pruned.err
        assert "1 result removed" in pruned.out, "that of the other seed, and not the text"

    ended = disturbed(busy, (*GENERATE, "--seed", "2"), "stage2.event.started", prune)
    assert started(ended) == ["stage1", "stage2", "temporal", "decode"]
    assert len(before - busy.finished_keys()) == 1
    assert len(busy.finished_keys()) == 5
