"""The recipe that a video carries inside: what decides its bits, and nothing of the machine that made it.

Two runs whose videos share a key write the same comment, so they write the same file. Files are named by their
fingerprints, since paths differ between machines and tell a stranger about yours; whoever makes the video again gets
the files with those fingerprints that earlier runs here used, or the usual ones, and is told when those are others.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.home import Home
from cache.records import read_json
from cache.runs import Run, list_runs
from orchestrator.pipeline import StagePlan
from orchestrator.presets import compute_dtype
from orchestrator.recipe import LoraChoice, Recipe, WeightsChoice
from orchestrator.settings import Settings
from weights.errors import RelayError, WeightsError
from weights.fingerprint import fingerprint
from weights.tiny_model import tiny_folder
from workers.protocol import Item, WeightsUse

if TYPE_CHECKING:
    from orchestrator.prepare import Prepared

MARK = "fingerprint:"
RUNS = 100
"""So many of the newest runs are asked which files they used."""
_FLAGS = {
    "weights_stage1": "stage 1's checkpoint",
    "weights_stage2": "stage 2's checkpoint",
    "gemma": "the text encoder",
    "spatial_upscaler": "the spatial upscaler",
    "temporal_upscaler": "the temporal upscaler",
    "distilled_lora": "the distilled LoRA",
}


def portable_recipe(prepared: Prepared, item: Item) -> Recipe:
    """Of the video that `item` of the decode stage makes."""
    usual = compute_dtype("auto", prepared.machine.backend)
    return portable(
        prepared.recipe,
        prepared.relay,
        dtype="auto" if prepared.dtype == usual else prepared.dtype,
        seed=item.params["seed"],
        base=item.params["role"] == "base",
        version=prepared.weights.stage1.checkpoint.version,
    )


def portable(
    recipe: Recipe, relay: Sequence[StagePlan], *, dtype: str, seed: int, base: bool = False, version: str | None = None
) -> Recipe:
    """dtype: "auto" where it is what the backend computes in anyway. version: of weights, for files that do not tell.
    base: the video from before temporal upscaling, which a run without that stage makes too.
    """
    temporal = recipe.temporal and not base
    geometry = replace(recipe.geometry, temporal=temporal)
    plays = recipe.playing_fps * geometry.output_fps / recipe.geometry.output_fps
    guided = recipe.cfg != 1.0 or recipe.stg > 0
    noise = [MARK + stage.items[0].params["noise_sha256"] for stage in relay if recipe.noise and stage.name == "stage1"]
    one_stage = "dev" if recipe.stage1_schedule == "dev" else "draft"
    return replace(
        recipe,
        preset="max" if temporal else "two-stage" if recipe.two_stage else one_stage,
        temporal=temporal,
        size=None if geometry.decoded == geometry.output_size else recipe.size,
        guidance_rescale=recipe.guidance_rescale if guided else 0.0,
        seeds=(seed,),
        weights=replace(
            _choice(recipe, {stage.name: stage.weights for stage in relay}, temporal), model_version=version
        ),
        loras=_loras(recipe, relay),
        dtype=dtype,
        keep_base=False,
        noise=noise[0] if noise else None,
        memory=None,
        play_fps=None if plays == geometry.output_fps else str(plays),
    )


def _choice(recipe: Recipe, uses: Mapping[str, tuple[WeightsUse, ...]], temporal: bool) -> WeightsChoice:
    def of(stage: str, role: str) -> str | None:
        found = [use.fingerprint for use in uses.get(stage, ()) if use.role == role]
        return MARK + found[0] if found else None

    stage1, stage2 = of("stage1", "transformer"), of("stage2", "transformer")
    added = [lora.fingerprint for stage in ("stage1", "stage2") for lora in _distilled(recipe, stage, uses)]
    return WeightsChoice(
        weights_stage1=stage1,
        weights_stage2=None if stage2 == stage1 else stage2,
        gemma=of("text", "gemma"),
        spatial_upscaler=of("stage2", "upsampler"),
        temporal_upscaler=of("temporal", "upsampler") if temporal else None,
        distilled_lora=MARK + added[0] if added else None,
        model_variant="distilled" if recipe.stage1_schedule == "distilled" else "dev",
    )


def _transformer_loras(stage: str, uses: Mapping[str, tuple[WeightsUse, ...]]) -> tuple[Any, ...]:
    return next((use.loras for use in uses.get(stage, ()) if use.role == "transformer"), ())


def _distilled(recipe: Recipe, stage: str, uses: Mapping[str, tuple[WeightsUse, ...]]) -> tuple[Any, ...]:
    """The LoRAs that nobody asked for by --lora; those come after it."""
    asked = sum(wanted in (None, stage) for _, _, wanted in recipe.loras)
    loras = _transformer_loras(stage, uses)
    return loras[: len(loras) - asked]


def _loras(recipe: Recipe, relay: Iterable[StagePlan]) -> tuple[LoraChoice, ...]:
    prints = {
        os.path.abspath(lora.path): lora.fingerprint for stage in relay for use in stage.weights for lora in use.loras
    }
    return tuple((MARK + prints[os.path.abspath(path)], strength, at) for path, strength, at in recipe.loras)


# -- and back -----------------------------------------------------------------------------------------------------


def located(settings: Settings, home: Home) -> Settings:
    """Fingerprints become paths. A model's file that no run here knows is left to the usual search.

    WeightsError (3) for a LoRA or noise that nothing here knows: there is no usual one.
    """
    wanted = set(references(settings))
    if not wanted:
        return settings
    known = dict(_known(home, wanted))

    def needed(reference: str, what: str, flag: str) -> str:
        if not reference.startswith(MARK):
            return reference
        if reference not in known:
            raise WeightsError(
                f"The video was made with {what} that no run here used ({reference.removeprefix(MARK)[:12]}...).",
                advice=f"Name the file with {flag}.",
            )
        return known[reference]

    choice = {
        name: known.get(value) if isinstance(value, str) and value.startswith(MARK) else value
        for name, value in vars(settings.weights).items()
    }
    if settings.weights.weights_stage1 in wanted and choice["weights_stage1"] is None:
        # The others were found, and would be refused beside another family's checkpoint.
        choice |= {name: None for name in _FLAGS if vars(settings.weights)[name] in wanted}
    return replace(
        settings,
        weights=WeightsChoice(**choice),
        loras=None
        if settings.loras is None
        else tuple((needed(path, "a LoRA", f"--lora FILE:{s:g}"), s, at) for path, s, at in settings.loras),
        noise=None if settings.noise is None else needed(settings.noise, "noise", "--noise FILE"),
    )


def references(settings: Settings) -> Iterator[str]:
    """The fingerprints among what names files."""
    named = [*vars(settings.weights).values(), *(path for path, _, _ in settings.loras or ()), settings.noise]
    return (name for name in named if isinstance(name, str) and name.startswith(MARK))


def other_files(settings: Settings, relay: Iterable[StagePlan]) -> tuple[str, ...]:
    """A sentence when files serve that are not those of the recipe. settings: as they were before `located`."""
    there = {MARK + use.fingerprint for stage in relay for use in stage.weights}
    there |= {MARK + lora.fingerprint for stage in relay for use in stage.weights for lora in use.loras}
    others = [words for name, words in _FLAGS.items() if _refers(vars(settings.weights)[name], there)]
    if not others:
        return ()
    return (f"Not the file that the recipe was made with: {', '.join(others)}. The video will be another one.",)


def _refers(value: str | None, there: set[str]) -> bool:
    return value is not None and value.startswith(MARK) and value not in there


def _known(home: Home, wanted: set[str]) -> Iterator[tuple[str, str]]:
    """(reference, path) of files that are still there with that content: the tiny model's, and what runs here used."""
    memo, left = home.root / "fingerprints.json", set(wanted)
    for path in _candidates(home, wanted):
        if not left:
            return
        try:
            found = MARK + fingerprint(path, memo)
        except (RelayError, OSError, ValueError):
            continue
        if found in left:
            left.discard(found)
            yield found, path
    yield from ((mark, path) for mark, path in _noises(home, left))


def _candidates(home: Home, wanted: set[str]) -> Iterator[str]:
    with suppress(RelayError, OSError):
        yield from sorted(str(path) for path in tiny_folder().iterdir() if path.is_dir() or path.suffix != ".md")
    for job in _jobs(home):
        for use in _entries(job.get("weights")):
            for file in (use, *_entries(use.get("loras"))):
                if MARK + str(file.get("fingerprint")) in wanted:
                    yield str(file.get("path"))


def _noises(home: Home, wanted: set[str]) -> Iterator[tuple[str, str]]:
    if not wanted:
        return
    for job in _jobs(home):
        for item in _entries(job.get("items")):
            inputs, params = item.get("inputs"), item.get("params")
            path = inputs.get("noise") if isinstance(inputs, dict) else None
            mark = MARK + str(params.get("noise_sha256")) if isinstance(params, dict) else ""
            if isinstance(path, str) and mark in wanted:
                with suppress(OSError), open(path, "rb") as file:
                    if MARK + hashlib.file_digest(file, "sha256").hexdigest() == mark:
                        yield mark, path


def _jobs(home: Home) -> Iterator[dict[str, Any]]:
    for summary in list_runs(home)[:RUNS]:
        for path in sorted((Run(home.run_folder(summary.id)).folder / "jobs").glob("*.json")):
            try:
                yield read_json(Path(path), what="job")
            except RelayError:
                continue


def _entries(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
