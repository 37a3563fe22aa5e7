"""A worker's seconds by part: nothing is counted twice or lost, and what is run is what the worker ran."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks import split
from benchmarks.full_size import tensor_hash
from benchmarks.split_worker import PARTS, Clock
from tests.end_to_end.conftest import Program
from workers.protocol import Item, Job


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until it is set."""
    at = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: at[0])
    return at


def test_a_call_within_a_call_counts_once(now):
    clock = Clock()

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    inner = clock.timed("inner", pass_by)

    def outer() -> None:
        pass_by(1)
        inner(2)
        pass_by(4)

    clock.begin("between")
    pass_by(8)
    clock.timed("outer", outer)()
    inner(16)
    clock.end()
    assert clock.again() == {"between": 8, "outer": 5, "inner": 18}
    assert clock.parts == {}


def test_the_first_call_of_a_network_is_told_apart_each_time(now):
    clock = Clock()

    def second() -> None:
        now[0] += 1

    network = clock.timed("network", second)
    for _ in range(2):
        network()
        network()
        assert clock.again() == {"network, first": 1, "network": 1}


def test_a_call_that_fails_is_counted_and_other_threads_are_not(now):
    clock = Clock()

    def fail() -> None:
        now[0] += 3
        raise ValueError("on purpose")

    timed = clock.timed("part", fail)

    def call() -> None:
        with pytest.raises(ValueError, match="on purpose"):
            timed()

    call()
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert now == [6.0]
    assert clock.again() == {"part": 3}


def test_results_are_made_elsewhere_from_results_made_elsewhere(tmp_path):
    first = Job("stage1", (Item("k1", "/home/objects/k1.safetensors", {"text": "/home/t"}, {}),), (), "/home")
    second = Job("stage2", (Item("k2", "/home/objects/k2.mp4", {"latent": first.items[0].output}, {}),), (), "/home")
    made: dict[str, str] = {}
    a, b = (split.elsewhere(job, tmp_path, made) for job in (first, second))
    assert a.items[0].inputs == {"text": "/home/t"}
    assert b.items[0].inputs == {"latent": a.items[0].output}
    assert b.items[0].output.endswith(".mp4")
    assert Path(a.home).is_relative_to(tmp_path)


def test_the_table_has_every_part_and_the_sums():
    text = split.table({"new": {"a": 1.0, "b": 0.5}, "again": {"b": 0.25, "c": 0.25}})
    assert text.splitlines()[2:] == [
        "| a | 1.000 s |  |",
        "| b | 0.500 s | 0.250 s |",
        "| c |  | 0.250 s |",
        "| all | 1.50 s | 0.50 s |",
    ]
    assert split.least([{"a": 2.0, "b": 1.0}, {"a": 1.0}]) == {"a": 1.0, "b": 1.0}


def test_real_workers_part_by_part(tmp_path):
    """The parts of a whole run, and of one stage; the results that were there stay as they are."""
    program = Program(tmp_path)
    assert program.generate().code == 0
    (run,) = program.runs()
    videos = {path: path.read_bytes() for path in program.home.glob("objects/*/*")}

    def benchmark(name: str, *arguments: str) -> str:
        words = [sys.executable, "-m", f"benchmarks.{name}", str(run), *arguments, "--out", str(tmp_path / name)]
        root = Path(split.__file__).parent.parent
        done = subprocess.run(words, cwd=root, env=program.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    text = benchmark("split", "temporal", "decode", "--warm")
    found = json.loads((tmp_path / "split").read_text())
    names = {name for module, _, name in PARTS if "decode" in module or "video" in module}
    for column in ("a new process", "a new process, woken by a thread"):
        parts = found["decode"][column]
        assert names - {"network", "tiles put together"} <= {name.removesuffix(", first") for name in parts}
        assert all(seconds >= 0 for seconds in parts.values())
    assert set(found["temporal"]["again in it"]) >= {"weights", "network, first", "result written"}
    assert "first convolution" in found["decode"]["a new process"]
    assert "| leaving |" in text

    text = benchmark("monolith")
    rows = json.loads((tmp_path / "monolith").read_text())
    assert [row["stage"] for row in rows] == ["text", "stage1", "stage2", "temporal", "decode"]
    assert all(row["same"] for row in rows)
    assert "OTHERS" not in text
    assert all(path.read_bytes() == data for path, data in videos.items())
    assert any(tensor_hash(str(path)) for path in videos)
