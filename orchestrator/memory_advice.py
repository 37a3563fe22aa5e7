"""What to say when a run does not fit: by how much, and which settings would, each of them tried in the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

from orchestrator.display.words import memory_size, stage_label
from orchestrator.memory_plan import StageMemory
from orchestrator.recipe import Recipe
from orchestrator.sizes import GRID
from weights.errors import DoesNotFit

GB, MB = 1 << 30, 1 << 20
FRAMES = (97, 73, 49, 33, 25, 17, 9)
SHARES = (Fraction(3, 4), Fraction(2, 3), Fraction(1, 2), Fraction(1, 3), Fraction(1, 4))


def does_not_fit(recipe: Recipe, worst: StageMemory, fits: Callable[[Recipe], bool]) -> DoesNotFit:
    """The error, with the settings that would fit. fits: whether a recipe does, as a whole."""
    over = worst.expected - worst.budget.bytes
    message = (
        f"{stage_label(worst.work.stage).capitalize()} needs about {memory_size(worst.expected)} of memory however its "
        f"weights are held, and the budget is {memory_size(worst.budget.bytes)} ({worst.budget.source}): "
        f"{memory_size(over)} too little."
    )
    found = [words for words, other in changes(recipe, worst) if fits(other)]
    first_of_each = {words.split()[0]: words for words in reversed(found)}
    choices = [words for words in found if words in first_of_each.values()]
    if not choices:
        return DoesNotFit(
            message, advice="Nothing that could be changed one at a time would fit; close other programs."
        )
    return DoesNotFit(message, advice=f"Any of these would fit: {'; '.join(choices)}.")


def changes(recipe: Recipe, worst: StageMemory) -> Iterator[tuple[str, Recipe]]:
    """One setting changed at a time, the mildest of a kind first: (the flag, the recipe)."""
    memory = worst.budget.bytes
    if recipe.memory is None:
        # Tiles follow the stated budget: where less is free than this machine has, saying so makes them smaller.
        unit, size = ("GB", GB) if memory >= GB else ("MB", MB)
        stated = max(1, memory // size)
        yield f"--memory {stated}{unit}", replace(recipe, memory=stated * size)
    else:
        needed = -(-worst.expected * 102 // (100 * GB))
        yield f"--memory {needed}GB", replace(recipe, memory=needed * GB)
    if worst.work.blocks and recipe.quantize is None:
        for bits in (8, 4):
            yield f"--quantize {bits}", replace(recipe, quantize=bits)
    for frames in FRAMES:
        if frames < recipe.frames:
            yield f"--frames {frames}", replace(recipe, frames=frames)
    grid = GRID * Fraction(recipe.scale).denominator
    for share in SHARES:
        height, width = (max(grid, int(side * share) // grid * grid) for side in (recipe.height, recipe.width))
        if (height, width) != (recipe.height, recipe.width):
            words = f"--height {height} --width {width}"
            yield words, replace(recipe, height=height, width=width, size=None)
