"""Bad input: one sentence, the right exit code, and no run, no worker, nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import weights

TINY = Path(weights.__file__).parent / "tiny"
DEV = TINY / "ltx-2-tiny-dev.safetensors"
SPATIAL = TINY / "ltx-2-tiny-spatial-upscaler-x2.safetensors"


def cut_file(folder: Path) -> None:
    (folder / "cut.safetensors").write_bytes(DEV.read_bytes()[:9_000_000])


def cut_header(folder: Path) -> None:
    (folder / "cut.safetensors").write_bytes(DEV.read_bytes()[:1000])


def huge_header(folder: Path) -> None:
    (folder / "cut.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + b"{}")


def web_page(folder: Path) -> None:
    (folder / "cut.safetensors").write_text("<!DOCTYPE html><html>404</html>")


def no_file(folder: Path) -> None:
    pass


def a_folder(folder: Path) -> None:
    (folder / "out.mp4").mkdir()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--height", "481"], 2, "--height 481"),
        (["--frames", "96"], 2, "--frames 96"),
        (["--preset", "best"], 2, "draft, dev, two-stage, max"),
        (["--codec", "prores", "--output", "out.mp4"], 2, ".mov"),
        (["--codec", "ffv1", "--output", "out.mp4"], 2, ".mkv"),
        (["--codec", "vp9"], 2, "vp9"),
        (["--output", "nowhere/out.mp4"], 2, "nowhere"),
        (["--output", "/proc/out.mp4"], 2, "/proc/out.mp4"),
        (["--size", "big"], 2, "WIDTHxHEIGHT"),
        (["--seed", "1,1"], 2, "--seed"),
        (["--noise", str(SPATIAL)], 2, "--noise"),
        (["--recipe", str(DEV)], 2, "--recipe"),
        (["--weights", "none.safetensors"], 3, "none.safetensors"),
        (["--weights", str(SPATIAL)], 3, "spatial upscaler"),
        (["--spatial-upscaler-weights", str(DEV)], 3, "--spatial-upscaler-weights"),
        (["--gemma", str(DEV)], 3, "--gemma"),
        (["--model", "nowhere"], 3, "nowhere"),
        (["--model-version", "3.0"], 3, "--model-version"),
        (["--distilled-lora", str(SPATIAL)], 3, "--distilled-lora"),
        (["--no-such-flag"], 2, "--no-such-flag"),
        (["--cfg", "much"], 2, "--cfg"),
    ],
)
def test_one_line_before_anything_starts(program: Any, arguments: list[str], code: int, said: str) -> None:
    model = [] if "--model" in arguments else ["--model", "tiny"]
    result = program("generate", "a ball", *model, *arguments)
    refused(program, result, code, said)


def refused(program: Any, result: Any, code: int, said: str) -> None:
    assert result.code == code, result.err
    assert said in result.err
    first, *advice = result.err.strip().splitlines()
    assert first.startswith("Error: ")
    assert len(advice) <= 1
    assert "Traceback" not in result.err
    assert result.out == ""
    assert not program.runs()
    assert not list(program.folder.glob("*.mp4"))


@pytest.mark.parametrize("damage", [cut_file, cut_header, huge_header, web_page, no_file])
def test_damaged_weights_are_named(program: Any, damage: Callable[[Path], None]) -> None:
    damage(program.folder)
    refused(program, program("generate", "a ball", "--weights", "cut.safetensors"), 3, "cut.safetensors")


def test_no_weights_names_both_ways_out(program: Any) -> None:
    result = program("generate", "a ball", HF_HOME=str(program.folder / "hub"))
    refused(program, result, 3, "--model tiny")
    assert "hf download Lightricks/LTX-2" in result.err


def test_an_empty_prompt(program: Any) -> None:
    refused(program, program("generate", " ", "--model", "tiny"), 2, "prompt is empty")


def test_the_output_is_a_folder(program: Any) -> None:
    a_folder(program.folder)
    result = program("generate", "a ball", "--model", "tiny", "--output", "out.mp4")
    assert result.code == 2
    assert "folder" in result.err


def test_json_says_errors_as_events(program: Any) -> None:
    result = program("generate", "a ball", "--model", "tiny", "--frames", "96", "--json")
    assert result.code == 2
    (event,) = [json.loads(line) for line in result.out.splitlines()]
    assert (event["event"], event["exit_code"]) == ("error", 2)
    assert "--frames 96" in event["message"]


def test_a_plan_starts_nothing(program: Any) -> None:
    result = program("plan", "a ball", "--model", "tiny", "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert [stage["name"] for stage in report["stages"]] == ["text", "stage1", "stage2", "temporal", "decode"]
    assert not any(stage["cached"] for stage in report["stages"])
    assert report["output"] == [384, 256]
    assert not program.runs()
    assert not list((program.home / "objects").glob("*/*"))
