"""The whole relay on one screen: which stages a recipe means, what each reads, and the keys of their results.

    text -> stage1 -> stage2 -> temporal -> decode

Pure: recipe, weights and numerics in, `StagePlan`s out; keys are known before anything runs. What changes a bit of a
result is in its key; what does not (residency of weights, log level, the output's name) is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cache.home import Home
from cache.keys import make_key
from orchestrator.recipe import Recipe
from orchestrator.sizes import LATENT_CHANNELS
from weights.errors import UsageError
from weights.resolve import Model, WeightsSet
from workers.protocol import Item, Lora, WeightsUse

CODE_VERSIONS = {
    "text": 2,
    "encode": 1,
    "stage1": 2,
    "stage2": 3,
    "spatial": 1,
    "temporal": 3,
    "decode": 2,
    "join": 1,
}
"""A stage's number rises only when the same job gives other bits; every cached result of that stage is then stale."""

VIDEO_STAGES = ("decode", "join")
"""What these make are videos; the others make artifacts."""


@dataclass(frozen=True)
class StagePlan:
    """One worker's work: its items share the weights and the parameters."""

    name: str
    items: tuple[Item, ...]
    weights: tuple[WeightsUse, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"


@dataclass(frozen=True)
class Ground:
    """What keys and places of results are made from.

    `fingerprint` gives a file's or folder's; `numerics` holds what of the machine changes bits: backend, dtype, and on
    a CPU the BLAS and its threads; `container` the video file's ending.
    """

    fingerprint: Callable[[Path], str]
    numerics: Mapping[str, Any]
    home: Home
    container: str


@dataclass(frozen=True)
class Sources(Ground):
    """What keys and jobs need beside the recipe. `tiles`: the decoder's tile sizes."""

    weights: WeightsSet
    tiles: Mapping[str, int | None]
    noise_sha256: str | None = None


def relay(recipe: Recipe, sources: Sources) -> tuple[StagePlan, ...]:
    """The stages of `recipe` in the order in which they run."""
    text = text_stage(recipe, sources)
    stage1 = stage1_stage(recipe, sources, text)
    latest, stages = stage1, [text, stage1]
    if recipe.two_stage:
        latest = stage2_stage(recipe, sources, text, stage1)
        stages.append(latest)
    base = latest
    if recipe.temporal:
        latest = temporal_stage(recipe, sources, latest)
        stages.append(latest)
    stages.append(decode_stage(recipe, sources, latest, base if recipe.keep_base else None))
    return tuple(stages)


def until(stages: tuple[StagePlan, ...], last: str) -> tuple[StagePlan, ...]:
    """The stages up to `last`, which becomes the end. UsageError when there is no such stage."""
    names = [stage.name for stage in stages]
    if last not in names:
        raise UsageError(f"--stop-after {last!r:.60}: this relay has the stages {', '.join(names)}.")
    return stages[: names.index(last) + 1]


def preview_stage(stage1: StagePlan, decode: StagePlan) -> StagePlan:
    """Stills of stage 1's latents: for the eye, so without keys or places; the run's folder gets them."""
    items = tuple(Item(item.key, "", {"latent": item.output}, {"seed": item.params["seed"]}) for item in stage1.items)
    return StagePlan("preview", items, decode.weights, {"tiles": decode.params["tiles"]}, decode.dtype)


def text_stage(recipe: Recipe, sources: Sources) -> StagePlan:
    """Contexts of both prompts, always: they are then shared by guided and unguided runs."""
    checkpoint = sources.weights.text_checkpoint.path
    weights = (
        use(sources, "gemma", sources.weights.gemma),
        use(sources, "projection", checkpoint),
        use(sources, "connector", checkpoint),
    )
    params = {"prompt": recipe.prompt, "negative_prompt": recipe.negative_prompt}
    return plan("text", sources, weights, params, [({}, {})])


def stage1_stage(recipe: Recipe, sources: Sources, text: StagePlan) -> StagePlan:
    """Denoising at the base size, with guidance."""
    guided = recipe.cfg != 1.0
    params = {
        "shape": recipe.geometry.stage1.as_list(),
        "fps": recipe.fps,
        "schedule": recipe.stage1_schedule,
        "steps": recipe.steps_stage1,
        "cfg": recipe.cfg,
        "guidance_rescale": recipe.guidance_rescale if guided or recipe.stg else 0.0,
        "stg": recipe.stg,
        "stg_blocks": list(recipe.stg_blocks),
        **held(recipe),
    }
    weights = (use_model(sources, sources.weights.stage1),)
    items = [({"text": text.items[0]}, start_noise(sources, seed)) for seed in recipe.seeds]
    return plan("stage1", sources, weights, params, items, recipe.noise)


def stage2_stage(recipe: Recipe, sources: Sources, text: StagePlan, stage1: StagePlan) -> StagePlan:
    """Spatial upscaling of the latent, then a short distilled refinement at that size, without guidance."""
    model = required(sources.weights.stage2, "stage 2's model")
    upscaler = required(sources.weights.spatial, "the spatial upscaler")
    params = {
        "shape": recipe.geometry.stage2.as_list(),
        "fps": recipe.fps,
        "schedule": "stage2",
        "steps": recipe.steps_stage2,
        **held(recipe),
    }
    weights = (
        use(sources, "statistics", sources.weights.vae.path),
        use(sources, "upsampler", upscaler.path),
        use_model(sources, model),
    )
    items = [
        ({"text": text.items[0], "latent": item}, start_noise(sources, seed))
        for item, seed in zip(stage1.items, recipe.seeds, strict=True)
    ]
    return plan("stage2", sources, weights, params, items, recipe.noise)


def temporal_stage(recipe: Recipe, sources: Sources, before: StagePlan) -> StagePlan:
    """Twice the frame rate, latent to latent: n latent frames become 2n - 1."""
    upscaler = required(sources.weights.temporal, "the temporal upscaler")
    weights = (
        use(sources, "statistics", sources.weights.vae.path),
        use(sources, "upsampler", upscaler.path),
    )
    items = [({"latent": item}, {"seed": item.params["seed"]}) for item in before.items]
    return plan("temporal", sources, weights, {"shape": recipe.geometry.temporal_latent.as_list()}, items)


def decode_stage(recipe: Recipe, sources: Sources, final: StagePlan, base: StagePlan | None) -> StagePlan:
    """Latents to video files, and with `--keep-base` also those from before temporal upscaling."""
    geometry = recipe.geometry
    weights = (
        use(sources, "statistics", sources.weights.vae.path),
        use(sources, "vae_decoder", sources.weights.vae.path),
    )
    params = {
        "codec": recipe.codec,
        "container": sources.container,
        "size": list(geometry.output_size),
        "tiles": dict(sources.tiles),
    }
    items: list[tuple[dict[str, Item], dict[str, Any]]] = []
    playing = recipe.playing_fps
    for stage, role, fps in ((final, "video", playing), (base, "base", playing * geometry.fps / geometry.output_fps)):
        for item in stage.items if stage else ():
            items.append(({"latent": item}, {"fps": str(fps), "seed": item.params["seed"], "role": role}))
    return plan("decode", sources, weights, params, items)


def plan(
    name: str,
    sources: Ground,
    weights: tuple[WeightsUse, ...],
    params: Mapping[str, Any],
    items: Iterable[tuple[dict[str, Item], dict[str, Any]]],
    noise: str | None = None,
) -> StagePlan:
    """Keys and places for each item: (the items that it reads by role, its own parameters)."""
    made = []
    numerics = {**sources.numerics, "dtype": dtype_of(name, sources.numerics)}
    for inputs, own in items:
        result_params = {key: value for key, value in own.items() if key not in unkeyed(name)}
        key = make_key(
            {
                "stage": name,
                "code": CODE_VERSIONS[name],
                "params": {**params, **result_params},
                "inputs": {role: item.key for role, item in inputs.items()},
                "weights": [
                    [w.role, w.fingerprint, [[lora.fingerprint, lora.strength] for lora in w.loras]] for w in weights
                ],
                "numerics": numerics,
            }
        )
        suffix = sources.container if name in VIDEO_STAGES else ".safetensors"
        paths = {role: item.output for role, item in inputs.items()}
        if noise is not None:
            paths["noise"] = noise
        made.append(Item(key, str(sources.home.object_path(key, suffix)), paths, own))
    return StagePlan(name, tuple(made), weights, params, numerics["dtype"])


def dtype_of(stage: str, numerics: Mapping[str, Any]) -> str:
    """Half precision is too narrow for Gemma's activations: text takes the backend's own dtype instead."""
    dtype = str(numerics["dtype"])
    if stage == "text" and dtype == "float16":
        return "float32" if numerics["backend"] == "cpu" else "bfloat16"
    return dtype


def unkeyed(stage: str) -> frozenset[str]:
    """Item parameters that do not change a bit of the result: past denoising the seed is in the input's key."""
    return frozenset({"seed", "role"}) if stage in ("temporal", "decode") else frozenset()


def start_noise(sources: Sources, seed: int) -> dict[str, Any]:
    return {"seed": seed} if sources.noise_sha256 is None else {"seed": seed, "noise_sha256": sources.noise_sha256}


def held(recipe: Recipe) -> dict[str, Any]:
    """How the transformer's weights are held, where that changes bits."""
    return {} if recipe.quantize is None else {"quantize": recipe.quantize}


def use(sources: Ground, role: str, path: Path) -> WeightsUse:
    return WeightsUse(role, str(path), sources.fingerprint(path))


def use_model(sources: Sources, model: Model) -> WeightsUse:
    loras = tuple(Lora(str(lora.path), lora.strength, sources.fingerprint(lora.path)) for lora in model.loras)
    return replace(use(sources, "transformer", model.checkpoint.path), loras=loras)


def latent_bytes(shape: Iterable[int], bytes_per_value: int) -> int:
    """Bytes of a latent [1, 128, frames, height, width]."""
    total = LATENT_CHANNELS * bytes_per_value
    for length in shape:
        total *= length
    return total


def required(value: Any, what: str) -> Any:
    if value is None:
        raise LookupError(f"The weights were resolved without {what}, which this recipe needs.")
    return value


def needed(stages: tuple[StagePlan, ...], present: Callable[[StagePlan, Item], bool]) -> dict[str, tuple[Item, ...]]:
    """Per stage, the items that must be computed: missing, and asked for by the end or by a missing item after them.

    A finished video needs nothing before it, so a missing early artifact is not made again for its own sake.
    """
    wanted = {item.output for item in stages[-1].items}
    todo: dict[str, tuple[Item, ...]] = {}
    for stage in reversed(stages):
        missing = tuple(item for item in stage.items if item.output in wanted and not present(stage, item))
        todo[stage.name] = missing
        wanted |= {path for item in missing for role, path in item.inputs.items() if role != "noise"}
    return dict(reversed(todo.items()))
