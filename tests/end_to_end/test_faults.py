"""Killed, interrupted, damaged: what was finished is used again, and the video is the same."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest


@pytest.fixture(scope="module")
def undisturbed(shared: Any) -> bytes:
    assert shared.generate("--steps-stage2", "6", "--output", "ball.mp4").code == 0
    return bytes((shared.folder / "ball.mp4").read_bytes())


def started(stage: str) -> Any:
    return lambda event: event["event"] == "stage_started" and event["stage"] == stage


def step(stage: str, index: int) -> Any:
    return lambda event: (event["event"], event.get("stage"), event.get("index")) == ("step", stage, index)


@pytest.mark.parametrize(
    ("at", "first"),
    [
        (started("text"), "text"),
        (started("stage2"), "stage2"),
        (step("stage2", 2), "stage2"),
        (started("decode"), "decode"),
    ],
)
def test_a_killed_worker_costs_its_own_stage_only(program: Any, undisturbed: bytes, at: Any, first: str) -> None:
    arguments = ("--steps-stage2", "6", "--output", "ball.mp4")
    killed = program.kill_worker(at, *arguments)
    assert killed.code == 7
    assert killed.err.strip().splitlines()[-1].startswith("ltx-relay resume ")
    assert killed.of("error")[0]["resume"].startswith("ltx-relay resume ")
    assert not (program.folder / "ball.mp4").exists()
    again = program.generate(*arguments)
    assert again.code == 0, again.err
    assert again.of("stage_started")[0]["stage"] == first
    assert (program.folder / "ball.mp4").read_bytes() == undisturbed


def test_a_killed_worker_goes_on_from_its_last_finished_step(program: Any, undisturbed: bytes) -> None:
    arguments = ("--steps-stage2", "6", "--output", "ball.mp4")
    killed = program.kill_worker(step("stage2", 2), *arguments)
    finished = max(event["index"] for event in killed.of("step") if event["stage"] == "stage2")
    resume = killed.of("error")[0]["resume"].split()[1:]
    again = program(*resume, "--json")
    assert again.code == 0, again.err
    steps = [event["index"] for event in again.of("step") if event["stage"] == "stage2"]
    assert steps[0] >= finished + 1, "no finished step is computed again"
    assert steps == list(range(steps[0], 7))
    assert (program.folder / "ball.mp4").read_bytes() == undisturbed
    assert not list((program.home / "partial").iterdir()), "a finished stage leaves no state behind"


def test_the_orchestrator_killed_leaves_no_worker(program: Any, undisturbed: bytes) -> None:
    process = program.start("generate", "A red ball bouncing on green grass", "--model", "tiny", "--json")
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "stage_started" and event["stage"] == "stage1":
            break
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=2)
    assert not alive


def test_ctrl_c_saves_the_step_and_says_how_to_go_on(program: Any, undisturbed: bytes) -> None:
    arguments = ("--model", "tiny", "--height", "64", "--width", "96", "--frames", "9", "--steps-stage1", "3")
    arguments += ("--steps-stage2", "6", "--output", "ball.mp4", "--json")
    process = program.start("generate", "A red ball bouncing on green grass", *arguments)
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "step" and event["stage"] == "stage1":
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip().splitlines()[-1].startswith("ltx-relay resume ")
    again = program("resume", "--json")
    assert again.code == 0, again.err
    assert "text" not in [event["stage"] for event in again.of("stage_started")]
    assert (program.folder / "ball.mp4").read_bytes() == undisturbed


def test_a_damaged_artifact_is_set_aside_and_computed_again(program: Any, undisturbed: bytes) -> None:
    arguments = ("--steps-stage2", "6", "--output", "ball.mp4")
    first = program.generate(*arguments)
    stage1 = Path(first_artifact(program, "stage1"))
    for path in (program.home / "objects").glob("*/*"):
        if path != stage1 and path.suffix != ".corrupt" and path != Path(first_artifact(program, "text")):
            path.unlink()
    (program.folder / "ball.mp4").unlink()
    raw = bytearray(stage1.read_bytes())
    raw[-100] ^= 1
    stage1.write_bytes(raw)
    again = program.generate(*arguments)
    assert again.code == 0, again.err
    assert [event["stage"] for event in again.of("stage_started")] == ["stage1", "stage2", "temporal", "decode"]
    assert any("set aside" in event["message"] for event in again.of("warning"))
    assert (program.folder / "ball.mp4").read_bytes() == undisturbed
    assert first.code == 0


def first_artifact(program: Any, stage: str) -> str:
    shown = json.loads(program("runs", "show", "last", "--json").out)
    return next(str(entry["artifacts"][0]) for entry in shown["stages"] if entry["name"] == stage)


def test_two_runs_at_once_compute_each_stage_once(program: Any, undisturbed: bytes) -> None:
    arguments = ("--model", "tiny", "--height", "64", "--width", "96", "--frames", "9", "--steps-stage1", "3")
    arguments += ("--steps-stage2", "6", "--json")
    prompt = "A red ball bouncing on green grass"
    processes = [program.start("generate", prompt, *arguments, "--output", f"{n}.mp4") for n in range(2)]
    ended = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], [err for _, err in ended]
    out = "".join(out for out, _ in ended)
    began = [event["stage"] for event in map(json.loads, out.splitlines()) if event["event"] == "stage_started"]
    assert sorted(began) == sorted(["text", "stage1", "stage2", "temporal", "decode"])
    assert {(program.folder / f"{n}.mp4").read_bytes() for n in range(2)} == {undisturbed}
