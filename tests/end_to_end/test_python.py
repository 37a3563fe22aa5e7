"""The same through Python: docs/python.md."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator import (
    Interrupted,
    Interrupts,
    Settings,
    UsageError,
    WeightsChoice,
    generate,
    load_recipe,
    plan,
    resume,
    upscale,
)
from tests.workers.video.films import drawn, write

SMALL = Settings(
    prompt="A red ball bouncing on green grass",
    height=64,
    width=64,
    frames=9,
    steps_stage1=8,
    steps_stage2=1,
    weights=WeightsChoice(model="tiny"),
)


@pytest.fixture(autouse=True)
def a_lock_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTX_RELAY_MACHINE_LOCK", str(tmp_path / "machine.lock"))
    monkeypatch.setenv("LTX_RELAY_THREADS", "2")


def test_every_public_name_is_there() -> None:
    assert sorted(orchestrator.__all__) == sorted(orchestrator._PLACES)
    for name in orchestrator.__all__:
        assert getattr(orchestrator, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'denoise'"):
        _ = orchestrator.denoise


def test_nothing_heavy_is_imported_for_them() -> None:
    heavy = {"mlx", "numpy", "av", "transformers"}
    code = f"import sys; from orchestrator import *; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_a_video_its_plan_its_events_and_its_recipe(tmp_path: Path) -> None:
    home, first, again = tmp_path / "home", tmp_path / "ball.mp4", tmp_path / "again.mp4"
    report = plan(SMALL, home=home)
    assert report.fits
    assert [stage.cached for stage in report.stages] == [False] * 5
    events: list[dict[str, Any]] = []
    made = generate(SMALL, output=first, home=home, on_event=events.append)
    assert made.outputs == (first,)
    assert first.stat().st_size > 1000
    assert [event["stage"] for event in events if event["event"] == "stage_started"] == [
        "text", "stage1", "stage2", "temporal", "decode",
    ]  # fmt: skip
    assert all(stage.cached for stage in plan(SMALL, home=home).stages)

    recipe = load_recipe(home / "runs" / made.run_id / "recipe.json")
    assert (recipe.prompt, recipe.height, recipe.steps_stage1) == (SMALL.prompt, 64, 8)
    events.clear()
    generate(recipe, output=again, home=home, on_event=events.append)
    assert not [event for event in events if event["event"] == "stage_started"]
    assert again.read_bytes() == first.read_bytes()


def test_interrupted_from_a_thread_and_resumed(tmp_path: Path) -> None:
    undisturbed = generate(SMALL, output=tmp_path / "undisturbed.mp4", home=tmp_path / "other")
    interrupts, ended = Interrupts(), []

    def follow(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["stage"] == "stage1":
            interrupts.receive(signal.SIGTERM)

    def work() -> None:
        try:
            generate(
                SMALL, output=tmp_path / "ball.mp4", home=tmp_path / "home", on_event=follow, interrupts=interrupts
            )
        except Interrupted as error:
            ended.append(error.exit_code)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(timeout=120)
    assert ended == [143]
    events: list[dict[str, Any]] = []
    resume(home=tmp_path / "home", on_event=events.append)
    (resumed,) = [event for event in events if event["event"] == "resumed"]
    steps = [event for event in events if event["event"] == "step" and event["stage"] == "stage1"]
    assert (resumed["stage"], resumed["total"], resumed["index"] + len(steps)) == ("stage1", 8, 8)
    assert resumed["index"] >= 1
    assert (tmp_path / "ball.mp4").read_bytes() == undisturbed.outputs[0].read_bytes()
    with pytest.raises(UsageError, match="no run to resume"):
        resume(home=tmp_path / "home")


def test_a_video_is_upscaled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "film.mp4", drawn(3, 32, 32))
    events: list[dict[str, Any]] = []
    # A choice that a video was made with: what upscaling has no use for is not looked at.
    weights = WeightsChoice(model="tiny", gemma="/nowhere", temporal_upscaler="/nowhere")
    large = upscale("film.mp4", kind="spatial", weights=weights, home="home", on_event=events.append)
    assert large.outputs == (tmp_path / "film-spatial.mp4",)
    (done,) = [event for event in events if event["event"] == "video_done"]
    assert (done["width"], done["height"], done["frames"]) == (64, 64, 3)

    weights = replace(weights, temporal_upscaler=None)
    events.clear()
    smooth = upscale("film.mp4", weights=weights, output=tmp_path / "smooth.mp4", home="home", on_event=events.append)
    started = [event["stage"] for event in events if event["event"] == "stage_started"]
    assert started == ["temporal", "decode", "join"], "it was encoded for the other already"
    (done,) = [event for event in events if event["event"] == "video_done"]
    assert (done["width"], done["height"], done["frames"]) == (32, 32, 5)
    events.clear()
    resume(smooth.run_id, home="home", on_event=events.append)
    assert not [event for event in events if event["event"] == "stage_started"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"kind": "both"}, "it is temporal or spatial"), ({"kind": ["temporal"]}, "it is temporal or spatial"),
        ({"video": ""}, "names no video"), ({"video": None}, "names no video"), ({"video": "none.mp4"}, "No such file"),
        ({"chunk": 12}, "--chunk 12"), ({"chunk": "41"}, "right kind"), ({"tiles": (64, 64, 8, 8)}, "--tiles"),
        ({"tiles": [64, 64]}, "--tiles"), ({"memory": 5}, "5 bytes"), ({"memory": "24GB"}, "right kind"),
        ({"codec": "divx"}, "divx"), ({"codec": 3}, "right kind"), ({"dtype": "int8"}, "int8"),
        ({"sound": "no"}, "right kind"), ({"weights": None}, "right kind"),
        ({"output": "none/x.mp4"}, "does not exist"), ({"weights": WeightsChoice(model=3)}, "right kind"),
    ],
)  # fmt: skip
def test_what_cannot_be_upscaled(tmp_path: Path, asked: dict[str, Any], words: str) -> None:
    film = write(tmp_path / "film.mp4", drawn(2, 32, 32))
    given = {"video": film, "weights": WeightsChoice(model="tiny"), "output": tmp_path / "no.mp4", **asked}
    with pytest.raises(UsageError, match=words):
        upscale(given.pop("video"), home=tmp_path / "home", **given)
    assert not (tmp_path / "no.mp4").exists()
    assert not list((tmp_path / "home").glob("runs/*"))


def test_what_only_python_can_say_wrong(tmp_path: Path) -> None:
    wrong: list[tuple[str, Any]] = [
        ("prompt", None), ("height", "480"), ("frames", 9.5), ("seeds", 3), ("seeds", [1.5]), ("cfg", "5"),
        ("temporal", 1), ("fps", "fast"), ("memory", "24GB"), ("weights", {"model": 3}), ("loras", [("a", "b")]),
        ("size", (1, 2, 3)), ("codec", Path("h264")),
    ]  # fmt: skip
    for name, value in wrong:
        with pytest.raises(UsageError, match=r"not of the right kind|not a frame rate"):
            generate(replace(SMALL, **{name: value}), home=tmp_path / "home", output=tmp_path / "no.mp4")
    with pytest.raises(UsageError, match="cannot be read"):
        load_recipe(tmp_path / "none.json")
    assert not (tmp_path / "no.mp4").exists()
    assert not list((tmp_path / "home").glob("runs/*"))


def test_what_python_may_say_in_its_own_way(tmp_path: Path) -> None:
    asked = replace(SMALL, fps=23.976, cfg=3, seeds=[1, 2], weights={"model": "tiny", "gemma": None})  # type: ignore[arg-type]
    report = plan(asked, home=tmp_path / "home").to_dict()
    assert report["output_fps"] == str(2 * Fraction(24000, 1001))
    assert len(report["outputs"]) == 2
