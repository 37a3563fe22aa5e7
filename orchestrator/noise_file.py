"""The file of `--noise`: whether it suits a recipe, and what of it goes into the keys."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from orchestrator.recipe import Recipe
from orchestrator.sizes import LATENT_CHANNELS
from weights.errors import UsageError, WeightsError
from weights.header import read_header


def noise_shapes(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """What a noise file must hold for this recipe: a stage's tensor -> its shape."""
    geometry = recipe.geometry
    stages = {"stage1": geometry.stage1} | ({"stage2": geometry.stage2} if recipe.two_stage else {})
    return {name: (1, LATENT_CHANNELS, *latent.as_list()) for name, latent in stages.items()}


def check_noise(path: str | None, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """UsageError naming --noise, by the file's header: before stage 1 is computed, not when stage 2 reads it."""
    if path is None:
        return
    try:
        tensors = read_header(Path(path)).tensors
    except WeightsError as error:
        raise UsageError(f"--noise {path} cannot be used: {error}") from error
    for stage in shapes or ("stage1",):
        if stage not in tensors:
            raise UsageError(f"--noise {path} has no tensor named {stage}.")
    for stage, shape in shapes.items():
        found = tensors[stage]
        if (found.dtype, found.shape) != ("F32", shape):
            raise UsageError(
                f"--noise {path}: {stage} is {found.dtype} {list(found.shape)}, and this size and length need F32 "
                f"{list(shape)}."
            )


def hash_of_noise(path: str | None) -> str | None:
    """SHA-256 of the noise file. UsageError naming --noise."""
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"--noise {path} cannot be used: {error}") from error
