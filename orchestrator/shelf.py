"""What weights are where: each file's kind, version and stages, what is not usable and why; which presets can run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.presets import PRESETS
from weights.catalogue import CHECKPOINT, GEMMA, LORA, SPATIAL, TEMPORAL, WeightsFile
from weights.errors import RelayError, WeightsError
from weights.header_json import no_access
from weights.resolve import WeightsRequest, WeightsSet, resolve
from weights.resolve_search import Shelf, default_search, survey

STAGES: Mapping[tuple[str, str | None], tuple[str, ...]] = {
    (CHECKPOINT, "dev"): ("text", "stage1", "decode"),
    (CHECKPOINT, "distilled"): ("text", "stage1", "stage2", "decode"),
    (CHECKPOINT, None): ("text", "stage1", "stage2", "decode"),
    (LORA, "distilled"): ("stage2",),
    (SPATIAL, None): ("stage2",),
    (TEMPORAL, None): ("temporal",),
    (GEMMA, None): ("text",),
}
"""By kind and variant: the stages that a file can serve. A dev checkpoint serves stage 2 with the distilled LoRA."""


@dataclass(frozen=True)
class Readiness:
    """Whether a preset could run with what is there. uses: path -> stages that would read it; trouble: else why not."""

    preset: str
    uses: Mapping[str, tuple[str, ...]]
    trouble: str
    advice: str


def look(named: list[Path]) -> Shelf:
    """The folders that were named, or all that `generate` searches. WeightsError where one cannot be looked into."""
    try:
        return survey(named or list(default_search(os.environ)))
    except OSError as error:
        raise WeightsError(no_access(Path(str(error.filename)), error)) from error


def stages_of(file: WeightsFile) -> tuple[str, ...]:
    return STAGES.get((file.kind, file.variant), ())


def readiness(shelf: Shelf, model: Path | None) -> list[Readiness]:
    """Of every preset. model: the folder that `--model` would name."""
    found = []
    for name, preset in PRESETS.items():
        request = WeightsRequest(
            model=model, model_variant=preset.variant, two_stage=preset.two_stage, temporal=preset.temporal
        )
        try:
            found.append(Readiness(name, uses_of(resolve(request, shelf.folders)), "", ""))
        except (RelayError, OSError) as error:
            advice = error.advice if isinstance(error, RelayError) else ""
            found.append(Readiness(name, {}, str(error), advice))
    return found


def uses_of(weights: WeightsSet) -> dict[str, tuple[str, ...]]:
    """Path -> the stages that read it."""
    uses: dict[str, list[str]] = {}

    def use(path: Path, stage: str) -> None:
        if stage not in uses.setdefault(str(path), []):
            uses[str(path)].append(stage)

    use(weights.gemma, "text")
    use(weights.text_checkpoint.path, "text")
    for model, stage in ((weights.stage1, "stage1"), (weights.stage2, "stage2")):
        if model is not None:
            for path in (model.checkpoint.path, *(lora.path for lora in model.loras)):
                use(path, stage)
    for upscaler, stage in ((weights.spatial, "stage2"), (weights.temporal, "temporal")):
        if upscaler is not None:
            use(upscaler.path, stage)
            use(weights.vae.path, stage)
    use(weights.vae.path, "decode")
    return {path: tuple(stages) for path, stages in uses.items()}


def record(file: WeightsFile) -> dict[str, Any]:
    """As JSON has it."""
    return {
        "path": str(file.path),
        "kind": file.kind,
        "version": file.version,
        "variant": file.variant,
        "bytes": file.size,
        "stages": list(stages_of(file)),
        "scale": None if file.scale is None else str(file.scale),
        "form": "fp8" if file.fp8 else "quantized" if file.quantized else "16 bits",
        "tiny": file.tiny,
    }
