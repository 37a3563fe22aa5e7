"""Tables of `benchmarks.quality`, in Markdown, from the answers about every video. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.quality_measures import FOLDS, MOVING
from benchmarks.tables import table
from training.world import scenes
from training.world.captions import SHAPES, Combination

Answers = dict[str, Any]
Row = tuple[list[Answers], list[Combination]]
Rows = Mapping[str, Row]

_DIRECTIONS = (scenes.LEFT, scenes.RIGHT, scenes.UP, scenes.DOWN)
_MOVED = 0.5
"""Pixels from frame to frame below which there is no movement to be even or uneven."""


def share(answers: Iterable[bool | None]) -> str:
    """Of what was answered."""
    known = [answer for answer in answers if answer is not None]
    return f"{sum(known) / len(known):.2f}" if known else ""


def mean(values: Iterable[float | None], form: str = ".2f") -> str:
    known = [value for value in values if value is not None and not math.isnan(value)]
    return format(sum(known) / len(known), form) if known else ""


def adherence(rows: Rows) -> str:
    """The share of videos that show what was named."""

    def cells(name: str, row: Row) -> list[str]:
        answers, named = row
        directed = [answer["motion"] for answer, one in zip(answers, named, strict=True) if one.motion in _DIRECTIONS]
        everything = [all(answer[what] for what in ("colour", "background", "motion", "shape")) for answer in answers]
        simple = [share(answer[what] for answer in answers) for what in ("visible", "colour", "background", "motion")]
        return [name, *simple, share(directed), share(answer["shape"] for answer in answers), share(everything)]

    heads = ["", "visible", "colour", "background", "motion", "direction", "shape", "all of them"]
    return table(heads, (cells(name, row) for name, row in rows.items()))


def kinds(rows: Rows) -> str:
    """Shapes by kind."""

    def of(row: Row, kind: int) -> str:
        return share(answer["shape"] for answer, one in zip(*row, strict=True) if one.shape == kind)

    lines = ([name, *(of(row, kind) for kind in range(len(SHAPES)))] for name, row in rows.items())
    return table(["shape", *(f"{shape}s" for shape in SHAPES)], lines)


def turning(rows: Rows) -> str:
    """Squares, triangles and stars: whether those turn that should, and those do not that should not."""

    def cells(name: str, row: Row) -> list[str]:
        spinning, other = [], []
        for answer, one in zip(*row, strict=True):
            if one.shape in FOLDS:
                (spinning if one.motion == scenes.SPINNING else other).append(answer)
        asked = [bool(answer["spins"]) for answer in spinning]
        rate = mean(answer["rate"] for answer in spinning)
        unasked = [bool(answer["spins"]) for answer in other]
        counts = [f"{share(answers)} of {len(answers)}" if answers else "" for answers in (asked, unasked)]
        return [name, counts[0], rate, counts[1]]

    heads = ["", "turning where asked", "mean rate there, rad/s", "turning where not asked"]
    return table(heads, (cells(name, row) for name, row in rows.items()))


def edges(rows: Rows) -> str:
    """Sharpness, and what is around the silhouette."""

    def cells(name: str, row: Row) -> list[str]:
        found = [answer for answer in row[0] if answer["width"] is not None]
        values = [mean((answer[what] for answer in found), form) for what, form in _EDGES]
        return [name, *values, f"{len(found)} of {len(row[0])}"]

    heads = [
        "",
        "edge width, pixels",
        "overshoot",
        "residue",
        "halo, of 255",
        "elsewhere, of 255",
        "videos with an edge",
    ]
    return table(heads, (cells(name, row) for name, row in rows.items()))


_EDGES = (("width", ".2f"), ("overshoot", ".3f"), ("residue", ".3f"), ("halo", ".2f"), ("elsewhere", ".2f"))


def smoothness(rows: Rows) -> str:
    """Shown at 48 frames a second; only prompts that name a movement, and objects that move."""
    lines = []
    for name, (answers, named) in rows.items():
        moving = [answer for answer, one in zip(answers, named, strict=True) if one.motion in MOVING and moves(answer)]
        for way in moving[0]["shown"] if moving else ():
            shown = [answer["shown"][way] for answer in moving]
            figures = [mean(one[what] for one in shown) for what in _SMOOTH]
            lines.append([f"{name}, {way}", *figures, str(len(moving))])
    heads = ["shown at 48", "judder", "off the middle", "change, of 255", "flicker, of 255", "edge between", "videos"]
    return table(heads, lines)


_SMOOTH = ("judder", "midway", "change", "flicker", "width between")


def moves(answer: Answers) -> bool:
    shown = next(iter(answer.get("shown", {}).values()), None)
    return bool(shown) and not math.isnan(shown["step"]) and shown["step"] > _MOVED


def compare(rows: Rows) -> str:
    """Prompt by prompt: how often one run is better than another, and the mean difference."""
    runs = {name.rpartition(" (")[0]: row[0] for name, row in rows.items()}
    named = {name.rpartition(" (")[0]: row[1] for name, row in rows.items()}
    lines = []
    for what, better, worse, of, moving in _COMPARISONS:
        if better not in runs or worse not in runs:
            continue
        pairs = [
            (of(first), of(second))
            for first, second, one in zip(runs[better], runs[worse], named[better], strict=True)
            if not moving or (one.motion in MOVING and moves(first) and moves(second))
        ]
        known = [(a, b) for a, b in pairs if a is not None and b is not None and not math.isnan(a + b)]
        ahead = sum(a < b for a, b in known)
        gap = mean(a - b for a, b in known)
        lines.append([what, better, worse, f"{ahead} of {len(known)}", gap])
    return table(["", "better", "worse", "in how many prompts", "mean difference"], lines)


def _shown(what: str, *ways: str) -> Callable[[Answers], float | None]:
    def of(answer: Answers) -> float | None:
        for way in ways:
            if way in answer["shown"]:
                return answer["shown"][way][what]
        return None

    return of


_DOUBLED, _FADED = ("as it is", "doubled"), ("as it is", "cross-faded")
_COMPARISONS: Sequence[tuple[str, str, str, Callable[[Answers], float | None], bool]] = (
    ("edge width", "two-stage", "draft", lambda answer: answer["width"], False),
    ("edge width", "max", "two-stage", lambda answer: answer["width"], False),
    ("halo", "two-stage", "draft", lambda answer: answer["halo"], False),
    ("judder against every frame twice", "max", "two-stage", _shown("judder", *_DOUBLED), True),
    ("change against every frame twice", "max", "two-stage", _shown("change", *_DOUBLED), True),
    ("judder against cross-fading", "max", "two-stage", _shown("judder", *_FADED), True),
    ("edge in the frames between against cross-fading", "max", "two-stage", _shown("width between", *_FADED), True),
    ("judder of the same instants", "max", "two-stage", lambda answer: answer["at 24"]["judder"], True),
    ("flicker of the same instants", "max", "two-stage", lambda answer: answer["at 24"]["flicker"], False),
)
