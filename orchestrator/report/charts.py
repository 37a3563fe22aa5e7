"""The pictures of a report: who worked when, memory over time beside the monolith's sum, seconds per step. Pure.

Shapes are SVG that stretches with the page; words stand beside them as HTML, so that they stay readable on a phone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from orchestrator.display.words import count, duration, memory_size, pace, stage_label, step_unit
from orchestrator.report.facts import Facts, Worker
from orchestrator.report.markup import element, join, line, path, rect, stretched, text, ticks

WIDTH, HEIGHT = 1000, 300
BUDGET_SHOWN = 3.0
"""A budget beyond so many times everything else would leave nothing to see of the rest: it is named instead."""
MAX_BARS = 240
_TIMES = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400)
"""Seconds between two marks on an axis."""
_STAGES = ("text", "encode", "stage1", "preview", "stage2", "temporal", "decode")


def colour(stage: str) -> str:
    """The class that gives a stage its colour."""
    return f"c-{stage}" if stage in _STAGES else "c-other"


# -- the timeline ------------------------------------------------------------------------------------------------------


def timeline(facts: Facts) -> str:
    """A row per stage, a bar per worker; lighter while it reads weights."""
    if not facts.workers:
        return element("p", "No worker was started: everything was in the cache.", class_="quiet")
    whole = max(facts.seconds, *(worker.ended for worker in facts.workers), 1e-3)
    names = list(dict.fromkeys(worker.stage for worker in facts.workers))
    rows = [timeline_row(name, [w for w in facts.workers if w.stage == name], whole) for name in names]
    marks = [element("span", "resumed", class_="mark", style=f"left:{_share(at, whole)}") for at in facts.sessions[1:]]
    labels = [time_mark(at, whole) for at in time_ticks(whole) if at < 0.97 * whole]
    axis = element("div", join([*labels, *marks]), class_="axis")
    return element("div", join([*rows, element("div", element("span") + axis, class_="row")]), class_="gantt")


def timeline_row(name: str, workers: Sequence[Worker], whole: float) -> str:
    bars, words = [], []
    for worker in workers:
        at, length = worker.began / whole * WIDTH, (worker.ended - worker.began) / whole * WIDTH
        took = duration(worker.ended - worker.began)
        ending = {"done": "", "running": ", still at work", "retried": ", tried again"}.get(worker.how, ", did not end")
        title = f"{stage_label(name)}: process {worker.pid}, {took}{ending}"
        bars.append(rect(at, 2, max(length, 2), 16, f"{colour(name)} {worker.how}", title))
        for begin, end in worker.loading:
            bars.append(rect(begin / whole * WIDTH, 2, (end - begin) / whole * WIDTH, 16, "loading"))
        if 1 < len(worker.steps) <= 120:
            bars += [line(end / whole * WIDTH, 14, end / whole * WIDTH, 18, "step") for end, _ in worker.steps[:-1]]
        room, place = "after", f"left:{_share(worker.ended, whole)}"
        if at + length > 0.8 * WIDTH:  # before the bars, else on them
            room = "before" if workers[0].began > 0.12 * whole else "inside"
            place = f"right:{_share(whole - (workers[0].began if room == 'before' else worker.ended), whole)}"
        sign = {"failed": " \u2715", "retried": " \u21bb"}.get(worker.how, "")
        words.append(element("span", text(f"{took}{sign}"), class_=room, style=place))
    track = stretched(join(bars), WIDTH, 20, "track", f"{stage_label(name)}: {count(len(workers), 'process')}")
    label = element("span", text(stage_label(name)), class_="name")
    return element("div", label + element("div", track + join(words[-1:]), class_="box"), class_="row")


# -- memory ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """Bytes on the picture's height."""

    highest: float

    def __call__(self, size: float) -> float:
        return HEIGHT * (1 - min(size, self.highest) / self.highest)

    def top(self, size: float) -> str:
        return f"top:{100 * (1 - min(size, self.highest) / self.highest):.2f}%"


def memory(facts: Facts) -> str:
    """Measured memory over time, each worker's peak and prediction, the budget; beside it one process with it all."""
    if not facts.workers:
        return ""
    total = sum(size for _, _, size in facts.monolith)
    known = [size for _, size, _ in facts.points] + [s.predicted or 0 for s in facts.stages]
    most = max([*known, *(stage.peak or 0 for stage in facts.stages), total, 1])
    budget = facts.budget
    shown = budget is not None and budget <= BUDGET_SHOWN * most
    scale = Scale(max(most, budget or 0 if shown else 0) * 1.08)
    plot = element(
        "div",
        stretched(memory_shapes(facts, scale, budget if shown else None), WIDTH, HEIGHT, "plot", "Memory over time")
        + budget_label(budget, shown, scale),
        class_="box",
    )
    grid = ticks(scale.highest, 5, 1024.0)
    axis = element(
        "div",
        join(element("span", text(round_size(at)), style=scale.top(at)) for at in grid),
        class_="yaxis",
    )
    side = monolith_column(facts, scale, total) if total else element("span")  # its cell of the grid stays
    whole = max(facts.seconds, *(worker.ended for worker in facts.workers), 1e-3)
    times = join(time_mark(at, whole) for at in time_ticks(whole) if at < 0.95 * whole)
    below = element("div", times, class_="axis") + element(
        "div", "one process<br>with it all" if total else "", class_="under"
    )
    return element("div", axis + plot + side + element("span") + below, class_="memory")


def memory_shapes(facts: Facts, scale: Scale, budget: int | None) -> str:
    whole = max(facts.seconds, *(worker.ended for worker in facts.workers), 1e-3)
    shapes = [line(0, scale(at), WIDTH, scale(at), "grid") for at in ticks(scale.highest, 5, 1024.0)]
    shapes += [line(at / whole * WIDTH, 0, at / whole * WIDTH, HEIGHT, "session") for at in facts.sessions[1:]]
    peaks = {stage.name: (stage.measured or stage.peak, stage.predicted) for stage in facts.stages}
    last = {worker.stage: worker for worker in facts.workers}
    for worker in facts.workers:
        left, right = worker.began / whole * WIDTH, max(worker.ended / whole * WIDTH, worker.began / whole * WIDTH + 2)
        inside = [
            (at / whole * WIDTH, scale(size))
            for at, size, stage in facts.points
            if stage == worker.stage and worker.began <= at <= worker.ended
        ]
        measured, predicted = peaks.get(worker.stage, (None, None))
        if worker is not last[worker.stage]:
            measured = predicted = None
        if measured:  # sampling may miss the peak; the system does not
            shapes.append(
                rect(left, scale(measured), right - left, HEIGHT - scale(measured), f"peak {colour(worker.stage)}")
            )
        if inside:
            steps = [(left, HEIGHT), (left, inside[0][1]), *inside, (right, inside[-1][1]), (right, HEIGHT)]
            shapes.append(path(steps, f"area {colour(worker.stage)}", close=True))
        if measured:
            title = f"{stage_label(worker.stage)}: {memory_size(measured)} at most"
            shapes.append(rect(left, scale(measured) - 1, right - left, 2, colour(worker.stage), title))
        if predicted:
            shapes.append(line(left, scale(predicted), right, scale(predicted), "predicted"))
    if budget is not None:
        shapes.append(line(0, scale(budget), WIDTH, scale(budget), "budget"))
    return join(shapes)


def budget_label(budget: int | None, shown: bool, scale: Scale) -> str:
    if budget is None:
        return ""
    if shown:
        return element("span", text(f"budget {memory_size(budget)}"), class_="budget-word", style=scale.top(budget))
    return element(
        "span", text(f"\u2191 budget {memory_size(budget)}, far above"), class_="budget-word", style="top:1.4em"
    )


def monolith_column(facts: Facts, scale: Scale, total: int) -> str:
    """The sum as one stack, from the bottom, in the stages' colours."""
    shapes, at = [], 0
    for stage, role, size in facts.monolith:
        title = f"{stage_label(stage)} {role}".strip() + f": {memory_size(size)}"
        shapes.append(rect(0, scale(at + size), 100, scale(at) - scale(at + size), f"{colour(stage)} stack", title))
        at += size
    label = element("span", text(memory_size(total)), class_="sum", style=scale.top(total))
    return element(
        "div",
        stretched(join(shapes), 100, HEIGHT, "plot", f"One process that holds everything: {memory_size(total)}")
        + label,
        class_="box stackbox",
    )


# -- steps -------------------------------------------------------------------------------------------------------------


def step_charts(workers: Iterable[Worker]) -> str:
    """Seconds of each step, a small chart per stage that has several."""
    by_stage: dict[str, list[float]] = {}
    for worker in workers:
        by_stage.setdefault(worker.stage, []).extend(seconds for _, seconds in worker.steps)
    charts = [step_chart(name, seconds) for name, seconds in by_stage.items() if len(seconds) > 1]
    return element("div", join(charts), class_="steps") if charts else ""


def step_chart(stage: str, seconds: Sequence[float]) -> str:
    group = -(-len(seconds) // MAX_BARS)
    bars = [max(seconds[at : at + group]) for at in range(0, len(seconds), group)]
    highest = max(*bars, 1e-9)
    unit = step_unit(stage)
    wide = WIDTH / len(bars)
    shapes = [
        rect(
            index * wide + wide * 0.08,
            100 * (1 - value / highest),
            wide * 0.84,
            100 * value / highest,
            colour(stage),
            f"{unit} {index * group + 1}: {pace(value)}",
        )
        for index, value in enumerate(bars)
    ]
    middle = median(seconds)
    shapes.append(line(0, 100 * (1 - middle / highest), WIDTH, 100 * (1 - middle / highest), "median"))
    facts = f"{count(len(seconds), unit)}, {pace(middle)} each, {pace(max(seconds))} at most"
    head = element("b", text(stage_label(stage))) + element("span", text(facts))
    picture = stretched(join(shapes), WIDTH, 100, "bars", f"Seconds of each {unit} of {stage_label(stage)}")
    return element("figure", element("figcaption", head) + picture)


def bullet(predicted: int | None, measured: int | None, highest: int, stage: str) -> str:
    """Measured as a bar, predicted as a mark, on a scale that all stages share."""
    if not highest or not (predicted or measured):
        return ""
    shapes = [rect(0, 4, 1000, 4, "rail")]
    if measured:
        shapes.append(rect(0, 2, 1000 * measured / highest, 8, colour(stage)))
    if predicted:
        shapes.append(rect(1000 * predicted / highest - 4, 0, 8, 12, "marker"))
    return stretched(join(shapes), 1000, 12, "bullet", "predicted and measured peak")


def time_ticks(whole: float) -> list[float]:
    """Round times from 0 on, about five."""
    step = next((step for step in _TIMES if whole / step <= 6), None)
    return ticks(whole, 5) if step is None else [step * index for index in range(int(whole / step) + 1)]


def time_mark(at: float, whole: float) -> str:
    words = duration(at).replace(" 00s", "").replace(" 00m", "").replace(".0 s", " s") if at else "0"
    return element("span", text(words), style=f"left:{_share(at, whole)}")


def round_size(size: float) -> str:
    return memory_size(int(size)).replace(".0 ", " ") if size else "0"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f}%"
