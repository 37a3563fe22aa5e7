"""From flags to a recipe: presets, contradictions, defaults that depend on the weights."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.recipe import Recipe, WeightsChoice, recipe_from_dict, recipe_from_json
from orchestrator.settings import ModelFacts, Settings, check, notes, settle, with_recipe
from weights.errors import UsageError

DEV = ModelFacts("dev", 48)
DISTILLED = ModelFacts("distilled", 48)


def recipe(facts: ModelFacts = DEV, **asked: object) -> Recipe:
    return settle(check(Settings(**{"prompt": "a red ball", **asked})), facts)  # type: ignore[arg-type]


def test_the_default_is_max_with_the_guides_numbers() -> None:
    made = recipe()
    assert (made.preset, made.two_stage, made.temporal) == ("max", True, True)
    assert (made.height, made.width, made.frames, made.fps) == (480, 704, 97, "24")
    assert (made.steps_stage1, made.steps_stage2, made.cfg) == (15, 3, 5.0)
    assert (made.guidance_rescale, made.stg, made.seeds) == (0.0, 0.0, (0,))


@pytest.mark.parametrize(
    ("preset", "facts", "expected"),
    [
        ("draft", DISTILLED, (False, False, 8, 0, 1.0)),
        ("dev", DEV, (False, False, 30, 0, 7.0)),
        ("dev", replace(DEV, one_stage_cfg=3.0), (False, False, 30, 0, 3.0)),
        ("max", replace(DEV, one_stage_cfg=3.0), (True, True, 15, 3, 5.0)),
        ("draft", replace(DISTILLED, one_stage_cfg=3.0), (False, False, 8, 0, 1.0)),
        ("two-stage", DEV, (True, False, 15, 3, 5.0)),
        ("two-stage", DISTILLED, (True, False, 8, 3, 1.0)),
        ("max", DEV, (True, True, 15, 3, 5.0)),
    ],
)
def test_presets(preset: str, facts: ModelFacts, expected: tuple[object, ...]) -> None:
    made = recipe(facts, preset=preset)
    assert (made.two_stage, made.temporal, made.steps_stage1, made.steps_stage2, made.cfg) == expected


def test_more_guidance_than_suits_the_model_is_given_where_it_is_asked_for() -> None:
    asked = check(Settings("a ball", preset="dev", cfg=7.0))
    assert settle(asked, replace(DEV, one_stage_cfg=3.0)).cfg == 7.0


def test_explicit_guidance_on_a_distilled_model_works_and_is_remarked_on() -> None:
    asked = Settings("a ball", cfg=5.0, steps_stage1=15)
    made = settle(check(asked), DISTILLED)
    assert (made.cfg, made.steps_stage1) == (5.0, 15)
    assert any("without guidance" in note for note in notes(check(asked), made, DISTILLED, "metal"))
    assert not notes(check(Settings("a ball")), recipe(), DEV, "metal")


@pytest.mark.parametrize(
    ("pipeline", "variant", "preset"),
    [
        ("two-stage", None, "two-stage"),
        ("text-to-video", None, "draft"),
        ("text-to-video", "distilled", "draft"),
        ("text-to-video", "dev", "dev"),
    ],
)
def test_the_guides_pipelines(pipeline: str, variant: str | None, preset: str) -> None:
    settings = Settings("a ball", pipeline=pipeline, weights=WeightsChoice(model_variant=variant))
    assert check(settings).preset == preset


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"prompt": "  "}, "prompt is empty"),
        ({"prompt": "x" * 30_000}, "longer than"),
        ({"preset": "best"}, "--preset 'best'"),
        ({"pipeline": "three-stage"}, "--pipeline"),
        ({"preset": "max", "pipeline": "two-stage"}, "contradict"),
        ({"preset": "draft", "weights": WeightsChoice(model_variant="dev")}, "contradicts"),
        ({"frames": 96}, "--frames 96"),
        ({"height": 481}, "--height 481"),
        ({"size": (1408, 960), "height": 480}, "--size"),
        ({"size": (1409, 960)}, "even"),
        ({"fps": Fraction(0)}, "--fps"),
        ({"steps": 20}, "--steps is for one stage"),
        ({"preset": "draft", "steps_stage2": 3}, "--steps-stage2"),
        ({"preset": "draft", "steps": 8, "steps_stage1": 9}, "same thing"),
        ({"steps_stage1": 0}, "--steps-stage1 0"),
        ({"cfg": float("nan")}, "--cfg"),
        ({"guidance_rescale": 1.5}, "--guidance-rescale"),
        ({"seeds": (-1,)}, "--seed -1"),
        ({"seeds": (3, 3)}, "twice"),
        ({"seeds": (3,), "random_seed": True}, "random"),
        ({"dtype": "int8"}, "--dtype"),
        ({"dtype": "float32", "fp16": True}, "--fp16"),
        ({"preset": "draft", "temporal": True}, "--temporal"),
        ({"preset": "dev", "keep_base": True}, "--keep-base"),
        ({"generate_audio": True}, "video-only; use --pipeline text-to-video"),
        ({"preset": "draft", "generate_audio": True}, "not there yet"),
    ],
)
def test_what_is_refused_names_the_flag(asked: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        check(Settings(**{"prompt": "a ball", **asked}))  # type: ignore[arg-type]
    assert caught.value.exit_code == 2


def test_the_final_size_is_cropped_from_the_smallest_base() -> None:
    made = recipe(size=(1000, 560))
    assert (made.height, made.width, made.size) == (288, 512, (1000, 560))
    assert made.geometry.output_size == (1000, 560)
    assert recipe(size=(1408, 960)).size is None, "nothing to crop"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"stg_blocks": (3,)}, "--stg"),
        ({"stg": 0.0, "stg_blocks": (3,)}, "--stg"),
        ({"stg": 1.0, "stg_blocks": (3, 3)}, "twice"),
        ({"stg": 1.0, "stg_blocks": ()}, "no block"),
    ],
)
def test_blocks_of_stg_that_would_do_nothing_or_cannot_be(asked: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=f"--stg-blocks.*{said}"):
        recipe(**asked)


def test_a_recipes_stg_can_be_switched_off() -> None:
    made = recipe(stg=1.0, stg_blocks=(3, 4))
    assert settle(check(with_recipe(made, Settings(prompt="", stg=0.0))), DEV).stg_blocks == ()
    assert settle(check(with_recipe(made, Settings(prompt="", stg=2.0))), DEV).stg_blocks == (3, 4)


def test_a_rescale_without_guidance_is_remarked_on() -> None:
    def remarks(**asked: object) -> bool:
        settings = Settings("a ball", preset="draft", guidance_rescale=0.7, **asked)  # type: ignore[arg-type]
        made = settle(check(settings), DISTILLED)
        return any("--guidance-rescale" in note for note in notes(check(settings), made, DISTILLED, "metal"))

    assert remarks()
    assert not remarks(cfg=3.0)
    assert not remarks(stg=1.0)


def test_stg_takes_the_official_block_of_each_version() -> None:
    assert recipe(stg=1.0).stg_blocks == (29,)
    assert recipe(ModelFacts("dev", 48, version="2.3"), stg=1.0).stg_blocks == (28,)
    assert recipe(ModelFacts("dev", 5), stg=1.0).stg_blocks == (3,)
    assert recipe().stg_blocks == ()
    with pytest.raises(UsageError, match="blocks 0 to 47"):
        recipe(stg=1.0, stg_blocks=(48,))


def test_a_random_seed_is_told() -> None:
    asked = check(Settings("a ball", random_seed=True))
    made = settle(asked, DEV)
    assert any(str(made.seeds[0]) in note for note in notes(asked, made, DEV, "cpu"))


def test_an_empty_negative_prompt_stays_empty() -> None:
    assert recipe(negative_prompt="").negative_prompt == ""
    assert recipe().negative_prompt != ""


ASKED = st.fixed_dictionaries(
    {
        "prompt": st.text(min_size=1, max_size=40).filter(str.strip),
        "preset": st.sampled_from(["draft", "dev", "two-stage", "max"]),
        "negative_prompt": st.none() | st.text(max_size=20),
        "frames": st.none() | st.integers(0, 40).map(lambda k: 8 * k + 1),
        "size": st.none() | st.tuples(*[st.integers(1, 1000).map(lambda k: 2 * k)] * 2),
        "fps": st.none() | st.fractions(1, 120, max_denominator=1001),
        "cfg": st.none() | st.floats(0, 20),
        "stg": st.none() | st.floats(0, 3),
        "guidance_rescale": st.none() | st.floats(0, 1),
        "steps_stage1": st.none() | st.integers(1, 50),
        "seeds": st.none() | st.lists(st.integers(0, 2**40), min_size=1, max_size=4, unique=True).map(tuple),
        "codec": st.sampled_from(["h264", "hevc"]),
    }
)


@given(ASKED, st.sampled_from([DEV, DISTILLED]))
def test_a_recipe_survives_its_json_and_repeats_itself(asked: dict[str, object], facts: ModelFacts) -> None:
    made = settle(check(Settings(**asked)), facts)  # type: ignore[arg-type]
    assert recipe_from_json(made.to_json()) == made
    again = settle(check(with_recipe(made, Settings(prompt=""))), facts)
    assert again == made


def test_explicit_flags_win_over_a_recipe() -> None:
    made = recipe(size=(1000, 560), seeds=(1, 2), steps_stage1=20)
    changed = with_recipe(made, Settings(prompt="", seeds=(5,), cfg=3.0, height=480, width=704))
    again = settle(check(changed), DEV)
    assert (again.seeds, again.cfg, again.size, again.height, again.steps_stage1) == ((5,), 3.0, None, 480, 20)
    draft = settle(check(with_recipe(made, Settings(prompt="", preset="draft"))), DISTILLED)
    assert (draft.two_stage, draft.steps_stage1, draft.cfg) == (False, 8, 1.0)


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 2},
        {"format": None},
        {"prompt": 7},
        {"seeds": "1"},
        {"seeds": [1.5]},
        {"fps": "fast"},
        {"scale": "1/0"},
        {"weights": {"model": 3}},
        {"weights": {"run": "rm"}},
        {"height": True},
        {"cfg": float("nan")},
        {"unknown": 1},
        {"size": [1, 2, 3]},
    ],
)
def test_a_damaged_recipe_is_a_sentence(damage: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        recipe_from_dict({**recipe().to_dict(), **damage})
    with pytest.raises(UsageError):
        recipe_from_dict({k: v for k, v in recipe().to_dict().items() if k not in damage or k == "unknown"} | damage)


@pytest.mark.parametrize("text", ["", "[]", "7", "{", "[" * 100_000, '"prompt"', "null", '{"format":1,"prompt":"x"}'])
def test_what_is_no_recipe(text: str) -> None:
    with pytest.raises(UsageError):
        recipe_from_json(text)


def test_recipes_are_immutable() -> None:
    made = recipe()
    assert replace(made, cfg=3.0) != made


LORA = ("/l.safetensors", 0.5, "stage1")


def test_loras_and_bits_are_in_the_recipe_and_survive_json() -> None:
    made = recipe(loras=(LORA, ("/m.safetensors", -1.0, None)), quantize=4)
    assert (made.loras, made.quantize) == ((LORA, ("/m.safetensors", -1.0, None)), 4)
    assert recipe_from_json(made.to_json()) == made
    again = with_recipe(made, Settings(""))
    assert (again.loras, again.quantize) == (made.loras, 4)
    assert with_recipe(made, Settings("", loras=(LORA,), quantize=8)).loras == (LORA,)
    assert with_recipe(made, Settings("", quantize=8)).quantize == 8


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"quantize": 6}, "--quantize 6"),
        ({"loras": (("/l", 1.0, "decode"),)}, "there is no stage 'decode'"),
        ({"loras": (("/l", 101.0, None),)}, "the strength 101 is out of range"),
        ({"loras": (("/l", float("nan"), None),)}, "out of range"),
        ({"loras": (("", 1.0, None),)}, "names no file"),
        ({"loras": (("/l", 1.0, "stage2"),), "preset": "draft"}, "is for stage 2; --preset draft has one stage"),
    ],
)
def test_wrong_loras_and_bits(asked: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe(**asked)
    assert words in caught.value.message


@pytest.mark.parametrize(
    "change",
    [
        {"quantize": 3},
        {"quantize": True},
        {"loras": [["/l", 1.0]]},
        {"loras": [["/l", "1", None]]},
        {"loras": [["/l", 1.0, "stage3"]]},
        {"loras": [[1, 1.0, None]]},
        {"loras": "/l"},
        {"loras": [["/l", 1e9, None]]},
    ],
)
def test_a_strangers_recipe_with_wrong_loras_or_bits(change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        recipe_from_dict({**recipe().to_dict(), **change})
