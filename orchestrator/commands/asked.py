"""From flags to `Settings`: texts become sizes, rates, seeds and bytes, and paths become absolute.

Only what `orchestrator.settings.check` cannot see is refused here (2): texts that are no number, and two flags for one
thing. A relative path would mean something else when the run is resumed from another folder, so none gets into a
recipe.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from orchestrator import sizes
from orchestrator.commands.options import Flags
from orchestrator.memory_tiles import with_overlaps
from orchestrator.recipe import LoraChoice, WeightsChoice
from orchestrator.recipe_files import read_recipe
from orchestrator.settings import LEAST_MEMORY, MAX_SEEDS, Settings, with_recipe
from weights.errors import UsageError

_INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
_STRENGTH = re.compile(r"[+-]?(?:[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(?:[eE][+-]?[0-9]{1,2})?")
_STAGE = re.compile(r"[A-Za-z0-9]+")
_MEMORY = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([kmgt]?i?b|[kmgt])", re.IGNORECASE)


def settings_of(flags: Flags) -> Settings:
    """UsageError (2) for what cannot be read; ranges and contradictions are `check`'s."""
    check_display(flags.json, flags.quiet)
    recipe = read_recipe(flags.recipe) if flags.recipe is not None else None
    if flags.prompt is not None and flags.prompt_flag is not None:
        raise UsageError("There are two prompts, one by itself and one of --prompt; give one.")
    prompt = flags.prompt if flags.prompt_flag is None else flags.prompt_flag
    if prompt is None and recipe is None:
        raise UsageError("There is no prompt; say in a sentence what the video shows, in quotes.")
    if prompt is not None and not prompt.strip():
        raise UsageError("The prompt is empty; say in a sentence what the video shows.")
    seeds = parse_seeds(flags.seed, flags.seeds, recipe.seeds[0] if recipe and recipe.seeds else 0)
    settings = Settings(
        prompt=prompt or "",
        negative_prompt=flags.negative_prompt,
        preset=flags.preset,
        pipeline=flags.pipeline,
        height=flags.height,
        width=flags.width,
        size=None if flags.size is None else sizes.parse_size(flags.size),
        frames=flags.frames,
        fps=None if flags.fps is None else sizes.parse_fps(flags.fps),
        play_fps=None if flags.play_fps is None else sizes.parse_fps(flags.play_fps, "--play-fps"),
        steps=flags.steps,
        steps_stage1=flags.steps_stage1,
        steps_stage2=flags.steps_stage2,
        cfg=flags.cfg,
        cfg_stage1=flags.cfg_stage1,
        guidance_rescale=flags.guidance_rescale,
        stg=flags.stg,
        stg_blocks=None if flags.stg_blocks is None else parse_integers("--stg-blocks", flags.stg_blocks),
        temporal=flags.temporal,
        seeds=seeds or None,
        random_seed=seeds == (),
        weights=WeightsChoice(
            model=model_of(flags.model),
            weights=absolute_if_said(flags.weights),
            weights_stage1=absolute_if_said(flags.weights_stage1),
            weights_stage2=absolute_if_said(flags.weights_stage2),
            gemma=absolute_if_said(flags.gemma),
            spatial_upscaler=absolute_if_said(flags.spatial_upscaler_weights),
            temporal_upscaler=absolute_if_said(flags.temporal_weights),
            model_variant=flags.model_variant,
            model_version=flags.model_version,
            distilled_lora=absolute_if_said(flags.distilled_lora),
        ),
        dtype=flags.dtype,
        fp16=flags.fp16,
        codec=flags.codec,
        keep_base=flags.keep_base,
        noise=absolute_if_said(flags.noise),
        memory=None if flags.memory is None else parse_memory(flags.memory),
        tiles=None if flags.tiles is None else parse_tiles(flags.tiles),
        loras=None if not flags.lora else tuple(parse_lora(text) for text in flags.lora),
        quantize=flags.quantize,
        generate_audio=flags.generate_audio,
    )
    return settings if recipe is None else with_recipe(recipe, settings)


def output_of(name: str | None) -> Path | None:
    """What --output names; None: not said."""
    if name is None:
        return None
    if not name or name.endswith("/"):
        raise UsageError(f"--output {name!r} names no file.")
    return Path(name)


def check_display(json: bool, quiet: bool) -> None:
    if json and quiet:
        raise UsageError("--json and --quiet contradict each other; give one.")


def model_of(name: str | None) -> str | None:
    """What --model names: the tiny model, or a folder."""
    return name if name == "tiny" else absolute_if_said(name)


def parse_seeds(said: Iterable[str] | None, count: int | None, default: int = 0) -> tuple[int, ...] | None:
    """The seeds in order; None: not said; empty: `random`."""
    words = [word.strip() for text in said or () for word in text.split(",")]
    if [word.lower() for word in words] == ["random"]:
        if count is not None:
            raise UsageError("--seeds counts up from a numbered --seed, not from a random one.")
        return ()
    seeds = tuple(integer("--seed", word, "a number, several with commas, or random") for word in words)
    if count is None:
        return seeds if words else None
    if not 1 <= count <= MAX_SEEDS:
        raise UsageError(f"--seeds {count} is out of range: it must be between 1 and {MAX_SEEDS}.")
    if len(seeds) > 1:
        raise UsageError("--seeds counts up from one --seed; here are several.")
    first = seeds[0] if seeds else default
    return tuple(range(first, first + count))


def parse_integers(flag: str, text: str) -> tuple[int, ...]:
    return tuple(integer(flag, word.strip(), "a number, or several with commas") for word in text.split(","))


def integer(flag: str, text: str, what: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise UsageError(f"{flag} {text!r:.60} is not {what}.")
    return int(text)


def parse_tiles(text: str) -> tuple[int, ...]:
    """`512x64`, pixels and frames, as a recipe has them: with the overlaps that go with such sizes."""
    pixels, separator, frames = text.lower().partition("x")
    if not separator or not all(part.strip().isdecimal() and len(part) < 9 for part in (pixels, frames)):
        raise UsageError(f"--tiles {text!r:.60} is no size of tiles; write PIXELSxFRAMES, for example 512x64.")
    return with_overlaps(int(pixels), int(frames)).as_recipe()


def parse_memory(text: str) -> int:
    """Bytes of `24GB`, `24GiB`, `24g` or `1536 MB`: memory is counted in powers of two, as machines are sold."""
    match = _MEMORY.fullmatch(text.strip())
    if not match:
        raise UsageError(f"--memory {text!r:.60} is not an amount of memory; write for example 24GB.")
    number, unit = match.groups()
    power = "bkmgt".index(unit[0].lower())
    size = int(float(number) * 1024**power)
    if size < LEAST_MEMORY:
        raise UsageError(f"--memory {text} is less than any worker needs; write for example 24GB.")
    return size


def parse_lora(text: str) -> LoraChoice:
    """`PATH[:STRENGTH][@STAGE]`, read from its end; a path may have colons and at-signs of its own.

    UsageError where a file is followed by something else.
    """
    rest, at, stage = text.rpartition("@")
    if not at or not _STAGE.fullmatch(stage):
        rest, stage = text, ""
    path, colon, number = rest.rpartition(":")
    if not colon or not _STRENGTH.fullmatch(number):
        path, number = rest, "1"
    if path and not os.path.lexists(absolute(path)):
        for end in (index for index, letter in enumerate(path) if letter in ":@"):
            if os.path.isfile(absolute(path[:end])):
                raise UsageError(
                    f"--lora {path[:end]}: {text[end:]!r} is no strength or stage; write for example :0.8@stage1."
                )
    return absolute(path) if path else "", float(number), stage.lower() or None


def absolute(path: str) -> str:
    """Absolute, with `~` resolved; links stay as they are."""
    return os.path.abspath(os.path.expanduser(path))


def absolute_if_said(path: str | None) -> str | None:
    return None if path is None else absolute(path)
