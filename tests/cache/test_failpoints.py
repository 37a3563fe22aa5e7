"""Faults on purpose: where the variable says, as often as it says, and nowhere else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
from cache.failpoints import enter, failpoint
failpoint("early")
enter("stage1")
for index in range(3):
    failpoint("step", "key", index)
    print(index, flush=True)
"""


def run(rules: str | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "LTX_RELAY_FAILPOINTS"}
    if rules is not None:
        environment["LTX_RELAY_FAILPOINTS"] = rules
    return subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("rules", [None, "", "  ", "stage2.step=kill", "stage1.step:4=kill", "run.step=kill"])
def test_nothing_happens(rules: str | None) -> None:
    ended = run(rules)
    assert (ended.returncode, ended.stdout) == (0, "0\n1\n2\n")


@pytest.mark.parametrize(
    ("action", "code"), [("kill", -signal.SIGKILL), ("exit", 1), ("abort", -signal.SIGABRT), ("enospc", 1)]
)
def test_the_named_hit_is_struck(action: str, code: int) -> None:
    ended = run(f"stage1.step:2={action}")
    assert (ended.returncode, ended.stdout) == (code, "0\n")
    assert ("No space left" in ended.stderr) == (action == "enospc")


def test_without_a_number_the_first(tmp_path: Path) -> None:
    assert run("stage1.step=exit").stdout == ""
    assert run("run.early=exit").returncode == 1


def test_hits_are_recorded_and_struck_ones_too(tmp_path: Path) -> None:
    record = tmp_path / "hits"
    run(f"record={record}; stage1.step:2=kill")
    lines = [json.loads(line)[1:] for line in record.read_text().splitlines()]
    assert lines == [["run", "early", 1], ["stage1", "step", 1, "key", 0], ["stage1", "step", 2, "key", 1]]


@pytest.mark.parametrize("rules", ["stage1.step", "stage1.step=explode", "stage1.step:0=kill", "=kill"])
def test_a_rule_that_is_none_is_refused(rules: str) -> None:
    ended = run(rules)
    assert ended.returncode == 1
    assert "is no rule" in ended.stderr


def test_workers_get_the_variable() -> None:
    from orchestrator.environment import worker_environment

    assert worker_environment({"LTX_RELAY_FAILPOINTS": "a=kill"}).variables["LTX_RELAY_FAILPOINTS"] == "a=kill"
