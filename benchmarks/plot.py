"""Line charts as SVG, two in a row. Pure: numbers in, the file's text out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 370, 66, 16, 58, 52
COLOURS = ("#1f5fa8", "#c8502c", "#2f8f5b", "#8a4fa3", "#9a7b12")


@dataclass(frozen=True)
class Line:
    name: str
    points: Sequence[Point]
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """spots: measured points. logarithmic: the axis upwards."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    spots: Sequence[Point] = ()
    logarithmic: bool = False


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` onto pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        low, high, value = (math.log10(one) if self.logarithmic else one for one in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.logarithmic:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**power for power in range(first, last + 1)]
        rough = (self.high - self.low) / 6
        unit = 10 ** math.floor(math.log10(rough))
        step = next(unit * times for times in (1, 2, 2.5, 5, 10) if unit * times >= rough)
        return [step * index for index in range(math.ceil(self.low / step), math.floor(self.high / step + 1e-9) + 1)]


def draw(panels: Sequence[Panel], note: str = "") -> str:
    """The whole picture, white behind it."""
    rows = -(-len(panels) // 2)
    width, height = 2 * WIDTH, rows * (HEIGHT + 96) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for index, panel in enumerate(panels):
        parts.append(f'<g transform="translate({index % 2 * WIDTH} {index // 2 * (HEIGHT + 96)})">')
        parts += [*_panel(panel), "</g>"]
    parts.append(f'<text x="{LEFT}" y="{height - 12}" fill="#555">{escape(note)}</text></svg>')
    return "\n".join(parts) + "\n"


def _panel(panel: Panel) -> Iterator[str]:
    points = [point for line in panel.lines for point in line.points] + list(panel.spots)
    x = Axis(0, max(point[0] for point in points) * 1.03, LEFT, WIDTH - RIGHT)
    top = max(point[1] for point in points)
    if panel.logarithmic:
        least = min(point[1] for point in points)
        low, high = 10 ** math.floor(math.log10(least)), 10 ** math.ceil(math.log10(top))
    else:
        low, high = 0, top * 1.08
    y = Axis(low, high, HEIGHT - BOTTOM, TOP, panel.logarithmic)
    yield f'<text x="{LEFT}" y="24" font-size="15" font-weight="bold">{escape(panel.title)}</text>'
    for tick in y.ticks():
        at = y.at(tick)
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_number(tick)}</text>'
    for tick in x.ticks():
        at = x.at(tick)
        yield f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 4}" stroke="#555"/>'
        yield f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{_number(tick)}</text>'
    yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}" stroke="#555"/>'
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 14}" text-anchor="middle">{escape(panel.x)}</text>'
    yield f'<text x="{LEFT - 6}" y="{TOP - 14}" text-anchor="end">{escape(panel.y)}</text>'
    for index, line in enumerate(panel.lines):
        colour, dash = COLOURS[index % len(COLOURS)], ' stroke-dasharray="6 4"' if line.dashed else ""
        path = " ".join(f"{x.at(a):.1f},{y.at(b):.1f}" for a, b in line.points)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
        column, at = index % 2, HEIGHT + 16 + index // 2 * 20
        start = LEFT + column * (WIDTH - LEFT - RIGHT) / 2
        yield f'<line x1="{start}" x2="{start + 26}" y1="{at}" y2="{at}" stroke="{colour}" stroke-width="2"{dash}/>'
        yield f'<text x="{start + 32}" y="{at + 4}">{escape(line.name)}</text>'
    for a, b in panel.spots:
        yield f'<circle cx="{x.at(a):.1f}" cy="{y.at(b):.1f}" r="5" fill="#111"/>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"
