"""All benchmarks in one run: within their time, and what goes wrong costs no other part."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks import __main__ as everything
from benchmarks.__main__ import RUN, Asked, Part, parts, run

FINE, FAILS = ("platform",), ("benchmarks.no_such_benchmark",)


def report(asked: Asked) -> str:
    return (asked.out / "report.md").read_text(encoding="utf-8")


def test_a_part_that_fails_is_said_and_the_next_one_runs(tmp_path: Path):
    asked = Asked(tmp_path, None)
    chosen = [Part("broken", 60, (FAILS,)), Part("without a run", 60, (("platform", RUN),)), Part("fine", 60, (FINE,))]
    assert run(chosen, asked, math.inf) == ["broken", "without a run"]
    assert "broken: benchmarks.no_such_benchmark ended with 1, see broken.log" in report(asked)
    assert "No module named benchmarks.no_such_benchmark" in (tmp_path / "broken.log").read_text()
    assert "the relay's run is not there" in report(asked)
    assert "fine: done" in report(asked)


def test_a_part_ends_with_its_time_and_none_begins_after_it(tmp_path: Path):
    asked = Asked(tmp_path, None)
    forever = ("timeit", "-n", "1", "-r", "1", "import time; time.sleep(600)")
    assert run([Part("slow", 0.5, (forever,)), Part("fine", 60, (FINE,))], asked, math.inf) == ["slow"]
    assert "slow: took too long" in report(asked)
    assert run([Part("late", 60, (FINE,))], asked, 3.0) == ["late"]
    assert "late: no time was left" in report(asked)


def test_the_first_command_of_a_logged_part_is_no_report(tmp_path: Path):
    asked = Asked(tmp_path, None)
    said = ("timeit", "-n", "1", "-r", "1", "print('events')")
    assert run([Part("relay", 60, (said, FINE), log=True)], asked, math.inf) == []
    assert "events" not in report(asked)
    assert "events" in (tmp_path / "relay.log").read_text()


@pytest.mark.parametrize("model", [None, Path("weights")])
def test_every_part_is_a_benchmark_that_is_there(tmp_path: Path, model: Path | None):
    modules = {words[0] for part in parts(Asked(tmp_path, model)) for words in part.commands} - {"orchestrator"}
    assert modules
    assert all((everything.ROOT / (module.replace(".", "/") + ".py")).exists() for module in modules)
