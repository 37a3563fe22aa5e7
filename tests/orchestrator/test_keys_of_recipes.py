"""Keys over all of a recipe: two recipes share a stage's key exactly if what decides that stage's bits is the same.

`decisive` says for each stage, in the user's terms and without the pipeline's code, what its result depends on.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.find_weights import find_weights
from orchestrator.recipe import Recipe, recipe_from_json
from tests.orchestrator.test_pipeline import CHOICE, keys, make, stages_of
from weights.resolve import WeightsSet


@pytest.fixture(scope="module")
def weights() -> WeightsSet:
    return find_weights(CHOICE, "max", two_stage=True, temporal=True)


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "prompt": st.sampled_from(["a fox", "a fox.", "A fox", "a  fox", "fox"]),
    "negative_prompt": st.sampled_from([None, "", "bad"]),
    "preset": st.sampled_from(["dev", "two-stage", "max"]),
    "height": st.sampled_from([64, 96]),
    "width": st.sampled_from([64, 96]),
    "frames": st.sampled_from([9, 17]),
    "fps": st.sampled_from([None, Fraction(24), Fraction(24000, 1001), Fraction(12)]),
    "play_fps": st.sampled_from([None, Fraction(24), Fraction(48), Fraction(12)]),
    "steps_stage1": st.sampled_from([2, 3]),
    "steps_stage2": st.sampled_from([None, 2, 3, 4]),
    "cfg": st.sampled_from([1.0, 3.0, 3.5]),
    "guidance_rescale": st.sampled_from([0.0, 0.7]),
    "stg": st.sampled_from([0.0, 1.0]),
    "seeds": st.sampled_from([(0,), (1,), (1, 0)]),
    "codec": st.sampled_from(["h264", "hevc"]),
    "dtype": st.sampled_from([None, "float32"]),
    "memory": st.sampled_from([None, 24 << 30]),
}
ASKED = st.fixed_dictionaries(FIELDS)
CHANGES = st.lists(st.sampled_from(sorted(FIELDS)), max_size=2, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: FIELDS[name] for name in names})
)


def recipe_of(weights: WeightsSet, asked: dict[str, Any]) -> Recipe:
    """One stage has no steps of stage 2."""
    return make(weights, **{**asked, **({"steps_stage2": None} if asked["preset"] == "dev" else {})})


def decisive(recipe: Recipe, seed: int) -> dict[str, tuple[Any, ...]]:
    """What decides each stage's result for a seed."""
    guided, skipping = recipe.cfg != 1.0, recipe.stg > 0
    text = (recipe.prompt, recipe.negative_prompt)
    stage1 = (
        text,
        (recipe.height, recipe.width, recipe.frames, Fraction(recipe.fps)),
        (recipe.stage1_schedule, recipe.steps_stage1, seed),
        (recipe.cfg, recipe.guidance_rescale if guided or skipping else None, recipe.stg),
    )
    last: tuple[Any, ...] = stage1
    found: dict[str, tuple[Any, ...]] = {"text": text, "stage1": stage1}
    if recipe.two_stage:
        last = found["stage2"] = (stage1, recipe.steps_stage2)
    if recipe.temporal:
        last = found["temporal"] = ("temporal", last)
    playing = Fraction(recipe.play_fps or Fraction(recipe.fps) * (2 if recipe.temporal else 1))
    found["decode"] = (last, recipe.codec, recipe.size, playing)
    return found


@settings(max_examples=1_000, deadline=None)
@given(ASKED, CHANGES)
def test_keys_are_shared_exactly_where_bits_are(
    weights: WeightsSet, asked: dict[str, Any], changes: dict[str, Any]
) -> None:
    one, other = recipe_of(weights, asked), recipe_of(weights, {**asked, **changes})
    first, second = keys(stages_of(weights, one)), keys(stages_of(weights, other))
    for place, seed in enumerate(one.seeds):
        for other_place, other_seed in enumerate(other.seeds):
            left, right = decisive(one, seed), decisive(other, other_seed)
            for stage in left.keys() & right.keys():
                where, there = (0, 0) if stage == "text" else (place, other_place)
                same = first[stage][where] == second[stage][there]
                assert same == (left[stage] == right[stage]), (stage, changes)
    assert first.keys() == decisive(one, 0).keys()


@given(ASKED)
def test_no_two_stages_or_seeds_share_a_key(weights: WeightsSet, asked: dict[str, Any]) -> None:
    recipe = recipe_of(weights, asked)
    found = [key for stage in keys(stages_of(weights, recipe)).values() for key in stage]
    assert len(set(found)) == len(found)


@given(ASKED)
def test_the_recipe_alone_gives_the_same_keys(weights: WeightsSet, asked: dict[str, Any]) -> None:
    """As recipe.json it goes through text; what it says of memory or of its other seeds changes nothing."""
    recipe = recipe_of(weights, asked)
    read = recipe_from_json(recipe.to_json())
    assert keys(stages_of(weights, read)) == keys(stages_of(weights, recipe))
    alone = replace(read, seeds=read.seeds[-1:], memory=1 << 40)
    assert keys(stages_of(weights, alone))["decode"][-1] == keys(stages_of(weights, recipe))["decode"][-1]
