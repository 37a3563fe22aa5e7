"""Flags become settings: each flag its field, every alias its flag, a recipe below the flags."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from orchestrator import cli
from orchestrator.commands.asked import parse_lora, parse_memory, parse_seeds, parse_tiles
from orchestrator.recipe import Recipe, WeightsChoice
from orchestrator.settings import ModelFacts, Settings, check, settle
from weights.errors import UsageError


@pytest.fixture
def asked(stand_in: Callable[[str], Any]) -> Any:
    return stand_in("orchestrator.prepare.prepare")


def said(asked: Any, *arguments: str, command: str = "generate") -> Settings:
    assert cli.main([command, *arguments]) == 2
    return asked.calls[-1]


ONE_FLAG_EACH: dict[str, tuple[list[str], object]] = {
    "negative_prompt": (["--negative-prompt", ""], ""),
    "preset": (["--preset", "draft"], "draft"),
    "pipeline": (["--pipeline", "two-stage"], "two-stage"),
    "height": (["-H", "96"], 96),
    "width": (["-W", "64"], 64),
    "size": (["--size", "1920x1080"], (1920, 1080)),
    "frames": (["-f", "33"], 33),
    "fps": (["--fps", "23.976"], Fraction(24000, 1001)),
    "play_fps": (["--play-fps", "30000/1001"], Fraction(30000, 1001)),
    "steps": (["--steps", "4"], 4),
    "steps_stage1": (["--steps-stage1", "5"], 5),
    "steps_stage2": (["--steps-stage2", "6"], 6),
    "cfg": (["--cfg", "4.5"], 4.5),
    "cfg_stage1": (["--cfg-stage1", "3"], 3.0),
    "guidance_rescale": (["--guidance-rescale", "0.7"], 0.7),
    "stg": (["--stg", "1"], 1.0),
    "stg_blocks": (["--stg-blocks", "28,29"], (28, 29)),
    "temporal": (["--no-temporal"], False),
    "seeds": (["-s", "7"], (7,)),
    "random_seed": (["--seed", "random"], True),
    "dtype": (["--dtype", "float32"], "float32"),
    "fp16": (["--fp16"], True),
    "codec": (["--codec", "ffv1"], "ffv1"),
    "keep_base": (["--keep-base"], True),
    "memory": (["--memory", "24GB"], 24 << 30),
    "tiles": (["--tiles", "512x64"], (512, 64, 64, 24)),
    "loras": (["--lora", "/l.safetensors:0.5@stage1"], (("/l.safetensors", 0.5, "stage1"),)),
    "quantize": (["--quantize", "8"], 8),
    "generate_audio": (["--generate-audio"], True),
}
WEIGHTS: dict[str, str] = {
    "model": "--model",
    "weights": "--weights",
    "weights_stage1": "--weights-stage1",
    "weights_stage2": "--weights-stage2",
    "gemma": "--gemma",
    "spatial_upscaler": "--spatial-upscaler-weights",
    "temporal_upscaler": "--temporal-weights",
    "distilled_lora": "--distilled-lora",
}


def test_every_setting_has_its_flag() -> None:
    missing = {field.name for field in fields(Settings)} - {"prompt", "weights", "noise", *ONE_FLAG_EACH}
    assert not missing
    assert {field.name for field in fields(WeightsChoice)} == {*WEIGHTS, "model_variant", "model_version"}


@pytest.mark.parametrize("name", ONE_FLAG_EACH)
@pytest.mark.parametrize("command", ["generate", "plan"])
def test_a_flag_changes_its_setting_and_no_other(asked: Any, name: str, command: str) -> None:
    flags, value = ONE_FLAG_EACH[name]
    assert said(asked, "a fox", *flags, command=command) == replace(Settings("a fox"), **{name: value})


@pytest.mark.parametrize(
    ("text", "tiles"),
    [
        ("256x32", (256, 64, 32, 16)),
        ("128X16", (128, 32, 16, 8)),
        ("0x64", (0, 64, 64, 24)),
        ("512x0", (512, 64, 0, 24)),
    ],
)
def test_tiles_get_the_overlaps_of_their_size(text: str, tiles: tuple[int, ...]) -> None:
    assert parse_tiles(text) == tiles


@pytest.mark.parametrize("text", ["512", "x", "axb", "512x", "-512x64", "1.5x2", "1" * 40 + "x64"])
def test_what_are_no_tiles(text: str) -> None:
    with pytest.raises(UsageError, match="--tiles"):
        parse_tiles(text)


@pytest.mark.parametrize("tiles", [(500, 64, 64, 24), (512, 64, 65, 24), (32, 0, 64, 24), (64, 64, 64, 24)])
def test_tiles_that_the_decoder_cannot_take_are_refused(tiles: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="--tiles"):
        check(Settings("a fox", tiles=tiles))


@pytest.mark.parametrize("name", WEIGHTS)
def test_paths_of_weights_become_absolute(asked: Any, name: str, tmp_path: Path) -> None:
    assert said(asked, "a fox", WEIGHTS[name], "some/where").weights == WeightsChoice(
        **{name: str(tmp_path / "some/where")}
    )


def test_tiny_is_a_name_and_not_a_folder(asked: Any, tmp_path: Path) -> None:
    assert said(asked, "a fox", "--model", "tiny").weights.model == "tiny"
    assert said(asked, "a fox", "--model", "./tiny").weights.model == str(tmp_path / "tiny")
    assert said(asked, "a fox", "--noise", "n.safetensors").noise == str(tmp_path / "n.safetensors")
    assert said(asked, "a fox", "--model-variant", "dev").weights.model_variant == "dev"
    assert said(asked, "a fox", "--model-version", "2.3").weights.model_version == "2.3"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a/style.safetensors", ("/a/style.safetensors", 1.0, None)),
        ("/a/style.safetensors:0.8", ("/a/style.safetensors", 0.8, None)),
        ("/a/style.safetensors:-.5", ("/a/style.safetensors", -0.5, None)),
        ("/a/style.safetensors@stage2", ("/a/style.safetensors", 1.0, "stage2")),
        ("/a/style.safetensors:1e-1@STAGE1", ("/a/style.safetensors", 0.1, "stage1")),
        ("/a/x@y.safetensors", ("/a/x@y.safetensors", 1.0, None)),
        ("/a/b:c.safetensors", ("/a/b:c.safetensors", 1.0, None)),
        ("/me@home/b:2/c.safetensors:3", ("/me@home/b:2/c.safetensors", 3.0, None)),
        ("/a/style.safetensors@decode", ("/a/style.safetensors", 1.0, "decode")),
        (":0.5", ("", 0.5, None)),
    ],
)
def test_a_lora_is_read_from_its_end(text: str, expected: tuple[str, float, str | None]) -> None:
    assert parse_lora(text) == expected


@pytest.mark.parametrize("rest", [":abc", ":nan", ":0.5@", "@", "::", ":0.5@stage1@stage2", ":0.5:0.5"])
def test_what_follows_a_lora_and_is_no_strength_is_refused(rest: str, tmp_path: Path) -> None:
    path = tmp_path / "a:b@c.safetensors"
    path.touch()
    with pytest.raises(UsageError) as caught:
        parse_lora(f"{path}{rest}")
    assert f"--lora {path}: {rest!r} is no strength or stage" in caught.value.message
    assert parse_lora(f"{path}:0.5@stage1") == (str(path), 0.5, "stage1")


def test_loras_add_up_in_their_order(asked: Any, tmp_path: Path) -> None:
    assert said(asked, "a fox", "--lora", "one", "--lora", "two:2").loras == (
        (str(tmp_path / "one"), 1.0, None),
        (str(tmp_path / "two"), 2.0, None),
    )


@pytest.mark.parametrize(
    ("alias", "flag", "value"),
    [
        ("--cfg-scale", "--cfg", "4"),
        ("--guidance-scale", "--cfg", "4"),
        ("--video-cfg-guidance-scale", "--cfg", "4"),
        ("--video-rescale-scale", "--guidance-rescale", "0.5"),
        ("--video-stg-guidance-scale", "--stg", "1"),
        ("--checkpoint-path", "--weights", "a.safetensors"),
        ("--gemma-root", "--gemma", "g"),
        ("--spatial-upsampler-path", "--spatial-upscaler-weights", "s.safetensors"),
        ("--stage1-steps", "--steps-stage1", "4"),
        ("--stage2-steps", "--steps-stage2", "4"),
        ("--num-frames", "--frames", "33"),
        ("--frame-rate", "--fps", "30"),
        ("--num-inference-steps", "--steps", "9"),
        ("-H", "--height", "64"),
        ("-W", "--width", "64"),
        ("-s", "--seed", "5"),
        ("-f", "--frames", "33"),
        ("-p", "--preset", "draft"),
        ("-m", "--model", "tiny"),
        ("-n", "--negative-prompt", "blur"),
    ],
)
def test_other_names_mean_the_same(asked: Any, alias: str, flag: str, value: str) -> None:
    assert said(asked, "a fox", alias, value) == said(asked, "a fox", flag, value) != Settings("a fox")


def test_the_prompt_may_be_a_flag(asked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(asked, "--prompt", "a fox", "--cfg", "3") == said(asked, "a fox", "--cfg", "3")
    assert cli.main(["generate", "a fox", "--prompt", "a cat"]) == 2
    assert "two prompts" in capsys.readouterr().err
    assert cli.main(["generate", "--prompt", " "]) == 2
    assert "The prompt is empty" in capsys.readouterr().err


def test_output_overwrite_and_home_reach_prepare(asked: Any, tmp_path: Path) -> None:
    said(asked, "a fox", "-o", "x.mp4", "--overwrite", "--home", "there")
    assert asked.arguments["output"] == Path("x.mp4")
    assert asked.arguments["overwrite"] is True
    assert asked.arguments["home"].root == tmp_path / "there"
    said(asked, "a fox")
    assert asked.arguments["home"].root == tmp_path / "home"
    assert (asked.arguments["output"], asked.arguments["overwrite"]) == (None, False)


def test_a_prompt_may_begin_with_a_hyphen_after_two(asked: Any) -> None:
    assert said(asked, "--height", "64", "--", "--json is a word").prompt == "--json is a word"


@pytest.mark.parametrize(
    ("words", "count", "seeds"),
    [
        (None, None, None),
        (["3"], None, (3,)),
        (["1,2, 3"], None, (1, 2, 3)),
        (["1", "2"], None, (1, 2)),
        (None, 3, (0, 1, 2)),
        (["5"], 2, (5, 6)),
        (["random"], None, ()),
        (["Random"], None, ()),
        (["-1"], None, (-1,)),
    ],
)
def test_seeds(words: list[str] | None, count: int | None, seeds: tuple[int, ...] | None) -> None:
    assert parse_seeds(words, count) == seeds


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["x"], None),
        ([""], None),
        (["1,"], None),
        (["1", "random"], None),
        (["random"], 2),
        (["1,2"], 2),
        (None, 0),
        (None, 1001),
        (["1.5"], None),
        (["\u0663"], None),
        (["9" * 5000], None),
    ],
)
def test_what_is_no_seed(words: list[str] | None, count: int | None) -> None:
    with pytest.raises(UsageError, match="--seed"):
        parse_seeds(words, count)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24GB", 24 << 30),
        ("24GiB", 24 << 30),
        ("24g", 24 << 30),
        (" 1.5 gb ", 3 << 29),
        ("512MB", 512 << 20),
        ("1TB", 1 << 40),
    ],
)
def test_memory_is_counted_in_powers_of_two(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["24", "", "GB", "-1GB", "lots", "1e3GB", "24 GBs", "0GB", "10MB", "9" * 400 + "GB"])
def test_what_is_no_memory(text: str) -> None:
    with pytest.raises(UsageError, match="--memory"):
        parse_memory(text)


def recipe() -> Recipe:
    settings = Settings("a fox", size=(100, 98), seeds=(4, 5), cfg=3.0, memory=8 << 30)
    return settle(check(settings), ModelFacts("dev", 48))


def write_recipe(tmp_path: Path, **changes: Any) -> str:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({**recipe().to_dict(), **changes}))
    return str(path)


def test_a_recipe_alone_makes_the_same_recipe_again(asked: Any, tmp_path: Path) -> None:
    settings = said(asked, "--recipe", write_recipe(tmp_path))
    assert settle(check(settings), ModelFacts("dev", 48)) == recipe()


def test_flags_win_over_the_recipe(asked: Any, tmp_path: Path) -> None:
    settings = said(asked, "a cat", "--recipe", write_recipe(tmp_path), "--cfg", "2", "--seeds", "3", "--fps", "30")
    made = settle(check(settings), ModelFacts("dev", 48))
    changed = {"prompt": "a cat", "cfg": 2.0, "seeds": (4, 5, 6), "fps": "30"}
    assert asdict(made) == {**asdict(recipe()), **changed}


def test_one_random_seed_replaces_those_of_the_recipe(asked: Any, tmp_path: Path) -> None:
    assert check(said(asked, "--recipe", write_recipe(tmp_path), "--seed", "random")).settings.seeds is None


def test_fp16_replaces_the_dtype_of_the_recipe(asked: Any, tmp_path: Path) -> None:
    assert check(said(asked, "--recipe", write_recipe(tmp_path, dtype="float32"), "--fp16")).settings.dtype is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a recipe"),
        (b"# A text", "not a recipe of ltx-relay, and no video"),
        (b"\xff\xfe\x00", "it is not text, and no video"),
        (b'{"format": 99, "prompt": ""}', "format 99"),
        (b" " * (5 << 20), "not a recipe"),
    ],
)
def test_a_file_that_is_no_recipe(
    asked: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, sentence: str
) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(content)
    assert cli.main(["generate", "--recipe", str(path)]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert f"--recipe {path}" in error
    assert not hasattr(asked, "settings")


@pytest.mark.parametrize(
    ("flag", "words"), [("--frames", "it must be a whole number"), ("--cfg", "it must be a number")]
)
def test_what_is_no_number(capsys: pytest.CaptureFixture[str], flag: str, words: str) -> None:
    assert cli.main(["generate", "a cat", flag, "many"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "parse" not in error
