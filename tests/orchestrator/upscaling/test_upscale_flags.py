"""The flags of both upscale commands become an `UpscaleRecipe`: each flag its field, and no command has the other's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator import cli
from orchestrator.recipe import WeightsChoice
from orchestrator.upscaling.recipe import SPATIAL, TEMPORAL, UpscaleRecipe


@pytest.fixture
def asked(stand_in: Callable[[str], Any]) -> Any:
    return stand_in("orchestrator.upscaling.prepare.prepare")


def said(asked: Any, command: str, *arguments: str) -> UpscaleRecipe:
    assert cli.main([command, *arguments]) == 2
    return asked.calls[-1]


ONE_FLAG_EACH: dict[str, tuple[list[str], object]] = {
    "codec": (["--codec", "ffv1"], "ffv1"),
    "sound": (["--no-sound"], False),
    "dtype": (["--dtype", "float32"], "float32"),
    "memory": (["--memory", "24GB"], 24 << 30),
    "chunk": (["--chunk", "41"], 41),
    "tiles": (["--tiles", "256x32"], (256, 64, 32, 16)),
}
DECIDED = {"kind", "video", "sha256", "weights", "encode_tiles", "from_run"}
"""By the command, by `WEIGHTS` below, or by `prepare`."""
WEIGHTS = {
    "model": (["-m", "there"], "there"),
    "weights": (["--weights", "a.safetensors"], "a.safetensors"),
    "model_version": (["--model-version", "2.3"], None),
}


def test_no_field_of_the_recipe_is_forgotten() -> None:
    assert {field.name for field in fields(UpscaleRecipe)} == DECIDED | set(ONE_FLAG_EACH)


@pytest.mark.parametrize("name", ONE_FLAG_EACH)
@pytest.mark.parametrize("kind", [TEMPORAL, SPATIAL])
def test_a_flag_changes_its_field_and_no_other(asked: Any, kind: str, name: str, tmp_path: Path) -> None:
    plain = said(asked, kind, "a.mp4")
    assert plain == UpscaleRecipe(kind, str(tmp_path / "a.mp4"), "", WeightsChoice())
    flags, value = ONE_FLAG_EACH[name]
    assert said(asked, kind, "a.mp4", *flags) == replace(plain, **{name: value})


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("kind", [TEMPORAL, SPATIAL])
def test_weights_are_chosen_by_absolute_paths(asked: Any, kind: str, name: str, tmp_path: Path) -> None:
    flags, file = WEIGHTS[name]
    expected = "2.3" if file is None else str(tmp_path / file)
    assert said(asked, kind, "a.mp4", *flags).weights == WeightsChoice(**{name: expected})


def test_each_command_has_its_own_upscaler_only(asked: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = said(asked, TEMPORAL, "a.mp4", "--temporal-weights", "t.safetensors").weights
    assert own == WeightsChoice(temporal_upscaler=str(tmp_path / "t.safetensors"))
    own = said(asked, SPATIAL, "a.mp4", "--spatial-upscaler-weights", "s.safetensors").weights
    assert own == WeightsChoice(spatial_upscaler=str(tmp_path / "s.safetensors"))
    capsys.readouterr()
    for command, flag in ((TEMPORAL, "--spatial-upscaler-weights"), (SPATIAL, "--temporal-weights")):
        assert cli.main([command, "a.mp4", flag, "x.safetensors"]) == 2
        assert f"No such option: {flag}" in capsys.readouterr().err


def test_output_overwrite_and_home_reach_prepare(asked: Any, tmp_path: Path) -> None:
    said(asked, TEMPORAL, "a.mp4", "-o", "x.mp4", "--overwrite", "--home", "there")
    assert (asked.arguments["output"], asked.arguments["overwrite"]) == (Path("x.mp4"), True)
    assert asked.arguments["home"].root == tmp_path / "there"
    said(asked, SPATIAL, "a.mp4")
    assert (asked.arguments["output"], asked.arguments["overwrite"]) == (None, False)


@pytest.mark.parametrize("arguments", [[], [""], ["a.mp4", "--tiles", "12"], ["a.mp4", "--json", "--quiet"]])
def test_what_makes_no_recipe_is_refused(asked: Any, arguments: list[str]) -> None:
    assert cli.main([TEMPORAL, *arguments]) == 2
    assert not asked.calls, "before anything was prepared"
