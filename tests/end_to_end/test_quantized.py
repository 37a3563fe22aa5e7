"""Quantised weights and LoRAs as a user meets them: the command, its refusals, and videos from what it wrote."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.relay import wait_for_a_stop
from weights.select import select
from weights.tiny_model import tiny_folder

TINY = tiny_folder() / "ltx-2-tiny-dev.safetensors"
LORA = str(tiny_folder() / "ltx-2-tiny-distilled-lora.safetensors")


def present(folder: Path) -> set[str]:
    """What lies beside the home and the machine's lock."""
    return {path.name for path in folder.iterdir()} - {"home", "machine.lock"}


@pytest.fixture(scope="module")
def written(shared: Any) -> Path:
    """A folder with an 8-bit checkpoint and a 4-bit text encoder."""
    for arguments in ((str(TINY), "--bits", "8"), (str(TINY.parent / "gemma-tiny"), "--bits", "4")):
        name = Path(arguments[0]).name.replace(".safetensors", f"-{arguments[2]}bit.safetensors")
        result = shared("weights", "quantize", *arguments, "--output", name, "--json")
        assert result.code == 0, result.err
        done = result.events[-1]
        assert done["event"] == "quantized"
        assert done["path"] == str(shared.folder / name)
        layers = result.of("step")
        assert layers[-1]["index"] == layers[-1]["total"] == len(layers)
    return shared.folder


def test_copies_have_their_names_only_when_they_are_whole(written: Path) -> None:
    assert present(written) == {"ltx-2-tiny-dev-8bit.safetensors", "gemma-tiny"}
    assert select(written / "ltx-2-tiny-dev-8bit.safetensors", "transformer").affine is not None
    names = {path.name for path in (TINY.parent / "gemma-tiny").iterdir()}
    assert {path.name for path in (written / "gemma-tiny").iterdir()} == names
    config = json.loads((written / "gemma-tiny" / "config.json").read_text())
    assert config["quantization"]["bits"] == 4


def test_a_video_from_quantised_files(written: Path, shared: Any) -> None:
    files = ("--weights", "ltx-2-tiny-dev-8bit.safetensors", "--gemma", "gemma-tiny")
    result = shared.generate(*files, "--output", "small.mp4")
    assert result.code == 0, result.err
    read = {event["stage"]: event["bytes_read"] for event in result.of("stage_done")}
    assert str(written / "ltx-2-tiny-dev-8bit.safetensors") in read["stage1"]
    assert str(written / "gemma-tiny" / "model.safetensors") in read["text"]
    (lora,) = [event for event in result.of("loaded") if event["stage"] == "stage2" and event.get("loras")]
    assert lora["loras"][0]["summary"] == "50 layers changed, rank 16"
    refused = shared.generate(*files, "--quantize", "4", "--output", "other.mp4")
    assert refused.code == 3
    assert "is quantised to 8 bits already" in refused.err
    assert not refused.of("stage_started")


def test_bits_and_loras_are_part_of_what_is_computed(shared: Any) -> None:
    short = ("--preset", "dev", "--steps", "2")
    base = ("--model", "tiny", "--height", "64", "--width", "96", "--frames", "9", *short, "--json")

    def stages(*arguments: str) -> list[str]:
        result = shared("generate", "A red ball", *base, *arguments, "--output", f"{len(arguments)}.mp4", "--overwrite")
        assert result.code == 0, result.err
        return [event["stage"] for event in result.of("stage_started")]

    assert stages() == ["text", "stage1", "decode"]
    assert stages("--quantize", "8") == ["stage1", "decode"]
    assert stages("--quantize", "8") == []
    lora = ("--lora", f"{LORA}:0.5@stage1")
    assert stages(*lora) == ["stage1", "decode"]
    assert stages(*lora, "--quantize", "4") == ["stage1", "decode"]
    assert stages("--lora", f"{LORA}:0.5") == [], "the same LoRA at the same strength on the same stage"
    assert stages("--lora", f"{LORA}:0.6") == ["stage1", "decode"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--lora", f"{TINY}:0.5"), 3, "--lora names"),
        (("--lora", "absent.safetensors"), 3, "absent.safetensors"),
        (("--lora", f"{LORA}@stage3"), 2, "there is no stage 'stage3'"),
        (("--lora", f"{LORA}:999"), 2, "out of range"),
        (("--quantize", "6"), 2, "8 or 4 bits"),
    ],
)
def test_refusals(shared: Any, arguments: tuple[str, ...], code: int, words: str) -> None:
    result = shared.generate(*arguments, "--output", "refused.mp4")
    assert result.code == code
    assert words in result.err
    assert not result.of("stage_started")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((str(TINY), "--bits", "6"), 2, "8 or 4 bits"),
        ((str(TINY), "--output", "x.bin"), 2, "must end in .safetensors"),
        ((str(TINY), "--output", "nowhere/x.safetensors"), 2, "does not exist"),
        ((LORA,), 3, "is a lora"),
        (("absent.safetensors",), 3, "does not exist"),
        ((str(TINY), "--output", "there.safetensors"), 2, "exists; nothing was changed"),
        ((str(TINY.parent / "gemma-tiny"), "--output", "folder", "--overwrite"), 2, "exists; nothing was changed"),
    ],
)
def test_refused_copies(shared: Any, arguments: tuple[str, ...], code: int, words: str) -> None:
    (shared.folder / "there.safetensors").write_text("mine")
    (shared.folder / "folder").mkdir(exist_ok=True)
    result = shared("weights", "quantize", *arguments)
    assert (result.code, result.out) == (code, "")
    assert words in result.err
    assert (shared.folder / "there.safetensors").read_text() == "mine"


def test_a_copy_that_was_interrupted_leaves_nothing(program: Any) -> None:
    command = ("weights", "quantize", str(TINY), "--output", "x.safetensors", "--json")
    process = program.start(*command, LTX_RELAY_FAILPOINTS="quantize.event.step:2=stop")
    worker = wait_for_a_stop(process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    os.kill(worker, signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not present(program.folder)


def test_overwriting_a_copy(program: Any) -> None:
    (program.folder / "x.safetensors").write_text("old")
    result = program("weights", "quantize", str(TINY), "-o", "x.safetensors", "--overwrite", "--quiet")
    assert (result.code, result.err) == (0, "")
    assert result.out == f"{program.folder / 'x.safetensors'}\n"
    assert select(program.folder / "x.safetensors", "transformer").affine is not None
