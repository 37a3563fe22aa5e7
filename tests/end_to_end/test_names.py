"""Where videos go when nobody names an output: none is replaced, and the same command finds its own again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cache.home import open_home
from cache.runs import create_run, open_run
from tests.workers.video.films import drawn, write

DRAFT = ("--model", "tiny", "--preset", "draft", "--height", "64", "--width", "64", "--frames", "9")
FIRST, SECOND, THIRD, FOURTH = (f"a-red-ball-{end}.mp4" for end in ("0", "0-2", "0-3", "0-4"))


def words(result: Any) -> list[str]:
    """Warnings that a name was taken."""
    return [event["message"] for event in result.of("warning") if "is there already" in event["message"]]


def test_another_setting_gets_a_name_of_its_own(program: Any) -> None:
    def generate(*arguments: str) -> Any:
        return program("generate", "A red ball", *DRAFT, "--json", *arguments)

    def name(*arguments: str) -> str:
        result = generate(*arguments)
        assert result.code == 0, result.out + result.err
        (made,) = result.of("run_done")[0]["outputs"]
        assert len(words(result)) == (Path(made).name != FIRST), "it is told"
        return Path(made).name

    two, three = ("--steps", "2"), ("--steps", "3")
    assert name(*two) == FIRST
    original = (program.folder / FIRST).read_bytes()
    assert name(*three) == SECOND
    again = generate(*three)
    assert Path(again.of("video_done")[0]["path"]).name == SECOND
    assert not again.of("stage_started")
    assert name(*two) == FIRST
    assert name("--steps", "4") == THIRD
    assert (program.folder / FIRST).read_bytes() == original
    assert sorted(path.name for path in program.folder.glob("*.json")) == [
        name.replace(".mp4", ".json") for name in (SECOND, THIRD, FIRST)
    ]

    plan = program("plan", "A red ball", *DRAFT, "--steps", "5", "--json")
    assert json.loads(plan.out)["outputs"] == [str(program.folder / FOURTH)]
    decoded = program("decode", "last", "--play-fps", "12", "--json")
    assert Path(decoded.of("video_done")[0]["path"]).name == FOURTH

    refused = generate(*three, "--output", FIRST)
    assert refused.code == 2, "a name that was given is kept to"
    assert name(*three, "--overwrite") == FIRST
    assert (program.folder / FIRST).read_bytes() == (program.folder / SECOND).read_bytes() != original

    # A run that was interrupted, and whose name the next one took.
    home = open_home(program.home)
    interrupted = create_run(home, open_run(home, program.runs()[0].name).recipe(), "interrupted")
    interrupted.update_state(status="interrupted", outputs=[str(program.folder / FIRST)])
    resumed = program("resume", interrupted.id, "--json")
    assert resumed.of("run_done")[0]["outputs"] == [str(program.folder / FIRST.replace("0.mp4", "0-5.mp4"))]
    assert len(words(resumed)) == 1
    assert (program.folder / FIRST.replace("0.mp4", "0-5.mp4")).read_bytes() == original

    for path in (program.home / "objects").glob("*/*"):
        path.unlink()
    pruned = generate(*three)
    assert pruned.code == 2, "its record knows that it is this video: nothing is computed for a second one"
    assert f"{FIRST} exists already" in pruned.of("error")[0]["message"]


def test_an_upscaled_video_gets_a_name_of_its_own(program: Any) -> None:
    film = write(program.folder / "film.mp4", drawn(3, 32, 32))
    command = ("upscale-temporal", str(film), "--model", "tiny", "--json")
    outputs = []
    for changes in ((), ("--tiles", "64x16"), ("--tiles", "64x16")):
        result = program(*command, *changes)
        assert result.code == 0, result.out + result.err
        outputs.append(Path(result.of("run_done")[0]["outputs"][0]).name)
        assert len(words(result)) == (outputs[-1] != "film-temporal.mp4")
    assert outputs == ["film-temporal.mp4", "film-temporal-2.mp4", "film-temporal-2.mp4"]

    home = open_home(program.home)
    interrupted = create_run(home, open_run(home, program.runs()[0].name).recipe(), "interrupted")
    interrupted.update_state(status="interrupted", outputs=[str(program.folder / "film-temporal-2.mp4")])
    resumed = program("resume", interrupted.id, "--json")
    assert resumed.of("run_done")[0]["outputs"] == [str(program.folder / "film-temporal-2-2.mp4")]


FILM = ("upscale-temporal", "film.mp4", "--model", "tiny")
BALL = ("generate", "A red ball", *DRAFT, "--steps", "2")


@pytest.mark.parametrize(
    ("command", "taken", "free"), [(BALL, FIRST, SECOND), (FILM, "film-temporal.mp4", "film-temporal-2.mp4")]
)
def test_a_name_that_is_taken_while_the_video_is_made(program: Any, command: Any, taken: str, free: str) -> None:
    write(program.folder / "film.mp4", drawn(3, 32, 32))
    process = program.start(*command, "--json")
    events = []
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1]["event"] == "run_started":
            assert events[-1]["outputs"] == [str(program.folder / taken)]
            (program.folder / taken).write_bytes(b"somebody else's")
    assert process.wait() == 0, events[-1]
    assert events[-1]["outputs"] == [str(program.folder / free)]
    assert any(taken in event["message"] for event in events if event["event"] == "warning"), "it is told"
    assert (program.folder / taken).read_bytes() == b"somebody else's"
    made = program(*command, "--json")
    assert made.code == 0
    assert made.of("run_done")[0]["outputs"] == [str(program.folder / free)], "it finds its own"


def test_two_runs_at_once_have_two_names(program: Any) -> None:
    begun = [program.start("generate", "A red ball", *DRAFT, "--steps", steps, "--json") for steps in "23"]
    ended = [[json.loads(line) for line in process.communicate(timeout=300)[0].splitlines()] for process in begun]
    assert [process.returncode for process in begun] == [0, 0], [events[-1] for events in ended]
    names = {Path(path).name for events in ended for path in events[-1]["outputs"]}
    assert names == {FIRST, SECOND}
