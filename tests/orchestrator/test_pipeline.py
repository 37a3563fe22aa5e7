"""The stage graph: which stages a recipe means, what each reads, whose key depends on what, what has to be computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.home import Home
from orchestrator import pipeline
from orchestrator.find_weights import find_weights
from orchestrator.pipeline import Sources, StagePlan, needed, relay
from orchestrator.prepare import model_facts
from orchestrator.recipe import Recipe, WeightsChoice
from orchestrator.settings import Settings, check, settle
from weights.resolve import LoraUse, WeightsSet
from weights.tiny_model import tiny_folder
from workers.protocol import Item

CHOICE = WeightsChoice(model="tiny")
TILES = {"spatial": 512, "spatial_overlap": 64, "temporal": 64, "temporal_overlap": 24}


@pytest.fixture(scope="module")
def weights() -> WeightsSet:
    return find_weights(CHOICE, "max", two_stage=True, temporal=True)


def make(weights: WeightsSet, **asked: Any) -> Recipe:
    settings = Settings(**{"prompt": "a red ball", "weights": CHOICE, **asked})
    return settle(check(settings), model_facts(weights))


def stages_of(weights: WeightsSet, recipe: Recipe, **changes: Any) -> dict[str, StagePlan]:
    sources = Sources(
        weights=weights,
        fingerprint=lambda path: f"print of {path.name}",
        numerics={"backend": "cpu", "blas": "openblas", "threads": 2, "dtype": "float32"},
        home=Home(Path("/home")),
        tiles=TILES,
        container=".mp4",
    )
    return {stage.name: stage for stage in relay(recipe, replace(sources, **changes))}


def keys(stages: Mapping[str, StagePlan]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(item.key for item in stage.items) for name, stage in stages.items()}


@pytest.mark.parametrize(
    ("preset", "names"),
    [
        ("max", ["text", "stage1", "stage2", "temporal", "decode"]),
        ("two-stage", ["text", "stage1", "stage2", "decode"]),
        ("dev", ["text", "stage1", "decode"]),
    ],
)
def test_stages_of_the_presets(weights: WeightsSet, preset: str, names: list[str]) -> None:
    assert list(stages_of(weights, make(weights, preset=preset))) == names


def test_each_worker_reads_its_own_networks_and_nothing_else(weights: WeightsSet) -> None:
    stages = stages_of(weights, make(weights))
    roles = {name: [use.role for use in stage.weights] for name, stage in stages.items()}
    assert roles == {
        "text": ["gemma", "projection", "connector"],
        "stage1": ["transformer"],
        "stage2": ["statistics", "upsampler", "transformer"],
        "temporal": ["statistics", "upsampler"],
        "decode": ["statistics", "vae_decoder"],
    }
    assert not stages["stage1"].weights[0].loras
    assert len(stages["stage2"].weights[2].loras) == 1, "dev and the distilled LoRA are stage 2's model"


CHANGES: list[tuple[dict[str, Any], str | None]] = [
    ({"prompt": "a blue box"}, "text"),
    ({"negative_prompt": "nothing"}, "text"),
    ({"seeds": (1,)}, "stage1"),
    ({"cfg": 3.0}, "stage1"),
    ({"guidance_rescale": 0.5}, "stage1"),
    ({"stg": 1.0}, "stage1"),
    ({"steps_stage1": 14}, "stage1"),
    ({"height": 96}, "stage1"),
    ({"frames": 33}, "stage1"),
    ({"fps": 25}, "stage1"),
    ({"steps_stage2": 4}, "stage2"),
    ({"temporal": False}, "decode"),
    ({"codec": "hevc"}, "decode"),
    ({"play_fps": 30}, "decode"),
    ({"size": (380, 250)}, "decode"),
    ({"memory": 8 << 30}, None),
    ({"quantize": 8}, "stage1"),
    ({"quantize": 4}, "stage1"),
]


@pytest.mark.parametrize(("change", "first"), CHANGES)
def test_a_change_renews_what_depends_on_it_and_nothing_before(
    weights: WeightsSet, change: dict[str, Any], first: str | None
) -> None:
    before, after = keys(stages_of(weights, make(weights))), keys(stages_of(weights, make(weights, **change)))
    order = list(before)
    renewed = order[order.index(first) :] if first else []
    assert {name for name in after if after[name] != before[name]} == set(renewed) & set(after)


@given(
    st.fixed_dictionaries({name: st.booleans() for name in ("prompt", "cfg", "steps", "stage2", "codec", "seed")}),
    st.fixed_dictionaries({name: st.booleans() for name in ("prompt", "cfg", "steps", "stage2", "codec", "seed")}),
)
def test_recipes_share_exactly_the_keys_of_what_they_share(
    weights: WeightsSet, one: dict[str, bool], other: dict[str, bool]
) -> None:
    def build(flags: dict[str, bool]) -> dict[str, tuple[str, ...]]:
        recipe = make(
            weights,
            prompt="a" if flags["prompt"] else "b",
            cfg=2.0 if flags["cfg"] else 3.0,
            steps_stage1=4 if flags["steps"] else 5,
            steps_stage2=2 if flags["stage2"] else 3,
            codec="h264" if flags["codec"] else "hevc",
            seeds=(1,) if flags["seed"] else (2,),
        )
        return keys(stages_of(weights, recipe))

    parts = {"text": {"prompt"}, "stage1": {"cfg", "steps", "seed"}, "stage2": {"stage2"}, "decode": {"codec"}}
    decides: set[str] = set()
    first, second = build(one), build(other)
    for name in first:
        decides |= parts.get(name, set())
        assert (first[name] == second[name]) == all(one[flag] == other[flag] for flag in decides)


def test_numerics_tiles_weights_and_container_are_in_the_keys(weights: WeightsSet) -> None:
    recipe = make(weights)
    base = keys(stages_of(weights, recipe))
    assert keys(stages_of(weights, recipe, numerics={"backend": "metal", "dtype": "bfloat16"}))["text"] != base["text"]
    tiled = keys(stages_of(weights, recipe, tiles={**TILES, "spatial": 256}))
    assert tiled["temporal"] == base["temporal"]
    assert tiled["decode"] != base["decode"]
    assert keys(stages_of(weights, recipe, container=".mkv"))["decode"] != base["decode"]
    other = keys(stages_of(weights, recipe, fingerprint=lambda path: f"{path.name}{'2' * ('spatial' in path.name)}"))
    same_names = keys(stages_of(weights, recipe, fingerprint=lambda path: path.name))
    assert other["stage1"] == same_names["stage1"]
    assert other["stage2"] != same_names["stage2"]
    assert keys(stages_of(weights, recipe, home=Home(Path("/elsewhere")))) == base, "a home's place changes no bit"


LORA = str(tiny_folder() / "ltx-2-tiny-distilled-lora.safetensors")
OTHER = "/a/style.safetensors"


def test_loras_with_their_strengths_and_order_are_in_the_keys(weights: WeightsSet) -> None:
    """Their sum is rounded in the order in which they are named."""

    def with_loras(stage1: tuple[tuple[str, float], ...], stage2: tuple[tuple[str, float], ...]) -> dict[str, Any]:
        uses = {
            name: replace(model, loras=tuple(LoraUse(Path(path), strength) for path, strength in loras))
            for name, model, loras in (("stage1", weights.stage1, stage1), ("stage2", weights.stage2, stage2))
            if model is not None
        }
        changed = replace(weights, stage1=uses["stage1"], stage2=uses["stage2"])
        return keys(stages_of(changed, make(weights)))

    one, two = ((LORA, 1.0),), ((LORA, 1.0), (OTHER, 0.5))
    sets: tuple[tuple[tuple[str, float], ...], ...] = (
        (), one, ((LORA, 0.9),), ((LORA, -1.0),), ((OTHER, 1.0),), two, two[::-1], ((LORA, 0.5), (OTHER, 1.0)),
    )  # fmt: skip
    assert len({with_loras(loras, one)["stage1"] for loras in sets}) == len(sets)
    second = [with_loras(one, loras) for loras in sets]
    assert len({found["stage2"] for found in second}) == len(sets)
    assert len({found["stage1"] for found in second}) == 1, "stage 2's LoRAs change nothing before it"
    assert len({found["text"] for found in second}) == 1


def test_blocks_of_stg_are_in_the_keys(weights: WeightsSet) -> None:
    found = [keys(stages_of(weights, make(weights, stg=1.0, stg_blocks=blocks))) for blocks in ((1,), (2,), (1, 2))]
    assert len({one["stage1"] for one in found}) == 3
    assert len({one["text"] for one in found}) == 1


def test_a_rescale_counts_where_stg_alone_guides(weights: WeightsSet) -> None:
    def stage1(**asked: Any) -> tuple[str, ...]:
        return keys(stages_of(weights, make(weights, cfg=1.0, **asked)))["stage1"]

    assert stage1(stg=1.0, guidance_rescale=0.7) != stage1(stg=1.0)
    assert stage1(guidance_rescale=0.7) == stage1()


def test_a_stage_whose_numbers_changed_is_computed_again(weights: WeightsSet, monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(stages_of(weights, make(weights)))
    for index, name in enumerate(before):
        with monkeypatch.context() as patch:
            patch.setitem(pipeline.CODE_VERSIONS, name, 99)
            after = keys(stages_of(weights, make(weights)))
        assert [stage for stage in after if after[stage] != before[stage]] == list(before)[index:]


def test_how_weights_are_held_is_in_the_key_of_each_stage_that_denoises(weights: WeightsSet) -> None:
    """Also where the stage before is the same."""
    plain, quantised = (stages_of(weights, make(weights, quantize=bits)) for bits in (None, 8))
    for name in ("stage1", "stage2"):
        assert quantised[name].params == {**plain[name].params, "quantize": 8}


def test_half_precision_is_never_for_text(weights: WeightsSet) -> None:
    recipe = make(weights)

    def dtypes(backend: str) -> dict[str, str]:
        stages = stages_of(weights, recipe, numerics={"backend": backend, "dtype": "float16"})
        return {name: stage.dtype for name, stage in stages.items()}

    assert dtypes("metal") == {
        **dict.fromkeys(("stage1", "stage2", "temporal", "decode"), "float16"),
        "text": "bfloat16",
    }
    assert dtypes("cpu")["text"] == "float32"
    half, full = (
        keys(stages_of(weights, recipe, numerics={"backend": "metal", "dtype": dtype}))
        for dtype in ("float16", "bfloat16")
    )
    assert half["text"] == full["text"], "the text is shared"
    assert half["stage1"] != full["stage1"]


def test_a_given_noise_is_in_the_key_by_its_content(weights: WeightsSet) -> None:
    recipe = make(weights, noise="/a/noise.safetensors")
    base = keys(stages_of(weights, recipe, noise_sha256="1"))
    assert keys(stages_of(weights, replace(recipe, noise="/b/noise.safetensors"), noise_sha256="1")) == base
    assert keys(stages_of(weights, recipe, noise_sha256="2"))["stage1"] != base["stage1"]
    assert base["stage1"] != keys(stages_of(weights, replace(recipe, noise=None)))["stage1"]


@pytest.mark.parametrize(
    ("play_fps", "rates"), [(None, {"video": "48", "base": "24"}), (30, {"video": "30", "base": "15"})]
)
def test_the_base_video_plays_as_long_as_the_other(
    weights: WeightsSet, play_fps: int | None, rates: dict[str, str]
) -> None:
    """It has half of the frames."""
    decode = stages_of(weights, make(weights, keep_base=True, fps=24, play_fps=play_fps))["decode"]
    assert {item.params["role"]: item.params["fps"] for item in decode.items} == rates


def test_a_sweep_shares_the_text(weights: WeightsSet) -> None:
    stages = stages_of(weights, make(weights, seeds=(3, 4, 5), keep_base=True))
    assert [len(stage.items) for stage in stages.values()] == [1, 3, 3, 3, 6]
    single = keys(stages_of(weights, make(weights, seeds=(4,))))
    assert keys(stages)["stage1"][1] == single["stage1"][0], "a seed's result does not depend on its neighbours"
    assert keys(stages)["decode"][1] == single["decode"][0]


def names_of(todo: Mapping[str, tuple[Item, ...]]) -> set[str]:
    return {name for name, items in todo.items() if items}


def test_what_is_needed_is_found_from_the_end(weights: WeightsSet) -> None:
    stages = tuple(stages_of(weights, make(weights)).values())

    def todo(*there: str) -> set[str]:
        return names_of(needed(stages, lambda stage, item: stage.name in there))

    assert todo() == {"text", "stage1", "stage2", "temporal", "decode"}
    assert todo("text", "stage1", "stage2", "temporal", "decode") == set()
    assert todo("decode") == set(), "a finished video needs nothing before it"
    assert todo("temporal") == {"decode"}
    assert todo("text", "stage1") == {"stage2", "temporal", "decode"}
    assert todo("stage2") == {"temporal", "decode"}
    assert todo("stage1") == {"text", "stage2", "temporal", "decode"}, "stage 2 reads the text too"


def test_only_the_missing_seed_is_needed(weights: WeightsSet) -> None:
    stages = stages_of(weights, make(weights, seeds=(3, 4)))
    lost = {stages[name].items[1].key for name in ("stage2", "temporal", "decode")}
    todo = needed(tuple(stages.values()), lambda stage, item: item.key not in lost)
    assert {name: [item.params.get("seed") for item in items] for name, items in todo.items()} == {
        "text": [],
        "stage1": [],
        "stage2": [4],
        "temporal": [4],
        "decode": [4],
    }
