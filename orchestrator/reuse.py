"""New runs from old ones: some of a run's seeds carried to the end, its video encoded anew.

Both are a recipe that shares its beginning with the old run's, so the keys find what exists; nothing is copied. What is
no longer in the cache is computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from cache.home import Home
from cache.runs import Run
from orchestrator.pipeline import needed
from orchestrator.prepare import Places, Prepared, prepare_recipe
from orchestrator.recipe import Recipe, recipe_from_dict
from orchestrator.upscaling.recipe import is_upscale
from orchestrator.video_files import output_paths
from weights.errors import UsageError


@dataclass(frozen=True)
class Again:
    """What of an old run's recipe is to be different; None: nothing."""

    seeds: tuple[int, ...] | None = None
    codec: str | None = None
    play_fps: Fraction | None = None


def again(run: Run, changes: Again) -> Recipe:
    """The recipe of `run` with these changes. UsageError for a seed that the run did not have."""
    raw = run.recipe()
    if is_upscale(raw):
        raise UsageError(
            f"The run {run.id} made a video from a video; this is for runs that began with a prompt.",
            advice="To write it anew, give its command again with another --codec or --output.",
        )
    recipe = recipe_from_dict(raw)
    if changes.seeds is not None:
        recipe = replace(recipe, seeds=chosen(run.id, recipe.seeds, changes.seeds))
    if changes.codec is not None:
        recipe = replace(recipe, codec=changes.codec)
    if changes.play_fps is not None:
        recipe = replace(recipe, play_fps=str(changes.play_fps))
    return recipe


def chosen(run: str, there: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...]:
    for seed in wanted:
        if seed not in there:
            raise UsageError(f"The run {run} has no seed {seed}; its seeds are {', '.join(map(str, there))}.")
    if len(set(wanted)) != len(wanted):
        raise UsageError("The same seed is named twice.")
    return tuple(wanted)


def prepare_again(run: Run, changes: Again, *, home: Home, output: Path | None, overwrite: bool) -> Prepared:
    """A run of its own that goes to the end. Raises as `prepare` does."""
    recipe = again(run, changes)
    paths = output_paths(output, recipe.prompt, recipe.seeds, recipe.codec, overwrite)
    prepared = prepare_recipe(recipe, home=home, places=Places(paths, output is not None), overwrite=overwrite)
    return replace(prepared, notes=(*prepared.notes, *notes(prepared)))


def notes(prepared: Prepared) -> tuple[str, ...]:
    """Says so when more is computed than the stages that were asked for."""
    todo = needed(prepared.relay, lambda stage, item: Path(item.output).exists())
    lost = [name for name, items in todo.items() if items and name in ("text", "stage1")]
    return (f"No longer in the cache, and computed again: {', '.join(lost)}.",) if lost else ()
