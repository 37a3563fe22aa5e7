"""The recipe inside a video: the same for every run that makes the same file, and enough to make it again."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.home import open_home
from cache.runs import create_run
from orchestrator.find_weights import find_weights
from orchestrator.pipeline import StagePlan
from orchestrator.portable import MARK, located, other_files, portable
from orchestrator.recipe import Recipe, WeightsChoice, recipe_from_json
from orchestrator.settings import Settings, with_recipe
from tests.orchestrator.test_keys_of_recipes import ASKED, CHANGES, recipe_of
from tests.orchestrator.test_pipeline import CHOICE, keys, make, stages_of
from weights.errors import WeightsError
from weights.fingerprint import fingerprint
from weights.resolve import WeightsSet
from weights.tiny_model import tiny_folder
from workers.protocol import Item, Job, Lora, WeightsUse


@pytest.fixture(scope="module")
def weights() -> WeightsSet:
    return find_weights(CHOICE, "max", two_stage=True, temporal=True)


def comments(weights: WeightsSet, recipe: Recipe) -> dict[str, str]:
    """Key of a video -> what it carries."""
    stages = stages_of(weights, recipe)
    return {
        item.key: portable(
            recipe,
            tuple(stages.values()),
            dtype="auto",
            seed=item.params["seed"],
            base=item.params["role"] == "base",
        ).to_json()
        for item in stages["decode"].items
    }


def kept(recipe: Recipe, keep: bool) -> Recipe:
    return replace(recipe, keep_base=keep and recipe.temporal)


@given(ASKED, CHANGES, st.booleans(), st.booleans())
def test_one_key_means_one_comment(
    weights: WeightsSet, asked: dict[str, Any], changes: dict[str, Any], one: bool, two: bool
) -> None:
    first = comments(weights, kept(recipe_of(weights, asked), one))
    second = comments(weights, kept(recipe_of(weights, {**asked, **changes}), two))
    for key in first.keys() & second.keys():
        assert first[key] == second[key]


@given(ASKED, st.booleans())
def test_the_comment_makes_the_same_video(weights: WeightsSet, asked: dict[str, Any], keep: bool) -> None:
    for key, comment in comments(weights, kept(recipe_of(weights, asked), keep)).items():
        assert keys(stages_of(weights, recipe_from_json(comment)))["decode"] == (key,)


def test_a_base_video_is_what_a_run_without_the_temporal_stage_makes(weights: WeightsSet) -> None:
    both = comments(weights, make(weights, keep_base=True))
    alone = comments(weights, make(weights, preset="two-stage"))
    assert both.items() >= alone.items()


def test_it_tells_nothing_of_the_machine(weights: WeightsSet) -> None:
    recipe = make(weights, memory=24 << 30)
    [comment] = comments(weights, recipe).values()
    assert str(tiny_folder()) not in comment
    assert '"memory": null' in comment


def test_fingerprints_become_the_tiny_models_files(weights: WeightsSet, tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    recipe = make(weights)
    relay = tuple(stages_of(weights, recipe, fingerprint=fingerprint).values())
    carried = portable(recipe, relay, dtype="auto", seed=0)
    asked = with_recipe(carried, Settings(prompt=""))
    found = located(asked, home)
    assert found.weights.weights_stage1 == str(tiny_folder() / "ltx-2-tiny-dev.safetensors")
    assert found.weights.gemma == str(tiny_folder() / "gemma-tiny")
    assert not other_files(asked, relay)
    changed = replace(asked, weights=replace(asked.weights, gemma=MARK + "0" * 64))
    [sentence] = other_files(changed, relay)
    assert "the text encoder" in sentence


def test_files_that_nothing_here_knows(tmp_path: Path) -> None:
    """A model's are left to the usual search, all of them; a LoRA has no usual one."""
    home = open_home(tmp_path / "home")
    tiny_gemma = MARK + fingerprint(tiny_folder() / "gemma-tiny")
    asked = Settings("a", weights=WeightsChoice(weights_stage1=MARK + "0" * 64, gemma=tiny_gemma, model_variant="dev"))
    assert located(asked, home).weights == WeightsChoice(model_variant="dev")
    lora = Settings("a", weights=CHOICE, loras=((MARK + "1" * 64, 0.5, None),))
    with pytest.raises(WeightsError) as error:
        located(lora, home)
    assert "--lora FILE:0.5" in error.value.advice
    assert located(replace(lora, loras=(("/a", 1.0, None),)), home).loras == (("/a", 1.0, None),)


def test_files_that_an_earlier_run_used(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    style, noise = tmp_path / "style.safetensors", tmp_path / "noise.safetensors"
    style.write_bytes(b"a style")
    noise.write_bytes(b"noise")
    mark, sha = fingerprint(style), hashlib.sha256(b"noise").hexdigest()
    use = WeightsUse("transformer", "/gone", "2" * 64, (Lora(str(style), 1.0, mark),))
    item = Item("3" * 64, "/o", {"noise": str(noise)}, {"seed": 0, "noise_sha256": sha})
    run = create_run(home, {"prompt": "a"}, "a")
    run.job_path("stage1").write_text(Job("stage1", (item,), (use,), str(home.root)).to_json())
    asked = Settings("a", weights=CHOICE, loras=((MARK + mark, 0.5, "stage1"),), noise=MARK + sha)
    found = located(asked, home)
    assert found.loras == ((str(style), 0.5, "stage1"),)
    assert found.noise == str(noise)
    style.write_bytes(b"another style")  # the same path, other content
    with pytest.raises(WeightsError):
        located(asked, home)


def test_loras_and_noise_are_named_by_content(weights: WeightsSet) -> None:
    recipe = replace(make(weights), loras=(("/l/a.safetensors", 0.5, "stage1"),), noise="/n")
    plain = stages_of(weights, make(weights))
    use = plain["stage1"].weights[0]
    stage1: StagePlan = replace(
        plain["stage1"],
        weights=(replace(use, loras=(Lora("/l/a.safetensors", 0.5, "abc"),)),),
        items=(replace(plain["stage1"].items[0], params={"seed": 0, "noise_sha256": "def"}),),
    )
    carried = portable(recipe, tuple({**plain, "stage1": stage1}.values()), dtype="auto", seed=0)
    assert carried.loras == ((MARK + "abc", 0.5, "stage1"),)
    assert carried.noise == MARK + "def"
    assert carried.weights.distilled_lora == MARK + "print of ltx-2-tiny-distilled-lora.safetensors"
