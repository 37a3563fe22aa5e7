"""Text as HTML and SVG: escaping, elements, figures. Pure.

What comes from outside (prompts, paths, messages, names) gets into a page through `text` or `attribute` only.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable
from math import ceil, floor, log10

_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Categories that a browser shows as nothing, or that turn the text around them: controls, marks of direction."""
_JOINERS = "\u200c\u200d\ufe0f"
"""These are parts of words in some scripts, and of emoji."""


def text(value: object) -> str:
    """For the content of an element: escaped, with what cannot be seen as its code point in a little frame."""
    return "".join(map(_character, str(value)))


def attribute(value: object) -> str:
    """For a quoted attribute: escaped, with what cannot be seen as `?`."""
    return html.escape("".join("?" if _hidden(c) else c for c in str(value)), quote=True)


def element(name: str, content: str = "", **attributes: object) -> str:
    """`content` is markup already; `class_` and the like lose their underscore, the others become hyphens."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{said}>{content}</{name}>"


def join(parts: Iterable[str]) -> str:
    return "".join(parts)


def rect(x: float, y: float, width: float, height: float, class_: str, title: str = "") -> str:
    return element(
        "rect",
        element("title", text(title)) if title else "",
        x=_n(x),
        y=_n(y),
        width=_n(max(0.0, width)),
        height=_n(max(0.0, height)),
        class_=class_,
    )


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    return element("line", x1=_n(x1), y1=_n(y1), x2=_n(x2), y2=_n(y2), class_=class_)


def path(points: Iterable[tuple[float, float]], class_: str, close: bool = False) -> str:
    """Straight lines through the points."""
    drawn = "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
    return element("path", d=f"M{drawn}{'Z' if close else ''}", class_=class_)


def stretched(content: str, width: int, height: int, class_: str, label: str) -> str:
    """An SVG that fills its box whatever that box's shape is; strokes keep their width, and it holds no text."""
    return element(
        "svg",
        content,
        viewBox=f"0 0 {width} {height}",
        preserveAspectRatio="none",
        class_=class_,
        role="img",
        aria_label=label,
    )


def ticks(highest: float, count: int = 4, base: float = 10.0) -> list[float]:
    """Round numbers from 0 to `highest`, about `count` of them. base: 1024 for bytes, of which halves are round."""
    if highest <= 0:
        return [0.0]
    rough = highest / count
    if base == 1024.0:
        unit = 1024.0 ** floor(log10(max(rough, 1.0)) / log10(1024.0) + 1e-9)
        size = max(rough / unit, 1.0)
        steps = [1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 50, 64, 100, 128, 200, 256, 400, 512, 1024]
        step = unit * next(s for s in steps if s >= size - 1e-9)
    else:
        power = 10.0 ** floor(log10(rough))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    return [step * index for index in range(ceil(highest / step + 1e-9)) if step * index <= highest]


def _character(character: str) -> str:
    if character == "\n":
        return "<br>"
    if character == "\t":
        return " "
    if _hidden(character):
        return f'<span class="code">U+{ord(character):04X}</span>'
    return html.escape(character, quote=True)


def _hidden(character: str) -> bool:
    return unicodedata.category(character) in _INVISIBLE and character not in _JOINERS


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") or "0"
