"""The weights of a run, from what the user named and what lies in the usual places. Only headers are read."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from orchestrator.presets import PRESETS
from orchestrator.recipe import LoraChoice, WeightsChoice
from weights import catalogue
from weights.errors import WeightsError
from weights.header_json import no_access
from weights.resolve import (
    LoraRequest,
    UpscalerSet,
    WeightsRequest,
    WeightsSet,
    default_search,
    resolve,
    resolve_upscaler,
)

Found = TypeVar("Found")


def find_weights(
    choice: WeightsChoice,
    preset: str,
    two_stage: bool,
    temporal: bool,
    loras: tuple[LoraChoice, ...] = (),
    quantize: int | None = None,
) -> WeightsSet:
    """The files that serve these stages, by what their headers say. WeightsError (3)."""
    request = replace(
        WeightsRequest(**asdict(choice)),
        loras=tuple(LoraRequest(path, strength, stage) for path, strength, stage in loras),
        quantize=quantize,
        model_variant=choice.model_variant or PRESETS[preset].variant,
        two_stage=two_stage,
        temporal=temporal,
    )
    return _found(partial(resolve, request))


def find_upscaler(choice: WeightsChoice, *, spatial: bool) -> UpscalerSet:
    """The checkpoint and the upscaler, of the size or of the frame rate. WeightsError (3)."""
    request = replace(WeightsRequest(**asdict(choice)), two_stage=spatial, temporal=not spatial, tokenizer=False)
    return _found(partial(resolve_upscaler, request, catalogue.SPATIAL if spatial else catalogue.TEMPORAL))


def _found(resolve_in: Callable[[Sequence[Path]], Found]) -> Found:
    try:
        return resolve_in(default_search(os.environ))
    except OSError as error:  # a name that no file can have, a folder that may not be looked into
        raise WeightsError(no_access(Path(str(error.filename)), error)) from error
