"""Tables in Markdown: whole, or line by line as figures come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def head(heads: Sequence[str]) -> str:
    """The first two lines of a table with these columns."""
    return f"{line(heads)}\n|{'---|' * len(heads)}"


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join([head(heads), *map(line, lines)])
