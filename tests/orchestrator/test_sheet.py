"""Sentences beside labels: on a terminal no word of them is cut, at any width; in a pipe they are one line."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.commands import sheet

LABEL = [("warning ", "yellow"), ("weights   ", "bold")]


@given(
    text=st.lists(st.text("abcdefghij-.", min_size=1, max_size=12), min_size=1, max_size=30).map(" ".join),
    width=st.integers(min_value=16, max_value=200),
)
def test_every_word_is_there(text: str, width: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sheet, "is_terminal", lambda file: True)
        patch.setattr("orchestrator.display.screen.terminal_size", lambda file: (width, 24))
        lines = ["".join(piece for piece, _ in line) for line in sheet.hanging(LABEL, text)]
    assert lines[0].startswith("warning weights")
    assert " ".join(" ".join(lines).removeprefix("warning weights").split()) == " ".join(text.split())
    assert all(len(line) <= max(width, 18) for line in lines)


def test_in_a_pipe_it_is_one_line() -> None:
    assert list(sheet.hanging(LABEL, "a word " * 50)) == [[*LABEL, ("a word " * 50, "")]]


def test_a_line_is_cut_but_never_a_path(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sheet, "is_terminal", lambda file: True)
        patch.setattr("orchestrator.display.screen.terminal_size", lambda file: (20, 24))
        sheet.write_lines([[("a word " * 9, "")], [("-> ", "dim"), ("/a/path/" * 9, sheet.WHOLE)]])
    cut, whole = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    assert cut == "a word a word a wor…"
    assert whole == "-> " + "/a/path/" * 9
