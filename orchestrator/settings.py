"""From what the user asked to a complete recipe: defaults, contradictions, ranges.

`Settings` is the command line (or a Python caller) in data: None means "not said". `check` finds everything that can be
wrong without looking at a weights file (exit code 2); `settle` fills in what depends on the weights that were found.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TypeVar

from orchestrator import sizes
from orchestrator.memory_tiles import Tiles
from orchestrator.presets import (
    DISTILLED_STEPS,
    NEGATIVE_PROMPT,
    PRESETS,
    STAGE2_STEPS,
    choose_preset,
)
from orchestrator.recipe import LORA_STAGES, MAX_STRENGTH, QUANTIZE, LoraChoice, Recipe, WeightsChoice
from weights.errors import UsageError

MAX_PROMPT = 20_000
MAX_STEPS = 1_000
MAX_SEED = 2**63 - 1
MAX_SEEDS = 1_000
LEAST_MEMORY = 64 << 20
"""Bytes: less than any worker needs."""
DTYPES = ("auto", "bfloat16", "float16", "float32")
AUDIO_SENTENCE = "Two-stage generation is video-only; use --pipeline text-to-video."
NO_AUDIO_YET = "--generate-audio is not there yet: ltx-relay makes video without sound."


@dataclass(frozen=True)
class Settings:
    """What was asked. Sizes in pixels; `size` is (width, height) of the finished video; `seeds` as given."""

    prompt: str
    negative_prompt: str | None = None
    preset: str | None = None
    pipeline: str | None = None
    height: int | None = None
    width: int | None = None
    size: tuple[int, int] | None = None
    frames: int | None = None
    fps: Fraction | None = None
    play_fps: Fraction | None = None
    steps: int | None = None
    steps_stage1: int | None = None
    steps_stage2: int | None = None
    cfg: float | None = None
    cfg_stage1: float | None = None
    guidance_rescale: float | None = None
    stg: float | None = None
    stg_blocks: tuple[int, ...] | None = None
    temporal: bool | None = None
    seeds: tuple[int, ...] | None = None
    random_seed: bool = False
    weights: WeightsChoice = field(default_factory=WeightsChoice)
    dtype: str | None = None
    fp16: bool = False
    codec: str | None = None
    keep_base: bool | None = None
    noise: str | None = None
    memory: int | None = None
    tiles: tuple[int, ...] | None = None
    loras: tuple[LoraChoice, ...] | None = None
    quantize: int | None = None
    generate_audio: bool = False


@dataclass(frozen=True)
class ModelFacts:
    """What a recipe must know of the weights that were found.

    one_stage_cfg: the most guidance that suits the model in one stage; more is given where it is asked for.
    """

    stage1_variant: str
    layers: int
    default_height: int = 480
    default_width: int = 704
    default_frames: int = 97
    one_stage_cfg: float = math.inf
    version: str = "2.0"
    spatial_scale: Fraction = Fraction(2)


@dataclass(frozen=True)
class Checked:
    """Settings that contradict nothing so far, the preset that they mean, and which stages run."""

    settings: Settings
    preset: str
    two_stage: bool
    temporal: bool


def check(settings: Settings) -> Checked:
    """UsageError (2) for the first thing that is wrong, without touching any file."""
    name = choose_preset(settings.preset, settings.pipeline, settings.weights.model_variant)
    preset = PRESETS[name]
    if not settings.prompt.strip():
        raise UsageError("The prompt is empty; say in a sentence what the video shows.")
    if len(settings.prompt) > MAX_PROMPT or len(settings.negative_prompt or "") > MAX_PROMPT:
        raise UsageError(f"The prompt is longer than {MAX_PROMPT:,} characters; the model reads about 1,000 words.")
    if settings.generate_audio:
        raise UsageError(AUDIO_SENTENCE if preset.two_stage else NO_AUDIO_YET)
    if settings.temporal and not preset.two_stage:
        raise UsageError(f"--temporal needs two stages; --preset {name} has one. Use --preset max.")
    if settings.keep_base and not preset.two_stage:
        raise UsageError(f"--keep-base keeps the video before temporal upscaling; --preset {name} has none.")
    _check_steps(settings, name, preset.two_stage)
    _check_numbers(settings)
    if settings.size and (settings.height is not None or settings.width is not None):
        raise UsageError("--size names the final size, --height and --width the base size: give one or the other.")
    if settings.frames is not None:
        sizes.check_frames(settings.frames)
    if settings.fps is not None:
        sizes.check_fps(settings.fps)
    if settings.play_fps is not None:
        sizes.check_fps(settings.play_fps, "--play-fps")
    if not settings.size:
        for height, width in ((settings.height, 64), (64, settings.width)):
            if height is not None and width is not None:
                sizes.check_base(height, width, Fraction(1))
    else:
        sizes.base_for(settings.size, Fraction(1))
    if settings.dtype is not None and settings.dtype not in DTYPES:
        raise UsageError(f"--dtype {settings.dtype!r} does not exist; choose one of {', '.join(DTYPES)}.")
    if settings.fp16 and settings.dtype not in (None, "auto"):
        raise UsageError(f"--fp16 and --dtype {settings.dtype} contradict each other; give one.")
    _check_weights(settings, name, preset.two_stage)
    temporal = preset.temporal if settings.temporal is None else settings.temporal
    return Checked(settings, name, preset.two_stage, temporal)


def settle(checked: Checked, facts: ModelFacts) -> Recipe:
    """The complete recipe. UsageError (2) when the sizes do not suit the spatial upscaler that was found."""
    asked, preset = checked.settings, PRESETS[checked.preset]
    scale = facts.spatial_scale if checked.two_stage else Fraction(1)
    if asked.size:
        height, width = sizes.base_for(asked.size, scale)
    else:
        height = asked.height if asked.height is not None else facts.default_height
        width = asked.width if asked.width is not None else facts.default_width
        sizes.check_base(height, width, scale)
    distilled = facts.stage1_variant == "distilled"
    steps_asked = asked.steps_stage1 if checked.two_stage else _first(asked.steps, asked.steps_stage1)
    guidance = _first(asked.cfg_stage1, asked.cfg)
    usual = preset.cfg if checked.two_stage else min(preset.cfg, facts.one_stage_cfg)
    temporal = checked.temporal
    crop = asked.size
    if crop == (int(width * scale), int(height * scale)):
        crop = None
    return Recipe(
        prompt=asked.prompt.strip(),
        negative_prompt=(NEGATIVE_PROMPT if asked.negative_prompt is None else asked.negative_prompt).strip(),
        preset=checked.preset,
        two_stage=checked.two_stage,
        temporal=temporal,
        height=height,
        width=width,
        frames=asked.frames if asked.frames is not None else facts.default_frames,
        fps=str(asked.fps if asked.fps is not None else Fraction(24)),
        scale=str(scale),
        size=crop,
        stage1_schedule="distilled" if distilled else "dev",
        steps_stage1=steps_asked or (DISTILLED_STEPS if distilled else preset.steps),
        steps_stage2=(asked.steps_stage2 or STAGE2_STEPS) if checked.two_stage else 0,
        cfg=float(guidance if guidance is not None else (1.0 if distilled else usual)),
        guidance_rescale=float(asked.guidance_rescale or 0.0),
        stg=float(asked.stg or 0.0),
        stg_blocks=_stg_blocks(asked, facts),
        seeds=_seeds(asked),
        weights=asked.weights,
        dtype="auto" if asked.dtype is None else asked.dtype,
        codec=asked.codec or "h264",
        keep_base=bool(asked.keep_base) and temporal,
        noise=asked.noise,
        memory=asked.memory,
        tiles=asked.tiles,
        play_fps=None if asked.play_fps is None else str(asked.play_fps),
        loras=asked.loras or (),
        quantize=asked.quantize,
    )


def notes(checked: Checked, recipe: Recipe, facts: ModelFacts, backend: str) -> tuple[str, ...]:
    """One-line remarks on settings that work, but may not do what was meant."""
    found = []
    asked = checked.settings
    if facts.stage1_variant == "distilled" and recipe.cfg != 1.0:
        found.append(
            f"The distilled model was trained without guidance; CFG {recipe.cfg:g} works but over-saturates. "
            "--cfg 1 is what it was made for."
        )
    if facts.stage1_variant == "distilled" and checked.preset in ("two-stage", "max") and recipe.cfg == 1.0:
        found.append(
            "Stage 1 runs the distilled model (no dev checkpoint was found): "
            f"{recipe.steps_stage1} steps without guidance."
        )
    if recipe.guidance_rescale and recipe.cfg == 1.0 and not recipe.stg:
        found.append("--guidance-rescale changes nothing here: there is no guidance (CFG is 1, and STG 0).")
    if asked.fp16 and backend == "cpu":
        found.append("--fp16 is for GPUs; a CPU computes in float32, which is faster here.")
    width, height = recipe.geometry.decoded
    if max(width, height) > 2048 or recipe.geometry.frames / recipe.geometry.fps > 20:
        found.append("The model knows up to 2048 pixels a side and 20 seconds; beyond that the picture may fall apart.")
    if asked.random_seed:
        found.append(f"The seed is {recipe.seeds[0]}; give --seed {recipe.seeds[0]} to make this video again.")
    return tuple(found)


_SIZES = ("height", "width", "size", "frames", "temporal", "preset", "pipeline", "memory")


def with_recipe(recipe: Recipe, settings: Settings) -> Settings:
    """Settings that repeat `recipe`, where `settings` says nothing else: explicit flags win."""
    base = Settings(
        prompt=recipe.prompt,
        negative_prompt=recipe.negative_prompt,
        preset=recipe.preset,
        height=recipe.height,
        width=recipe.width,
        frames=recipe.frames,
        fps=Fraction(recipe.fps),
        steps_stage1=recipe.steps_stage1,
        steps_stage2=recipe.steps_stage2 or None,
        cfg=recipe.cfg,
        guidance_rescale=recipe.guidance_rescale,
        stg=recipe.stg,
        stg_blocks=recipe.stg_blocks or None,
        temporal=recipe.temporal if recipe.two_stage else None,
        seeds=recipe.seeds,
        weights=recipe.weights,
        dtype=recipe.dtype,
        codec=recipe.codec,
        keep_base=recipe.keep_base or None,
        noise=recipe.noise,
        memory=recipe.memory,
        tiles=recipe.tiles,
        play_fps=None if recipe.play_fps is None else Fraction(recipe.play_fps),
        loras=recipe.loras or None,
        quantize=recipe.quantize,
    )
    if recipe.size:
        base = replace(base, size=recipe.size, height=None, width=None)
    empty = Settings(prompt="")
    said = {
        name: getattr(settings, name)
        for name in Settings.__dataclass_fields__
        if name != "weights" and getattr(settings, name) != getattr(empty, name)
    }
    choice = replace(recipe.weights, **{k: v for k, v in vars(settings.weights).items() if v is not None})
    if "pipeline" in said or "preset" in said:  # another flow: what the old one implied no longer holds
        base = replace(base, preset=None, temporal=None, steps_stage1=None, steps_stage2=None, cfg=None, keep_base=None)
    if "stg" in said and not settings.stg:
        base = replace(base, stg_blocks=None)
    if "size" in said:
        base = replace(base, height=None, width=None)
    if "height" in said or "width" in said:
        base = replace(base, size=None)
    if not said.keys().isdisjoint(_SIZES):  # the tiles were chosen for another video, or for another budget
        base = replace(base, tiles=None)
    if "steps" in said:
        base = replace(base, steps_stage1=None)
    if "random_seed" in said:
        base = replace(base, seeds=None)
    if "fp16" in said:
        base = replace(base, dtype=None)
    return replace(base, weights=choice, **said)


def check_machine(memory: int | None, tiles: tuple[int, ...] | None) -> None:
    """UsageError for a budget (bytes) or tiles of the decoder that cannot be."""
    if tiles is not None:
        try:
            Tiles.from_recipe(tiles)
        except ValueError as error:
            advice = "Write --tiles 512x64: multiples of 32 pixels from 64 on, of 8 frames from 16 on."
            raise UsageError(f"--tiles cannot be used: {error}.", advice=advice) from error
    if memory is not None and not LEAST_MEMORY <= memory <= 1 << 60:
        raise UsageError(f"A budget of {memory:,} bytes is none; write for example --memory 24GB.")


def _check_steps(settings: Settings, name: str, two_stage: bool) -> None:
    for flag, value in (
        ("--steps", settings.steps),
        ("--steps-stage1", settings.steps_stage1),
        ("--steps-stage2", settings.steps_stage2),
    ):
        if value is not None and not 1 <= value <= MAX_STEPS:
            raise UsageError(f"{flag} {value} is out of range: it must be between 1 and {MAX_STEPS}.")
    if two_stage and settings.steps is not None:
        raise UsageError(f"--steps is for one stage; --preset {name} has two: use --steps-stage1 and --steps-stage2.")
    if not two_stage and settings.steps_stage2 is not None:
        raise UsageError(f"--steps-stage2 needs two stages; --preset {name} has one.")
    if settings.steps is not None and settings.steps_stage1 not in (None, settings.steps):
        raise UsageError("--steps and --steps-stage1 name the same thing here; give one.")


def _check_numbers(settings: Settings) -> None:
    for flag, value, low, high in (
        ("--cfg", settings.cfg, 0.0, 100.0),
        ("--cfg-stage1", settings.cfg_stage1, 0.0, 100.0),
        ("--guidance-rescale", settings.guidance_rescale, 0.0, 1.0),
        ("--stg", settings.stg, 0.0, 100.0),
    ):
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            raise UsageError(f"{flag} {value:g} is out of range: it must be between {low:g} and {high:g}.")
    blocks = settings.stg_blocks
    if blocks is not None and not settings.stg:
        raise UsageError("--stg-blocks says where --stg skips; give --stg too, for example --stg 1.")
    if blocks is not None and len(set(blocks)) != max(1, len(blocks)):
        raise UsageError("--stg-blocks names no block, or the same block twice.")
    check_machine(settings.memory, settings.tiles)
    if len(settings.seeds or ()) > MAX_SEEDS:
        raise UsageError(f"{len(settings.seeds or ()):,} seeds are too many for one run: {MAX_SEEDS:,} is the limit.")
    for seed in settings.seeds or ():
        if not 0 <= seed <= MAX_SEED:
            raise UsageError(f"--seed {seed} is out of range: it must be between 0 and {MAX_SEED}.")
    if settings.seeds is not None and (not settings.seeds or len(set(settings.seeds)) != len(settings.seeds)):
        raise UsageError("--seed names no seed, or the same seed twice.")
    if settings.random_seed and settings.seeds:
        raise UsageError("--seed random and numbered seeds contradict each other.")


def _check_weights(settings: Settings, name: str, two_stage: bool) -> None:
    """What is done to the transformer's weights."""
    if settings.quantize is not None and settings.quantize not in QUANTIZE:
        raise UsageError(f"--quantize {settings.quantize} is not possible: weights are held in 8 or 4 bits.")
    for path, strength, stage in settings.loras or ():
        if not path:
            raise UsageError("--lora names no file; write PATH, PATH:STRENGTH or PATH:STRENGTH@STAGE.")
        if not (math.isfinite(strength) and abs(strength) <= MAX_STRENGTH):
            raise UsageError(
                f"--lora {path}: the strength {strength:g} is out of range; it must be between -{MAX_STRENGTH:g} and "
                f"{MAX_STRENGTH:g}."
            )
        if stage not in (None, *LORA_STAGES):
            raise UsageError(f"--lora {path}: there is no stage {stage!r}; a LoRA goes to {' or '.join(LORA_STAGES)}.")
        if stage == "stage2" and not two_stage:
            raise UsageError(f"--lora {path} is for stage 2; --preset {name} has one stage.")


def _stg_blocks(asked: Settings, facts: ModelFacts) -> tuple[int, ...]:
    """The official choices are block 29 of 48 (2.0) and 28 (2.3); other depths take the same fraction."""
    if not asked.stg:
        return ()
    blocks = asked.stg_blocks
    if blocks is None:
        official = 28 if facts.version.startswith("2.3") else 29
        blocks = (official * facts.layers // 48,)
    wrong = [block for block in blocks if not 0 <= block < facts.layers]
    if wrong:
        raise UsageError(
            f"--stg-blocks {wrong[0]} does not exist: this transformer has blocks 0 to {facts.layers - 1}."
        )
    return blocks


def _seeds(asked: Settings) -> tuple[int, ...]:
    if asked.random_seed:
        return (secrets.randbelow(2**31),)
    return asked.seeds or (0,)


T = TypeVar("T")


def _first(*values: T | None) -> T | None:
    return next((value for value in values if value is not None), None)
