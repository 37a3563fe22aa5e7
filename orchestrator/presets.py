"""The four presets, and what the guide's `--pipeline` and `--model-variant` make of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weights.errors import UsageError

NEGATIVE_PROMPT = "worst quality, blurry, distorted, jittery, inconsistent motion, flickering, watermark"
"""Used for guidance when the user gives none; `--negative-prompt ""` guides away from nothing in particular."""


@dataclass(frozen=True)
class Preset:
    """Steps and guidance for a dev model in stage 1; a distilled one takes its own (see `DISTILLED_STEPS`)."""

    summary: str
    two_stage: bool
    temporal: bool
    variant: str | None
    """Which model stage 1 wants: "dev", "distilled", or None (dev where there is one)."""
    steps: int
    cfg: float


PRESETS: Mapping[str, Preset] = {
    "draft": Preset("one stage, distilled: 8 steps without guidance", False, False, "distilled", 8, 1.0),
    "dev": Preset("one stage, dev model: 30 steps, CFG 7", False, False, "dev", 30, 7.0),
    "two-stage": Preset("15 guided steps, then 3 at twice the size", True, False, None, 15, 5.0),
    "max": Preset("two-stage, then twice the frame rate", True, True, None, 15, 5.0),
}
DEFAULT_PRESET = "max"
DISTILLED_STEPS = 8
STAGE2_STEPS = 3
PIPELINES = ("two-stage", "text-to-video")
VARIANTS = ("dev", "distilled")


def choose_preset(preset: str | None, pipeline: str | None, variant: str | None) -> str:
    """The preset that the three flags name together; UsageError (2) when they contradict each other."""
    for flag, value, choices in (
        ("--preset", preset, tuple(PRESETS)),
        ("--pipeline", pipeline, PIPELINES),
        ("--model-variant", variant, VARIANTS),
    ):
        if value is not None and value not in choices:
            raise UsageError(f"{flag} {value!r} does not exist; choose one of {', '.join(choices)}.")
    implied = None
    if pipeline == "two-stage":
        implied = "two-stage"
    elif pipeline == "text-to-video":
        implied = "dev" if variant == "dev" else "draft"
    if preset and implied and preset != implied:
        raise UsageError(
            f"--preset {preset} and --pipeline {pipeline} (which means --preset {implied}) contradict each other."
        )
    name = preset or implied or DEFAULT_PRESET
    wanted = PRESETS[name].variant
    if variant and wanted and variant != wanted:
        raise UsageError(f"--preset {name} works with the {wanted} model; --model-variant {variant} contradicts it.")
    return name


def compute_dtype(asked: str, backend: str) -> str:
    """bf16 on GPUs, float32 on a CPU; `--fp16` means 16-bit compute, which on a CPU stays float32."""
    if asked != "auto":
        return asked
    return "float32" if backend == "cpu" else "bfloat16"
