"""`plan`: what a run would do, with the flags of `generate`, computed from headers alone; nothing is started."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.commands.asked import output_of, settings_of
from orchestrator.commands.generate import chosen_home
from orchestrator.commands.options import Flags, takes_flags
from orchestrator.commands.sheet import WHOLE, Line, hanging, write_lines
from orchestrator.display.streams import Stream
from orchestrator.display.words import count, duration, file_size, memory_size, stage_label, video_words


@takes_flags(Flags)
def plan(flags: Flags) -> None:
    """Say what generate would do, without doing it.

    Takes the same flags, and reads only the headers of the weights: the sizes on the way from base to output, the
    stages, which of them are in the cache, what each would read, and the memory that it would take.
    """
    settings, output = settings_of(flags), output_of(flags.output)
    home = chosen_home(flags.home)
    from orchestrator.disk import check_disk
    from orchestrator.plan_report import describe
    from orchestrator.prepare import check_memory, prepare

    prepared = prepare(settings, home=home, output=output, overwrite=flags.overwrite, stop_after=flags.stop_after)
    report, recipe = describe(prepared).to_dict(), prepared.recipe.to_dict()
    if flags.json:
        from orchestrator.display.machine import json_line

        Stream(sys.stdout).write(json_line({**report, "recipe": recipe, "notes": list(prepared.notes)}))
    else:
        write_lines(plan_lines(report, recipe))
        for note in prepared.notes:
            Stream(sys.stderr).write(f"note: {note}\n")
    check_disk(prepared)
    check_memory(prepared)


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
    yield from total_lines(report)
    for path in report["outputs"]:
        yield [("-> ", "dim"), (str(path), WHOLE)]


def total_lines(report: Mapping[str, Any]) -> Iterator[Line]:
    """Memory against the budget, disk, and the time where it is known."""
    todo = [stage for stage in report["stages"] if not stage["cached"]]
    if todo:
        largest = max(todo, key=lambda stage: stage["memory"]["predicted"])
        words = f"at most {memory_size(largest['memory']['predicted'])}, in {stage_label(largest['name'])}"
        budget = f"; budget {memory_size(report['budget'])} ({report['budget_source']})"
        yield from hanging([("memory    ", "bold")], words + budget, "" if report["fits"] else "red")
    for room in report["rooms"] if todo else ():
        enough = room["needed"] <= room["free"]
        words = f"at most {file_size(room['needed'])} on the disk of {room['place']}; {file_size(room['free'])} free"
        yield from hanging([("disk      ", "bold")], words, "" if enough else "red")
    if todo and report["seconds"] is not None:
        yield [("time      ", "bold"), (f"about {duration(report['seconds'])}, as earlier runs took", "")]


def memory_words(stage: Mapping[str, Any]) -> str:
    """The predicted peak, how weights are held, tiles."""
    memory = stage["memory"]
    words = [f"peak {memory_size(memory['predicted'])}"]
    if memory["holding"] not in ("in memory", "layer by layer"):
        words.append(memory["holding"])
    if memory["tile_count"] is not None:
        words.append(tile_words(memory))
    if not memory["fits"]:
        words.append("does not fit")
    if stage["seconds"] is not None:
        words.append(f"about {duration(stage['seconds'])}")
    return ", ".join(words)


def tile_words(memory: Mapping[str, Any]) -> str:
    """ "24 tiles of 512 pixels, 64 frames" """
    if memory["tile_count"] == 1:
        return "in one piece"
    tiles = memory["tiles"]
    sizes = [f"{tiles[axis]} {unit}" for axis, unit in (("spatial", "pixels"), ("temporal", "frames")) if tiles[axis]]
    return f"{count(memory['tile_count'], 'tile')} of {', '.join(sizes)}"


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
    held = memory_words(stage)
    style = "" if stage["memory"]["fits"] else "red"
    yield [label, (f"{'reads ' + file_size(stage['bytes']):<17}", ""), (held, style), (", ".join(["", *words]), "dim")]
    for use in stage["weights"]:
        name = " ".join([Path(use["path"]).name, *([use["changes"]] if use["changes"] else [])])
        yield [(f"{'':10}{file_size(use['bytes']):>9}  {use['role']:<12} {name}", "dim")]
