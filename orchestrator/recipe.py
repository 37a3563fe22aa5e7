"""The recipe: every setting that decides what the video looks like, with nothing left open.

A recipe is made once, from what the user asked (`orchestrator.settings`), and is complete: with the same weights and
the same kind of machine it gives the same frames. It names no output file, and nothing in it is executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any

from cache.records import SEAL
from orchestrator import sizes
from orchestrator.memory_tiles import Tiles
from orchestrator.sizes import Geometry
from weights.errors import UsageError

FORMAT = 1
QUANTIZE = (8, 4)
"""Bits that the transformer's weights can be held in."""
LORA_STAGES = ("stage1", "stage2")
MAX_STRENGTH = 100.0
MAX_BYTES = 4 << 20
"""A recipe is a few kB; anything larger is not one, and is refused before it is parsed."""


@dataclass(frozen=True)
class WeightsChoice:
    """Which weights the user named; None: found by what the files say they are."""

    model: str | None = None
    weights: str | None = None
    weights_stage1: str | None = None
    weights_stage2: str | None = None
    gemma: str | None = None
    spatial_upscaler: str | None = None
    temporal_upscaler: str | None = None
    model_variant: str | None = None
    model_version: str | None = None
    distilled_lora: str | None = None


LoraChoice = tuple[str, float, str | None]
"""Path, strength, and the stage it is for ("stage1", "stage2"); None: every stage that denoises."""


@dataclass(frozen=True)
class Recipe:
    """Sizes in pixels of the base video; `fps` as a fraction's text ("24", "24000/1001")."""

    prompt: str
    negative_prompt: str
    preset: str
    two_stage: bool
    temporal: bool
    height: int
    width: int
    frames: int
    fps: str
    scale: str
    size: tuple[int, int] | None
    stage1_schedule: str
    """ "dev" (LTX2Scheduler) or "distilled" (the eight fixed sigmas, interpolated for other counts)."""
    steps_stage1: int
    steps_stage2: int
    cfg: float
    guidance_rescale: float
    stg: float
    stg_blocks: tuple[int, ...]
    seeds: tuple[int, ...]
    weights: WeightsChoice
    dtype: str = "auto"
    codec: str = "h264"
    keep_base: bool = False
    noise: str | None = None
    memory: int | None = None
    loras: tuple[LoraChoice, ...] = ()
    quantize: int | None = None
    """Bits of the weights of the transformer's linear layers, 8 or 4; None: as they are stored."""
    play_fps: str | None = None
    """At what rate the finished video plays, where that is not the rate that it was made for."""
    tiles: tuple[int, ...] | None = None
    """Of the decoder: pixels and their overlap, frames and their overlap; 0 for an axis that is whole. None: open."""

    @property
    def geometry(self) -> Geometry:
        return Geometry(
            self.height,
            self.width,
            self.frames,
            Fraction(self.fps),
            Fraction(self.scale),
            self.temporal,
            self.size,
        )

    @property
    def playing_fps(self) -> Fraction:
        """Frames a second of the finished video."""
        return Fraction(self.play_fps) if self.play_fps else self.geometry.output_fps

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False)


def recipe_from_dict(raw: Mapping[str, Any]) -> Recipe:
    """UsageError in a sentence for anything that is not a recipe of this format."""
    if isinstance(raw, Mapping) and str(raw.get("kind")).startswith("upscale-"):
        raise UsageError(
            f"This is a recipe of {raw['kind']!r:.30}, which makes no video from a prompt.",
            advice="`ltx-relay resume RUN` goes on with such a run; the same command makes its video again.",
        )
    if not isinstance(raw, Mapping) or "format" not in raw or "prompt" not in raw:
        raise UsageError("This is not a recipe of ltx-relay: it has no format and prompt.")
    if raw["format"] != FORMAT:
        raise UsageError(
            f"This recipe has format {raw['format']!r}; this program reads format {FORMAT}.",
            advice="Install the newer version of ltx-relay that wrote it.",
        )
    # A run's own recipe is sealed; whoever gives it as --recipe may have edited it.
    values = {key: value for key, value in raw.items() if key not in ("format", SEAL)}
    known = {field.name: field for field in fields(Recipe)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        names = ", ".join(map(ascii, unknown[:5]))
        raise UsageError(f"The recipe has settings that this program does not know: {names}.")
    for name, value in values.items():
        check_type(f"The recipe's {name}", value, str(known[name].type))
    try:
        choice = WeightsChoice(**values.pop("weights"))
        for name in ("stg_blocks", "seeds", "size", "tiles"):
            if values.get(name) is not None:
                values[name] = tuple(values[name])
        values["loras"] = tuple((path, float(strength), stage) for path, strength, stage in values.get("loras", ()))
        recipe = Recipe(weights=choice, **values)
        if recipe.quantize not in (None, *QUANTIZE):
            raise ValueError(f"quantize is {recipe.quantize}")
        if recipe.tiles is not None:
            Tiles.from_recipe(recipe.tiles)
        sizes.check_fps(sizes.fraction(recipe.fps))
        if recipe.play_fps is not None:
            sizes.check_fps(sizes.fraction(recipe.play_fps), "--play-fps")
        if not 1 <= sizes.fraction(recipe.scale) <= 2:
            raise ValueError(f"scale is {recipe.scale}")
    except (TypeError, ValueError, KeyError, ZeroDivisionError) as error:
        raise UsageError(f"The recipe is incomplete or damaged: {error}.") from error
    return recipe


def recipe_from_json(text: str) -> Recipe:
    if len(text) > MAX_BYTES:
        raise UsageError(f"This is not a recipe of ltx-relay: {len(text):,} characters.")
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The recipe is not JSON: {error}.") from error
    return recipe_from_dict(raw)


def check_type(what: str, value: Any, annotation: str) -> None:
    """UsageError where a value is not of the kind that its field declares: a recipe may come from a stranger."""

    def is_int(x: Any) -> bool:
        return isinstance(x, int) and not isinstance(x, bool)

    checks: dict[str, Callable[[Any], bool]] = {
        "str": lambda x: isinstance(x, str),
        "Fraction": lambda x: isinstance(x, Fraction),
        "bool": lambda x: isinstance(x, bool),
        "int": is_int,
        "float": lambda x: (is_int(x) or isinstance(x, float)) and x == x and abs(x) < 1e6,
        "tuple[int, ...]": lambda x: isinstance(x, list | tuple) and len(x) <= 10_000 and all(map(is_int, x)),
        "tuple[int, int]": lambda x: isinstance(x, list | tuple) and len(x) == 2 and all(map(is_int, x)),
        "tuple[LoraChoice, ...]": lambda x: isinstance(x, list | tuple) and len(x) <= 100 and all(map(_is_lora, x)),
        "WeightsChoice": lambda x: (
            isinstance(x, WeightsChoice)
            or (
                isinstance(x, Mapping)
                and all(isinstance(v, str) or v is None for v in x.values())
                and set(x) <= {field.name for field in fields(WeightsChoice)}
            )
        ),
        "None": lambda x: x is None,
    }
    if not any(checks[part.strip()](value) for part in annotation.split("|")):
        raise UsageError(f"{what} is not of the right kind ({annotation}).")


def _is_lora(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 3:
        return False
    path, strength, stage = value
    number = isinstance(strength, int | float) and not isinstance(strength, bool) and abs(strength) <= MAX_STRENGTH
    return isinstance(path, str) and number and stage in (None, *LORA_STAGES)
