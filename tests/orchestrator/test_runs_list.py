"""The list of runs on terminals of several widths: the prompt can be read, and what stands for a run names it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.home import open_home
from cache.runs import create_run, open_run
from orchestrator import cli
from orchestrator.commands import sheet
from orchestrator.commands.runs import beginnings

PROMPT = "A red fox trots through fresh snow, low sun, its breath visible in the cold air of the morning"
Show = Callable[[int], list[str]]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Show:
    """`show(columns)` -> the lines of `runs` on a terminal so wide."""

    def shown(columns: int) -> list[str]:
        monkeypatch.setattr(sheet, "is_terminal", lambda file: True)
        monkeypatch.setattr("orchestrator.display.screen.terminal_size", lambda file: (columns, 24))
        assert cli.main(["runs"]) == 0
        return re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()

    return shown


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, home_root: Path) -> Callable[[float], str]:
    """`at(time)` -> the id of a run that began then."""

    def make(moment: float) -> str:
        monkeypatch.setattr("cache.runs.time.time", lambda: moment)
        run = create_run(open_home(home_root), {"prompt": PROMPT}, PROMPT)
        run.update_state(status="done", outputs=[])
        return run.id

    return make


@pytest.mark.parametrize(("columns", "room"), [(60, 30), (80, 50), (120, 90)])
def test_the_prompt_has_its_room(show: Show, at: Callable[[float], str], columns: int, room: int) -> None:
    first, second = at(1_790_000_000.0), at(1_790_000_060.0)
    assert show(columns) == [
        f"done         {run[:15]}  " + (PROMPT if len(PROMPT) <= room else PROMPT[: room - 1] + "…")
        for run in (second, first)
    ]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_two_of_one_second_have_the_prompt_below(
    show: Show, at: Callable[[float], str], columns: int, home_root: Path
) -> None:
    alone, *twins = at(1_790_000_000.0), at(1_790_000_060.0), at(1_790_000_060.25)
    lines = show(columns)
    assert [line.split() for line in lines[0:4:2]] == [["done", run] for run in reversed(twins)]
    assert all(line.startswith("    A red fox trots") for line in lines[1:4:2])
    assert lines[4].startswith(f"done         {alone[:15]}  A red fox")
    assert all(len(line) <= columns for line in lines[1::2])


@pytest.mark.parametrize("columns", [20, 40])
def test_a_narrow_terminal_has_the_prompt_below_too(show: Show, at: Callable[[float], str], columns: int) -> None:
    at(1_790_000_000.0)
    first, second = show(columns)
    assert first.startswith("done         20260921-141320")
    assert second.startswith("    A red fox")
    assert len(second) <= columns


def test_what_is_wrong_with_a_run_is_said_whole(show: Show, at: Callable[[float], str], home_root: Path) -> None:
    run = at(1_790_000_000.0)
    (home_root / "runs" / run / "state.json").write_text("{")
    lines = show(80)
    assert lines[0].startswith(f"damaged      {run[:15]}  ")
    assert len(lines) > 1
    assert "…" not in "".join(lines)
    assert "state.json" in "".join("".join(lines).split())


@given(
    tails=st.lists(
        st.tuples(
            st.sampled_from(["00", "01"]), st.sampled_from(["", "-a", "-a-b", "-a-0000", "-b"]), st.integers(0, 3)
        ),
        min_size=1,
        max_size=12,
        unique=True,
    )
)
def test_each_beginning_names_its_run_and_no_other(tails: list[tuple[str, str, int]]) -> None:
    ids = list(dict.fromkeys(f"20261122-1930{second}{slug}-{number:04x}" for second, slug, number in tails))
    for run, name in zip(ids, beginnings(ids), strict=True):
        assert len(name) >= 15
        assert run.startswith(name)
        assert name == run or [other for other in ids if other.startswith(name)] == [run]
        assert not name.endswith("-")


def test_a_beginning_is_accepted_where_a_run_is_named(at: Callable[[float], str], home_root: Path) -> None:
    ids = [at(1_790_000_000.0), at(1_790_000_060.0), at(1_790_000_060.25)]
    for run, name in zip(ids, beginnings(ids), strict=True):
        assert open_run(open_home(home_root), name).id == run
