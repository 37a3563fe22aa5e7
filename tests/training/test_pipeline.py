"""The training's stages: what is finished is left out, and a call ends before its time is over."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from training import pipeline
from training.pipeline import Stage, command, stages

ROOT = Path(pipeline.__file__).parents[1]


def test_every_input_of_a_stage_is_a_result_of_an_earlier_one_or_lies_beside_it():
    made: set[Path] = set()
    for stage in stages(Path("out")):
        inputs = [Path(word) for word in stage.arguments if word.endswith((".safetensors", "tokenizer.json"))]
        assert all(path in made or path.parent in {done.parent for done in made} for path in inputs), stage.module
        made.add(Path(stage.result))


@pytest.mark.parametrize(
    ("stage", "left", "words"),
    [
        (Stage("train_vae", (), "r", 100, pieces=True), math.inf, ["train_vae"]),
        (Stage("train_vae", (), "r", 100, pieces=True), 560, ["train_vae", "--piece", "460"]),
        (Stage("train_vae", (), "r", 100, pieces=True), 120, None),
        (Stage("distil", (), "r", 170), 169, None),
        (Stage("distil", ("--x", "y"), "r", 170), 171, ["distil", "--x", "y"]),
    ],
)
def test_a_stage_is_begun_only_where_its_time_is_left(stage: Stage, left: float, words: list[str] | None):
    assert command(stage, left, smoke=False) == words


def test_finished_stages_are_not_run_again_and_what_is_left_is_said(tmp_path: Path):
    for stage in stages(tmp_path):
        if stage.module not in ("distil", "train_upsamplers"):
            Path(stage.result).parent.mkdir(parents=True, exist_ok=True)
            Path(stage.result).touch()
    done = subprocess.run(
        [sys.executable, "-m", "training.pipeline", "--out", str(tmp_path), "--minutes", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3
    assert done.stdout.strip() == "distil is not finished: the same command goes on"
