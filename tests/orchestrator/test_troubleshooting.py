"""docs/troubleshooting.md quotes messages that the program has, in its own words."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
FIRST_CELLS = [line.split(" | ")[0].removeprefix("| ") for line in PAGE.splitlines() if line.startswith("| `")]
QUOTES = [quote for cell in FIRST_CELLS for quote in re.findall(r"`([^`]+)`", cell)]


def texts_of_the_program() -> str:
    """All its string constants, the parts of formatted ones included; what is between two parts is a new line."""
    found = []
    for folder in ("orchestrator", "workers", "weights", "cache"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [part.value if isinstance(part, ast.Constant) else "\n" for part in node.values]
                    found.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return "\n".join(found)


PROGRAM = texts_of_the_program()


def test_the_page_quotes_messages() -> None:
    assert len(QUOTES) > 30


@pytest.mark.parametrize("quote", QUOTES)
def test_a_quoted_message_exists(quote: str) -> None:
    parts = [part.strip() for part in quote.split("…") if part.strip()]
    assert parts
    for part in parts:
        assert part in PROGRAM, part
