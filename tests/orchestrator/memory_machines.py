"""Full-size LTX-2 19B as sparse files, and machines to plan for: what tests of the memory plan share."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.find_weights import find_weights
from orchestrator.machine import Machine
from orchestrator.memory import Network
from orchestrator.memory_budget import budget
from orchestrator.pipeline import StagePlan, relay
from orchestrator.planning import Means, means, networks_of, plan_stages, tiles_for
from orchestrator.prepare import model_facts
from orchestrator.recipe import Recipe, WeightsChoice
from orchestrator.settings import Settings, check, settle
from tests.weights.sparse import write_gemma, write_inventory

GB = 1 << 30


def write_full_size(folder: Path) -> Path:
    """The files of LTX-2 19B with their true headers and a hole for data."""
    for name in (
        "ltx-2-19b-dev",
        "ltx-2-19b-distilled",
        "ltx-2-spatial-upscaler-x2-1.0",
        "ltx-2-temporal-upscaler-x2-1.0",
    ):
        write_inventory(folder / f"{name}.safetensors", name)
    write_gemma(folder / "gemma-3-12b-it")
    (folder / "gemma-3-12b-it" / "tokenizer.json").write_text("{}")
    return folder


def machine(backend: str, memory: float, working_set: float | None = None, card: float | None = None) -> Machine:
    """Sizes in GB."""
    dtype = "float32" if backend == "cpu" else "bfloat16"
    return Machine(
        backend=backend,
        device="",
        architecture="",
        memory=int(memory * GB),
        device_memory=None if card is None else int(card * GB),
        working_set=None if working_set is None else int(working_set * GB),
        mlx="0",
        blas="none",
        threads=1,
        dtype=dtype,
        cpus=8,
    )


MAC = machine("metal", 32, working_set=21.3)
H100 = machine("cuda", 128, card=80)
LINUX = machine("cpu", 64)


@cache
def weights_in(folder: Path) -> Any:
    return find_weights(WeightsChoice(model=str(folder)), "max", two_stage=True, temporal=True)


def recipe_for(folder: Path, **asked: Any) -> Recipe:
    settings = Settings(**{"prompt": "A red fox in the snow", "weights": WeightsChoice(model=str(folder)), **asked})
    return settle(check(settings), model_facts(weights_in(folder)))


def stages_for(folder: Path, recipe: Recipe, on: Machine) -> tuple[StagePlan, ...]:
    from cache.home import Home
    from orchestrator.pipeline import Sources

    sources = Sources(
        weights=weights_in(folder),
        fingerprint=lambda path: path.name,
        numerics={**on.numerics, "dtype": on.dtype},
        home=Home(Path("/home")),
        tiles={},
        container=".mp4",
    )
    return relay(recipe, sources)


def planned(folder: Path, recipe: Recipe, on: Machine, available: float = 64, history: tuple[Any, ...] = ()) -> Any:
    """(the recipe with its tiles, stages, means) as `prepare` has them."""
    recipe = replace(recipe, tiles=tiles_for(recipe, weights_in(folder), on, on.dtype).as_recipe())
    given: Means = means(on, budget(recipe.memory, on, int(available * GB)), history)
    return recipe, plan_stages(recipe, stages_for(folder, recipe, on), given), given


def networks(folder: Path, recipe: Recipe, on: Machine) -> dict[str, dict[str, Network]]:
    return {stage.name: networks_of(stage) for stage in stages_for(folder, recipe, on)}
