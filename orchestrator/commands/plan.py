"""`plan`: what a run would do, with the flags of `generate`, computed from headers alone; nothing is started."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.commands.asked import output_of, settings_of
from orchestrator.commands.generate import chosen_home
from orchestrator.commands.options import Flags, takes_flags
from orchestrator.commands.sheet import Line, write_lines
from orchestrator.display.streams import Stream
from orchestrator.display.words import count, file_size, memory_size, stage_label, video_words


@takes_flags
def plan(flags: Flags) -> None:
    """Say what generate would do, without doing it.

    Takes the same flags, and reads only the headers of the weights: the sizes on the way from base to output, the
    stages, which of them are in the cache, and what each would read.
    """
    settings, output = settings_of(flags), output_of(flags)
    home = chosen_home(flags.home)
    from orchestrator.plan import describe
    from orchestrator.prepare import prepare

    prepared = prepare(settings, home=home, output=output, overwrite=flags.overwrite, stop_after=flags.stop_after)
    report, recipe = describe(prepared).to_dict(), prepared.recipe.to_dict()
    if flags.json:
        from orchestrator.display.machine import json_line

        Stream(sys.stdout).write(json_line({**report, "recipe": recipe, "notes": list(prepared.notes)}))
        return
    write_lines(plan_lines(report, recipe))
    for note in prepared.notes:
        Stream(sys.stderr).write(f"note: {note}\n")


def plan_lines(report: Mapping[str, Any], recipe: Mapping[str, Any]) -> Iterator[Line]:
    """A `PlanReport` and its recipe as lines of (text, style)."""
    (base_width, base_height), (width, height) = report["base"], report["output"]
    yield [(str(recipe["prompt"]), "bold")]
    size = video_words(width, height, report["output_frames"], report["output_fps"])
    yield [(f"base {base_width}x{base_height} -> ", "dim"), (size, "")]
    yield [(", ".join([*recipe_words(recipe), f"{report['dtype']} on {report['backend']}"]), "dim")]
    yield []
    for stage in report["stages"]:
        yield from stage_lines(stage)
    yield []
    for path in report["outputs"]:
        yield [("-> ", "dim"), (str(path), "")]


def recipe_words(recipe: Mapping[str, Any]) -> Iterator[str]:
    """Preset, steps, guidance and seeds, in words."""
    yield f"preset {recipe['preset']}"
    steps = [recipe["steps_stage1"], recipe["steps_stage2"]]
    yield " + ".join(str(number) for number in steps if number) + " steps"
    yield "no guidance" if recipe["cfg"] == 1.0 else f"CFG {recipe['cfg']:g}"
    seeds = recipe["seeds"]
    yield f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
    if recipe["memory"]:
        yield f"budget {memory_size(recipe['memory'])}"


def stage_lines(stage: Mapping[str, Any]) -> Iterator[Line]:
    """The stage, then a line for every file that its worker reads."""
    words = [count(stage["items"], "result")] if stage["items"] != 1 else []
    if stage["shape"]:
        words.append("latent " + "x".join(map(str, stage["shape"])))
    label = (f"{stage_label(stage['name']):<10}", "bold")
    if stage["cached"]:
        yield [label, (f"{'cached':<17}", "green"), (", ".join(words), "dim")]
        return
    yield [label, (f"{'reads ' + file_size(stage['bytes']):<17}", ""), (", ".join(words), "dim")]
    for use in stage["weights"]:
        yield [(f"{'':10}{file_size(use['bytes']):>9}  {use['role']:<12} {Path(use['path']).name}", "dim")]
