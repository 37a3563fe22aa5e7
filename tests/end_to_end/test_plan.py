"""A plan for the full-size model, from its headers, in a process of its own: small, and nothing is started."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Program
from tests.orchestrator.memory_machines import write_full_size

MOST = 300 << 20
_WATCHED = """
import atexit, sys

if sys.orig_argv[1:3] == ["-m", "orchestrator"]:
    said = open({path!r}, "a", buffering=1)
    sys.addaudithook(lambda event, args: event == "subprocess.Popen" and print(*args[1], file=said) and None)
    atexit.register(lambda: print("modules", *sys.modules, file=said))
"""
_MEASURED = """
import resource, subprocess, sys

code = subprocess.run(sys.argv[1:]).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(peak if sys.platform == "darwin" else 1024 * peak, file=sys.stderr)
sys.exit(code)
"""
"""A small parent: the system counts a child's peak from the size of the process that it was forked from."""


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Program, dict[str, Any], int, list[str]]:
    """The program, its plan, the peak of it and of what it started (bytes), and what its process did."""
    folder = tmp_path_factory.mktemp("plan")
    program, watched = Program(folder), folder / "watched"
    weights = write_full_size(folder / "weights")
    watched.mkdir()
    (watched / "sitecustomize.py").write_text(_WATCHED.format(path=str(watched / "said")))
    command = [sys.executable, "-m", "orchestrator", "plan", "A fox", "--model", str(weights), "--memory", "22GB"]
    ended = subprocess.run(
        [sys.executable, "-c", _MEASURED, *command, "--json"],
        cwd=folder,
        env={**program.environment, "PYTHONPATH": str(watched)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return (
        program,
        json.loads(ended.stdout),
        int(ended.stderr.splitlines()[-1]),
        (watched / "said").read_text().splitlines(),
    )


def test_it_takes_little_memory(planned: Any) -> None:
    _, plan, peak, _ = planned
    assert plan["fits"]
    assert 26.0e9 < next(stage["bytes"] for stage in plan["stages"] if stage["name"] == "stage1") < 26.2e9
    assert 10 << 20 < peak < MOST


def test_nothing_is_started_but_the_probe(planned: Any) -> None:
    """Neither a worker nor a run; and nothing that computes is even imported."""
    program, _, _, said = planned
    commands = [line for line in said if not line.startswith("modules ") and "ldconfig" not in line]
    assert commands
    assert all(line.endswith("-m workers.probe") for line in commands), commands
    modules = {name.partition(".")[0] for line in said if line.startswith("modules ") for name in line.split()[1:]}
    assert "orchestrator" in modules
    assert not modules & {"mlx", "numpy", "av", "tokenizers", "transformers"}
    assert program.runs() == []
    assert not list(Path(program.home).glob("objects/*"))
