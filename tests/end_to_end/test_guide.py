"""The guide's command lines, with only the program's name changed, are accepted and do what the guide says.

The weights lie as the guide lays them out: `weights/ltx-2/` in the current folder, under their official names. What
each line comes to is read from `plan`, which takes the same flags and makes the same recipe; two lines really run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator import cli
from tests.end_to_end.conftest import Program
from tests.official import lay_out

HERE = "weights/ltx-2/"
DEV, DISTILLED = f"{HERE}ltx-2-19b-dev.safetensors", f"{HERE}ltx-2-19b-distilled.safetensors"
SPATIAL = f"{HERE}ltx-2-spatial-upscaler-x2-1.0.safetensors"
TEMPORAL = f"{HERE}ltx-2-temporal-upscaler-x2-1.0.safetensors"
PROMPT = "A red ball bouncing on green grass"


@dataclass(frozen=True)
class Line:
    """A command line after the program's name and the prompt, and what it comes to."""

    flags: str
    output: tuple[int, int, int, int]
    """Width, height, frames, frames a second of the video."""
    recipe: dict[str, Any] = field(default_factory=dict)
    stage1: str = DEV
    stage2: str = DISTILLED
    """The checkpoint that the stage reads."""


TWO_STAGE = {"preset": "two-stage", "two_stage": True, "temporal": False, "steps_stage1": 15, "steps_stage2": 3}
TWO_STAGE |= {"cfg": 5.0, "height": 480, "width": 704, "frames": 97, "guidance_rescale": 0.0, "fps": "24"}
ONE_STAGE = {"two_stage": False, "temporal": False, "steps_stage2": 0}
LARGE, SMALL = (1408, 960, 97, 24), (704, 480, 97, 24)

LINES = {
    # the flow, with every default and with every default said
    "two-stage": Line("--pipeline two-stage", LARGE, TWO_STAGE),
    "two-stage, all said": Line(
        f"--pipeline two-stage --height 480 --width 704 --frames 97 --steps-stage1 15 --steps-stage2 3 --cfg 5.0"
        f" --weights {DISTILLED} --spatial-upscaler-weights {SPATIAL} --fp16 --output videos/out.mp4",
        LARGE,
        {**TWO_STAGE, "stage1_schedule": "distilled"},
        stage1=DISTILLED,
    ),
    "two-stage, dev, 25 steps": Line(
        f"--pipeline two-stage --model-variant dev --weights {DEV} --spatial-upscaler-weights {SPATIAL}"
        " --height 480 --width 704 --frames 97 --steps-stage1 25 --steps-stage2 3 --cfg 7.0 --fp16",
        LARGE,
        {**TWO_STAGE, "steps_stage1": 25, "cfg": 7.0, "stage1_schedule": "dev"},
        stage2=DEV,
    ),
    # the four levels of quality
    "level 1, distilled": Line(
        f"--pipeline text-to-video --model-variant distilled --weights {DISTILLED} --steps 8 --cfg 5.0",
        SMALL,
        {**ONE_STAGE, "preset": "draft", "steps_stage1": 8, "cfg": 5.0, "stage1_schedule": "distilled"},
        stage1=DISTILLED,
    ),
    "level 1, by default": Line(
        "--pipeline text-to-video", SMALL, {**ONE_STAGE, "preset": "draft", "steps_stage1": 8}, stage1=DISTILLED
    ),
    "level 2, two-stage": Line("--pipeline two-stage --cfg 5.0", LARGE, TWO_STAGE),
    "level 3, with temporal upscaling": Line(
        f"--preset max --cfg 5.0 --spatial-upscaler-weights {SPATIAL} --temporal-weights {TEMPORAL}",
        (1408, 960, 193, 48),
        {**TWO_STAGE, "preset": "max", "temporal": True},
    ),
    "level 3, as a flag of two-stage": Line(
        f"--pipeline two-stage --temporal --temporal-weights {TEMPORAL}",
        (1408, 960, 193, 48),
        {**TWO_STAGE, "temporal": True},
    ),
    "level 4, dev": Line(
        f"--pipeline text-to-video --model-variant dev --weights {DEV} --steps 30 --cfg 7.0",
        SMALL,
        {**ONE_STAGE, "preset": "dev", "steps_stage1": 30, "cfg": 7.0},
    ),
    "level 4, by default": Line(
        "--pipeline text-to-video --model-variant dev",
        SMALL,
        {**ONE_STAGE, "preset": "dev", "steps_stage1": 30, "cfg": 7.0},
    ),
    # its advice: colours, quality, memory; its rates
    "colours": Line(
        "--pipeline two-stage --guidance-rescale 0.7", LARGE, {**TWO_STAGE, "guidance_rescale": pytest.approx(0.7)}
    ),
    "quality": Line("--pipeline two-stage --steps-stage1 20 --cfg 6.0", LARGE, {"steps_stage1": 20, "cfg": 6.0}),
    "guidance of stage 1 by its own name": Line(
        "--pipeline two-stage --cfg 5.0 --cfg-stage1 7.0", LARGE, {"cfg": 7.0, "steps_stage2": 3}
    ),
    "old guidance": Line("--pipeline two-stage --cfg 3.0", LARGE, {"cfg": 3.0}),
    "fewer frames": Line("--pipeline two-stage --frames 49", (1408, 960, 49, 24), {"frames": 49}),
    "smaller": Line(
        "--pipeline two-stage --height 256 --width 384 --frames 33", (768, 512, 33, 24), {"height": 256, "width": 384}
    ),
    "rates": Line("--pipeline two-stage --temporal --fps 8", (1408, 960, 193, 16), {"fps": "8"}),
    "base video kept": Line(
        "--preset max --keep-base --output smooth.mp4", (1408, 960, 193, 48), {"keep_base": True, "temporal": True}
    ),
    # the names that other tools use
    "other names": Line(
        "--pipeline two-stage -H 256 -W 384 --num-frames 49 --frame-rate 30 --stage1-steps 20 --stage2-steps 4"
        " --cfg-scale 6 -s 7 -o out.mp4",
        (768, 512, 49, 30),
        {"steps_stage1": 20, "steps_stage2": 4, "cfg": 6.0, "seeds": [7], "fps": "30"},
    ),
    "names of the official programs": Line(
        f"--pipeline two-stage --checkpoint-path {DEV} --gemma-root {HERE}gemma-3-12b --num-frames 121"
        f" --distilled-lora {HERE}ltx-2-19b-distilled-lora-384.safetensors --spatial-upsampler-path {SPATIAL}"
        " --video-cfg-guidance-scale 3.0 --video-stg-guidance-scale 1.0 --video-rescale-scale 0.7 --seed 10"
        " --frame-rate 24 --output-path out.mp4",
        (1408, 960, 121, 24),
        {"cfg": 3.0, "stg": 1.0, "guidance_rescale": 0.7, "seeds": [10]},
        stage2=DEV,
    ),
}


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Program:
    program = Program(tmp_path_factory.mktemp("guide"))
    lay_out(program.folder / "weights/ltx-2")
    (program.folder / "videos").mkdir()
    return program


@pytest.fixture
def here(guide: Program, monkeypatch: pytest.MonkeyPatch) -> Program:
    """The same folder and home, for commands in this process."""
    monkeypatch.chdir(guide.folder)
    for name in ("LTX_RELAY_HOME", "LTX_RELAY_THREADS"):
        monkeypatch.setenv(name, guide.environment[name])
    monkeypatch.delenv("LTX_RELAY_WEIGHTS", raising=False)
    return guide


@pytest.mark.parametrize("name", LINES)
def test_a_line_comes_to_what_the_guide_says(here: Program, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = LINES[name]
    assert cli.main(["plan", PROMPT, *line.flags.split(), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    width, height, frames, fps = line.output
    assert (plan["output"], plan["output_frames"], str(plan["output_fps"])) == ([width, height], frames, str(fps))
    assert {name: plan["recipe"][name] for name in line.recipe} == line.recipe
    read = {stage["name"]: [Path(use["path"]) for use in stage["weights"]] for stage in plan["stages"]}
    assert here.folder / line.stage1 in read["stage1"]
    if plan["recipe"]["two_stage"]:
        assert {here.folder / line.stage2, here.folder / SPATIAL} <= set(read["stage2"])
    assert ("temporal" in read) == plan["recipe"]["temporal"]
    if "--output " in line.flags:
        assert str(here.folder / line.flags.split("--output ")[1].split()[0]) in plan["outputs"]


def test_every_line_is_read_alike_without_a_command(here: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide's program has no commands: the prompt comes first, or last."""
    asked: list[Any] = []

    def keep(settings: Any, **rest: Any) -> None:
        asked.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.prepare.prepare", keep)
    for line in LINES.values():
        flags = line.flags.split()
        for words in (["generate", PROMPT, *flags], [PROMPT, *flags], [*flags, PROMPT]):
            assert cli.main(words) == 130
    assert len(asked) == 3 * len(LINES)
    assert all(asked[i] == asked[i + 1] == asked[i + 2] for i in range(0, len(asked), 3))


@pytest.mark.parametrize(
    ("flags", "code", "sentence"),
    [
        ("--pipeline two-stage --generate-audio", 2, "Two-stage generation is video-only; use --pipeline text-to-vid"),
        ("--pipeline text-to-video --generate-audio", 2, "--generate-audio is not there yet"),
        ("--pipeline two-stage --preset max", 2, "contradict each other"),
        (
            "--pipeline text-to-video --model-variant dev --weights " + DISTILLED,
            3,
            "is the distilled model by its name",
        ),
        (
            "--pipeline two-stage --spatial-upscaler-weights weights/ltx-2/gone.safetensors",
            3,
            "hf download Lightricks/",
        ),
        ("--pipeline two-stage --height 500", 2, "32"),
    ],
)
def test_what_the_guide_has_no_answer_to_is_refused(
    here: Program, flags: str, code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([PROMPT, *flags.split()]) == code
    assert sentence in capsys.readouterr().err
    assert here.runs() == []


def test_a_missing_upscaler_is_named_with_the_command_that_fetches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out(tmp_path / "weights/ltx-2", without=("ltx-2-spatial",))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    assert cli.main([PROMPT, "--pipeline", "two-stage"]) == 3
    assert "ltx-2-spatial-upscaler-x2-1.0.safetensors" in capsys.readouterr().err


RUN = f"--height 64 --width 96 --frames 9 --steps-stage1 3 --cfg 5.0 --spatial-upscaler-weights {SPATIAL} --fp16"


def test_the_guides_flow_really_runs(guide: Program, read_video: Callable[[Path], Any]) -> None:
    """Its longest line with a small size: the video, what stands in its file, and what is kept beside it."""
    flags = f"{RUN} --steps-stage2 2 --temporal-weights {TEMPORAL} --keep-base --output videos/smooth.mp4"
    result = guide(PROMPT, *flags.split(), "--json")
    assert result.code == 0, result.err
    smooth = read_video(guide.folder / "videos/smooth.mp4")
    assert (smooth.frames.shape, smooth.rate) == ((17, 128, 192, 3), 48)
    base = read_video(guide.folder / "videos/smooth.base.mp4")
    assert (base.frames.shape, base.rate) == ((9, 128, 192, 3), 24)
    recipe = json.loads((guide.runs()[-1] / "recipe.json").read_text())
    assert json.loads(smooth.metadata["comment"])["steps_stage1"] == recipe["steps_stage1"] == 3
    steps = [(e["stage"], e["index"], e["total"]) for e in result.of("step") if e["stage"].startswith("stage")]
    assert steps == [("stage1", 1, 3), ("stage1", 2, 3), ("stage1", 3, 3), ("stage2", 1, 2), ("stage2", 2, 2)]


def test_a_recipe_makes_it_again_and_flags_win(guide: Program, read_video: Callable[[Path], Any]) -> None:
    """One stage of the dev model, then its recipe with another seed."""
    flags = f"--pipeline text-to-video --model-variant dev --weights {DEV} --height 64 --width 96 --frames 9 --steps 2"
    first = guide(PROMPT, *flags.split(), "--cfg", "7.0", "--output", "dev.mp4", "--json")
    assert first.code == 0, first.err
    recipe = guide.runs()[-1] / "recipe.json"
    assert guide("generate", "--recipe", str(recipe), "--seed", "5", "--output", "again.mp4").code == 0
    one, other = read_video(guide.folder / "dev.mp4"), read_video(guide.folder / "again.mp4")
    assert one.frames.shape == other.frames.shape == (9, 64, 96, 3)
    assert (one.frames != other.frames).any()
    again = json.loads(other.metadata["comment"])
    assert (again["seeds"], again["cfg"], again["preset"], again["steps_stage1"]) == ([5], 7.0, "dev", 2)
