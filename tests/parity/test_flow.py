"""The whole two-stage flow through the real worker processes, against the reference, stage by stage.

The goldens are the bundled tiny model's latents as ltx-core 1.0.0 makes them in float32 (make_flow.py), from the same
noise. What is compared are the artifacts that the workers wrote, and the frames of a lossless video.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from cache.home import Home, open_home
from orchestrator.interrupts import Interrupts
from orchestrator.pipeline import StagePlan
from orchestrator.prepare import prepare
from orchestrator.recipe import WeightsChoice
from orchestrator.run import generate
from orchestrator.settings import Settings

GOLDEN = Path(__file__).parent / "data" / "flow.safetensors"


class Flow:
    """One run, and what the reference got."""

    def __init__(self, folder: Path) -> None:
        with safe_open(GOLDEN, framework="numpy") as file:
            self.asked = json.loads(file.metadata()["flow"])
            self.golden = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        noise = folder / "noise.safetensors"
        save_file({name: self.golden[f"noise.{name}"] for name in ("stage1", "stage2")}, noise)
        self.home: Home = open_home(folder / "home")
        settings = Settings(
            prompt=self.asked["prompt"],
            negative_prompt=self.asked["negative_prompt"],
            height=self.asked["height"],
            width=self.asked["width"],
            frames=self.asked["frames"],
            steps_stage1=self.asked["steps_stage1"],
            steps_stage2=self.asked["steps_stage2"],
            cfg=self.asked["cfg"],
            guidance_rescale=self.asked["guidance_rescale"],
            weights=WeightsChoice(model="tiny"),
            noise=str(noise),
            codec="ffv1",
            dtype="float32",
        )
        self.video = folder / "flow.mkv"
        prepared = prepare(settings, home=self.home, output=self.video)
        self.stages: dict[str, StagePlan] = {stage.name: stage for stage in prepared.relay}
        self.events: list[dict[str, Any]] = []
        with Interrupts() as interrupts:
            generate(prepared, on_event=self.events.append, interrupts=interrupts)

    def artifact(self, stage: str, name: str) -> np.ndarray:
        with safe_open(self.stages[stage].items[0].output, framework="numpy") as file:
            return file.get_tensor(name)


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Flow:
    return Flow(tmp_path_factory.mktemp("flow"))


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    assert expected.std() > 0.5, "a golden that is nearly constant would prove nothing"
    return float(np.abs(found - expected).max() / expected.std())


@pytest.mark.parametrize("name", ["positive", "negative"])
def test_text_contexts(flow: Flow, name: str) -> None:
    expected = flow.golden[name]
    assert relative_error(flow.artifact("text", name)[:, : expected.shape[1]], expected) < 1e-4


@pytest.mark.parametrize("stage", ["stage1", "stage2", "temporal"])
def test_latents(flow: Flow, stage: str) -> None:
    """After all steps of both stages, each of which carries the last one's rounding on: 1.2e-4 on one machine."""
    assert relative_error(flow.artifact(stage, "video"), flow.golden[stage]) < 5e-4


def test_frames(flow: Flow, read_video: Callable[[Path], Any]) -> None:
    video = read_video(flow.video)
    expected = flow.golden["frames"]
    assert len(video.frames) == 2 * flow.asked["frames"] - 1
    assert video.rate == 2 * flow.asked["fps"]
    found = video.frames[::8].astype(int)
    assert found.shape == expected.shape
    # uint8 truncates: a difference of 1e-5 may still fall on the other side of a whole number.
    assert np.abs(found - expected.astype(int)).max() <= 1
    assert (found != expected).mean() < 1e-3


def test_five_processes_did_it(flow: Flow) -> None:
    done = [event for event in flow.events if event["event"] == "stage_done"]
    assert [event["stage"] for event in done] == ["text", "stage1", "stage2", "temporal", "decode"]
    assert len({event["pid"] for event in done}) == 5
