"""Everything that can be known, and refused, before a worker starts.

`prepare` turns what was asked into a `Prepared`: the complete recipe, the weights, the stages with their keys, and
where the videos go. Mistakes end here with exit code 2, 3 or 4 in a sentence; only headers of weights are read, and
nothing is written but the cache of fingerprints.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from cache.home import Home
from orchestrator import planning
from orchestrator.early import Early
from orchestrator.environment import worker_environment
from orchestrator.find_weights import find_weights
from orchestrator.machine import probe
from orchestrator.memory_tiles import Tiles
from orchestrator.noise_file import check_noise, hash_of_noise, noise_shapes
from orchestrator.outputs import check_outputs, renamed, unless_taken
from orchestrator.pipeline import Sources, StagePlan, preview_stage, relay, until
from orchestrator.planning import plan_stages, tiles_for
from orchestrator.portable import located, other_files
from orchestrator.prepared import Chosen, PreparedRelay, fingerprints, means_now, stages_to_compute
from orchestrator.presets import compute_dtype
from orchestrator.recipe import Recipe
from orchestrator.settings import ModelFacts, Settings, check, notes, settle
from orchestrator.video_files import base_path, check_codec, output_paths
from weights.architecture.transformer import TransformerConfig
from weights.resolve import WeightsSet
from weights.tiny_model import TINY_DEFAULTS, is_tiny
from workers.protocol import Item


@dataclass(frozen=True, kw_only=True)
class Prepared(PreparedRelay):
    """The run of a prompt. preview: the contact sheet of stage 1. places: where videos were to go, by seed."""

    recipe: Recipe
    weights: WeightsSet
    preview: StagePlan
    places: Places


@dataclass(frozen=True)
class Places:
    """Seed -> where its video is to go. named: by the user; else one that is taken gets a number."""

    paths: Mapping[int, Path]
    named: bool


def prepare(
    settings: Settings,
    *,
    home: Home,
    output: Path | None = None,
    overwrite: bool = False,
    stop_after: str | None = None,
) -> Prepared:
    """UsageError (2), WeightsError (3) or DoesNotFit (4), the first that applies.

    A wrong path or codec is said before a missing checkpoint is.
    """
    asked = settings
    settings = located(asked, home)
    checked = check(settings)
    check_codec(settings.codec or "h264")
    if not settings.random_seed:
        output_paths(output, settings.prompt, settings.seeds or (0,), settings.codec or "h264", overwrite)
    check_noise(settings.noise, {})
    weights = find_weights(
        settings.weights,
        checked.preset,
        checked.two_stage,
        checked.temporal,
        settings.loras or (),
        settings.quantize,
    )
    facts = model_facts(weights)
    recipe = settle(checked, facts)
    paths = output_paths(output, recipe.prompt, recipe.seeds, recipe.codec, overwrite)
    prepared = assemble(recipe, weights, home, Places(paths, output is not None), overwrite, stop_after)
    remarks = notes(checked, recipe, facts, prepared.machine.backend)
    return replace(prepared, notes=(*other_files(asked, prepared.relay), *remarks, *prepared.notes))


def prepare_recipe(
    recipe: Recipe,
    *,
    home: Home,
    places: Places,
    overwrite: bool,
    stop_after: str | None = None,
) -> Prepared:
    """The same for a recipe that is complete already: a run that is resumed."""
    weights = find_weights(
        recipe.weights, recipe.preset, recipe.two_stage, recipe.temporal, recipe.loras, recipe.quantize
    )
    return assemble(recipe, weights, home, places, overwrite, stop_after)


def assemble(
    recipe: Recipe,
    weights: WeightsSet,
    home: Home,
    places: Places,
    overwrite: bool,
    stop_after: str | None = None,
) -> Prepared:
    """Stages, keys and outputs of a recipe. UsageError when another file is where a video would go."""
    environment = worker_environment(os.environ)
    asked = Early(lambda: probe(home.root / "machine.json", environment))
    fingerprint_of = fingerprints(home)
    begun = {path: Early(partial(fingerprint_of, path)) for path in weights.paths}
    machine = asked.result()
    dtype = compute_dtype(recipe.dtype, machine.backend)
    tiles = tiles_for(recipe, weights, machine, dtype)
    recipe = replace(recipe, tiles=tiles.as_recipe())
    check_noise(recipe.noise, noise_shapes(recipe))
    given = means_now(home, machine, recipe.memory)

    sources = Sources(
        weights=weights,
        fingerprint=lambda path: begun[path].result(),
        numerics={**machine.numerics, "dtype": dtype},
        home=home,
        tiles=tiles.as_params(),
        container=next(iter(places.paths.values())).suffix.lower(),
        noise_sha256=hash_of_noise(recipe.noise),
    )
    whole = relay(recipe, sources)
    stages = whole if stop_after is None else until(whole, stop_after)
    choose = partial(choose_outputs, stages[-1], places, home, overwrite)
    outputs, remarks = choose()
    if not overwrite:
        check_outputs(outputs, home)
    return Prepared(
        recipe=recipe,
        places=places,
        notes=remarks,
        relay=stages,
        stop_after=None if stages[-1].name == "decode" else stop_after,
        preview=preview_stage(whole[1], whole[-1]),
        outputs=outputs,
        choose=choose,
        overwrite=overwrite,
        home=home,
        weights=weights,
        machine=machine,
        environment=environment.for_backend(machine.backend),
        dtype=dtype,
        means=given,
        memory=plan_stages(recipe, stages, given),
        fingerprint=fingerprint_of,
    )


def choose_outputs(last: StagePlan, places: Places, home: Home, overwrite: bool) -> Chosen:
    """Where the videos of the last stage go, by key; no names where it does not make videos."""
    outputs: dict[str, Path] = {}
    remarks: list[str] = []
    for seed, path in places.paths.items() if last.name == "decode" else ():
        files = partial(files_of_seed, [item for item in last.items if item.params["seed"] == seed])
        place = path if places.named or overwrite else unless_taken(path, files, home)
        remarks += renamed(path, place)
        outputs |= files(place)
    return outputs, tuple(remarks)


def files_of_seed(items: Iterable[Item], path: Path) -> dict[str, Path]:
    """Where the videos of one seed go when the first goes to `path`, by key."""
    return {item.key: base_path(path) if item.params["role"] == "base" else path for item in items}


def with_tiles(prepared: Prepared, tiles: Tiles) -> Prepared:
    """The same run with other tiles of the decoder: other videos, under other keys, at the same places."""
    recipe = replace(prepared.recipe, tiles=tiles.as_recipe())
    again = assemble(recipe, prepared.weights, prepared.home, prepared.places, prepared.overwrite, prepared.stop_after)
    return replace(again, notes=prepared.notes, means=prepared.means)


def check_memory(prepared: Prepared) -> None:
    """DoesNotFit (4) when a stage that is still to be computed fits the budget in no way; says what would fit."""
    planning.check_memory(prepared.recipe, prepared.memory, stages_to_compute(prepared), prepared.means)


def model_facts(weights: WeightsSet) -> ModelFacts:
    checkpoint = weights.stage1.checkpoint
    facts = ModelFacts(
        stage1_variant=weights.stage1.variant,
        layers=TransformerConfig.from_metadata(checkpoint.config).num_layers,
        version=checkpoint.version or "2.0",
        spatial_scale=(weights.spatial and weights.spatial.scale) or Fraction(2),
    )
    if not is_tiny(checkpoint.path):
        return facts
    return replace(
        facts,
        default_height=TINY_DEFAULTS.height,
        default_width=TINY_DEFAULTS.width,
        default_frames=TINY_DEFAULTS.frames,
        one_stage_cfg=TINY_DEFAULTS.one_stage_cfg,
    )
