"""One line of text for each stage and run, for a terminal: pure, from a view, the time and a width."""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text

from orchestrator.display.view import RunView, StageView
from orchestrator.display.words import (
    count,
    duration,
    file_size,
    memory_size,
    pace,
    printable,
    stage_label,
    step_unit,
    video_words,
)

NAME = 10
MIN_BAR, MAX_BAR = 8, 32


@dataclass(frozen=True)
class Glyphs:
    """Marks and bar. Filled and empty differ in shape, so that the bar reads without colour."""

    done: str
    cached: str
    running: str
    waiting: str
    pending: str
    failed: str
    full: str
    empty: str
    dot: str


UNICODE = Glyphs("✓", "✓", "●", "◌", "○", "✗", "━", "─", "·")
ASCII = Glyphs("+", "=", "*", "~", ".", "x", "#", "-", "|")


def title_lines(view: RunView, glyphs: Glyphs, width: int) -> list[Text]:
    """The prompt, cut to one line, and what will come out."""
    started = view.started
    recipe = view.recipe
    facts = [video_words(started.get("width"), started.get("height"), started.get("frames"), started.get("fps"))]
    if recipe.get("preset"):
        facts.append(str(recipe["preset"]))
    seeds = recipe.get("seeds")
    seeds = list(seeds) if isinstance(seeds, list | tuple) else []
    if seeds:
        shown = ", ".join(map(str, seeds[:4])) + (", ..." if len(seeds) > 4 else "")
        facts.append(f"{'seed' if len(seeds) == 1 else 'seeds'} {shown}")
    what = Text("  " + f" {glyphs.dot} ".join(printable(fact) for fact in facts), style="dim")
    words = str(recipe.get("prompt") or recipe.get("title") or "")
    prompt = Text("  " + printable(words), style="bold")
    if prompt.cell_len > width:
        prompt.truncate(width - 3)
        prompt.append("...")
    return [prompt, what, Text("")] if words else [what, Text("")]


def stage_line(stage: StageView, now: float, width: int, glyphs: Glyphs) -> Text:
    """The line of one stage, at most `width` cells where that is possible without losing its name."""
    mark, style = {
        "pending": (glyphs.pending, "dim"),
        "cached": (glyphs.cached, "dim green"),
        "waiting": (glyphs.waiting, "yellow"),
        "loading": (glyphs.running, "cyan"),
        "running": (glyphs.running, "cyan"),
        "done": (glyphs.done, "green"),
        "failed": (glyphs.failed, "red"),
    }[stage.status]
    name_style = {"pending": "dim", "cached": "dim", "running": "bold", "loading": "bold", "waiting": "bold"}
    name = f"{stage_label(stage.name):<{NAME}}"
    line = Text.assemble("  ", (mark, style), " ", (name, name_style.get(stage.status, "")))
    line.append_text(_rest(stage, now, width - line.cell_len, glyphs))
    line.rstrip()
    return line


def _rest(stage: StageView, now: float, width: int, glyphs: Glyphs) -> Text:
    match stage.status:
        case "pending":
            return Text("")
        case "cached":
            return Text(f"{'cached':>8}", style="dim")
        case "waiting":
            return Text(f"waiting: {printable(stage.message)}" if stage.message else "waiting", style="yellow")
        case "done":
            words = Text(f"{duration(stage.seconds):>8}" if stage.seconds is not None else f"{'':>8}")
            if stage.peak:
                words.append(f"   peak {memory_size(stage.peak):>8}", style="dim")
            return words
        case "failed":
            at = f"stopped at {_steps(stage)}" if stage.total else "stopped"
            return Text(at, style="red")
    if stage.total:
        return _progress(stage, now, width, glyphs)
    size = stage.weights_bytes or stage.loading
    reading = f"reading {file_size(size)} of weights" if size else "reading weights"
    doing = reading if stage.status == "loading" else "at work"
    return Text.assemble(doing, (f"   {duration(stage.elapsed(now))}", "dim"), (_memory(stage), "dim"))


def _progress(stage: StageView, now: float, width: int, glyphs: Glyphs) -> Text:
    """Bar, counts, pace, time left, memory; when it is narrow, the pace goes first, then memory, then the bar."""
    left = stage.time_left(now)
    counts = f" {_counts(stage, glyphs)}"
    speed = f"  {pace(stage.pace) + '/' + step_unit(stage.name):>12}" if stage.pace is not None else ""
    time = "" if left is None else f"  {duration(left) + ' left':>12}" if left >= 0.5 else f"  {'finishing':>12}"
    memory = _memory(stage)
    parts = [counts, speed, time, memory]
    for drop in (1, 3, 2):
        if width - sum(map(len, parts)) >= MIN_BAR:
            break
        parts[drop] = ""
    bar = min(MAX_BAR, width - sum(map(len, parts)))
    line = _bar(stage.fraction, bar, glyphs) if bar >= 4 else Text("")
    line.append(parts[0])
    line.append(parts[1], style="dim")
    line.append(parts[2])
    line.append(parts[3], style="dim")
    return line


def _bar(fraction: float, width: int, glyphs: Glyphs) -> Text:
    full = int(fraction * width)
    return Text.assemble((glyphs.full * full, "cyan"), (glyphs.empty * (width - full), "dim"))


def _counts(stage: StageView, glyphs: Glyphs) -> str:
    """`12/15`, padded to the width that it will have at the end; with several videos, which one first."""
    digits = len(str(stage.total))
    steps = f"{stage.index:>{digits}}/{stage.total}"
    return steps if stage.items <= 1 else f"{stage.item}/{stage.items} {glyphs.dot} {steps}"


def _steps(stage: StageView) -> str:
    of = f"{step_unit(stage.name)} {stage.index} of {stage.total}"
    return of if stage.items <= 1 else f"{of} of {stage.noun} {stage.item} of {stage.items}"


def _memory(stage: StageView) -> str:
    return f"  {memory_size(stage.memory):>8}" if stage.memory else ""


def summary(view: RunView) -> str:
    """What is said at the end of a run that made everything: how long, and how much memory at most."""
    fresh = [video for video in view.videos if not video.get("cached")]
    if view.videos and not fresh:
        return "Nothing to do: " + ("the video is" if len(view.videos) == 1 else "the videos are") + " there already."
    words = f"{count(len(view.paths), 'video')} done" if len(view.paths) > 1 else "Done"
    if view.seconds is not None:
        words += f" in {duration(view.seconds)}"
    if view.largest:
        words += f"; at most {memory_size(view.largest.peak)} of memory, in {stage_label(view.largest.name)}"
    return words + "."
