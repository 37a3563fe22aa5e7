"""The probe: asked once, remembered rightly, forgotten when anything that it depends on changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from cache.records import sealed
from orchestrator import machine
from orchestrator.environment import WorkerEnvironment, worker_environment
from orchestrator.machine import Probe, probe
from weights.errors import WorkerFailed

CPU = Probe("cpu", "AMD EPYC", "x86_64", None, None, "0.32.4", "openblas-0.3.21-Zen", 4, "float32")
MAC = Probe("metal", "Apple M3 Max", "applegpu_g15s", 36 << 30, 27 << 30, "0.32.4", "accelerate", 1, "bfloat16")
CARD = Probe("cuda", "NVIDIA H100", "sm_90", 80 << 30, None, "0.32.4", "blas-3.10.0", 1, "bfloat16")


@pytest.fixture
def environment() -> WorkerEnvironment:
    return WorkerEnvironment({"PATH": "/bin"}, None, 4)


class Answers:
    """Stands for the probe process, and counts how often it was asked."""

    def __init__(self) -> None:
        self.count = 0
        self.stdout = json.dumps(asdict(CPU))
        self.stderr = ""
        self.code = 0

    def __call__(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert command[1:] == ["-P", "-m", "workers.probe"]
        self.count += 1
        return subprocess.CompletedProcess(command, self.code, self.stdout, self.stderr)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    made = Answers()
    monkeypatch.setattr(subprocess, "run", made)
    return made


def test_the_real_probe(tmp_path: Path) -> None:
    environment = worker_environment({**os.environ, "LTX_RELAY_BLAS": "none", "LTX_RELAY_THREADS": "1"})
    found = probe(tmp_path / "machine.json", environment)
    assert found.backend in ("cpu", "metal", "cuda")
    assert found.mlx.count(".") >= 1
    assert found.blas != "unknown"
    assert found.threads >= 1
    assert found.memory > 1 << 28
    assert found.dtype == ("float32" if found.backend == "cpu" else "bfloat16")
    assert probe(tmp_path / "machine.json", environment) == found


@pytest.mark.skipif(sys.platform != "linux", reason="a BLAS is preloaded on Linux only")
def test_the_probe_names_what_was_loaded_not_what_was_asked_for(tmp_path: Path) -> None:
    own = probe(tmp_path / "a.json", worker_environment({**os.environ, "LTX_RELAY_BLAS": "none", "LD_PRELOAD": ""}))
    text = tmp_path / "libopenblas.so.0"
    text.write_text("no library")  # the loader says so on stderr, and goes on without it
    base = {**os.environ, "LTX_RELAY_BLAS": str(text), "LD_PRELOAD": ""}
    assert probe(tmp_path / "b.json", worker_environment(base)).blas == own.blas

    found = worker_environment({**os.environ, "LD_PRELOAD": "", "LTX_RELAY_BLAS": "", "LTX_RELAY_THREADS": "1"})
    if found.blas is None:
        pytest.skip("this machine has no OpenBLAS")
    preloaded = probe(tmp_path / "c.json", found)
    assert preloaded.blas.startswith("openblas-")
    assert preloaded.threads == 1
    assert preloaded.numerics != own.numerics


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere numpy may have no OpenBLAS")
def test_threads_and_the_library_of_numpy_are_in_the_keys_without_a_preloaded_blas(tmp_path: Path) -> None:
    """numpy computes most of it, with threads of its own: results of other bits must not share a key."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor")
    base = {**os.environ, "LTX_RELAY_BLAS": "none", "LD_PRELOAD": ""}
    one, two = (
        probe(tmp_path / f"{count}.json", worker_environment({**base, "LTX_RELAY_THREADS": count})) for count in "12"
    )
    if one.backend != "cpu":
        pytest.skip("a GPU computes here")
    assert (one.threads, two.threads) == (1, 2)
    assert one.numerics != two.numerics
    assert "numpy's openblas-" in one.blas or "blas-of-" in one.blas


def test_it_is_asked_once(tmp_path: Path, answers: Answers, environment: WorkerEnvironment) -> None:
    first = probe(tmp_path / "home" / "machine.json", environment)
    assert probe(tmp_path / "home" / "machine.json", environment) == first
    assert answers.count == 1
    assert os.listdir(tmp_path / "home") == ["machine.json"]


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setattr(machine, "boot_id", lambda: "another"),
        lambda patch: patch.setattr(machine, "_version", lambda package: "99"),
        lambda patch: patch.setattr(sys, "executable", "/usr/bin/another"),
        lambda patch: patch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 4}, raising=False),
    ],
    ids=["boot", "mlx", "python", "affinity"],
)
def test_another_boot_version_or_interpreter_asks_again(
    tmp_path: Path, answers: Answers, environment: WorkerEnvironment, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe(tmp_path / "machine.json", environment)
    change(monkeypatch)
    probe(tmp_path / "machine.json", environment)
    assert answers.count == 2


def test_another_environment_asks_again(tmp_path: Path, answers: Answers) -> None:
    library = tmp_path / "libopenblas.so.0"
    library.write_text("1")
    environments = [
        WorkerEnvironment({}, None, 4),
        WorkerEnvironment({}, None, 5),
        WorkerEnvironment({"LD_PRELOAD": str(library)}, str(library), 4),
        WorkerEnvironment({"CUDA_VISIBLE_DEVICES": "1"}, None, 4),
        WorkerEnvironment({"OPENBLAS_CORETYPE": "Haswell"}, None, 4),
    ]
    for count, environment in enumerate(environments, start=1):
        probe(tmp_path / "machine.json", environment)
        assert answers.count == count
    probe(tmp_path / "machine.json", environments[2])
    library.write_text("22")  # an update in place
    probe(tmp_path / "machine.json", environments[2])
    assert answers.count == len(environments) + 2


@pytest.mark.parametrize(
    "damage",
    ["", "{", "null", "[]", "[" * 100_000, '{"key": {}}', "\x00"],
    ids=repr,
)
def test_a_damaged_memory_is_made_again(
    tmp_path: Path, answers: Answers, environment: WorkerEnvironment, damage: str
) -> None:
    path = tmp_path / "machine.json"
    probe(path, environment)
    path.write_text(damage)
    assert probe(path, environment).blas == CPU.blas
    assert answers.count == 2
    probe(path, environment)
    assert answers.count == 2


@pytest.mark.parametrize(
    ("field", "value"), [("backend", "abacus"), ("threads", "4"), ("threads", True), ("memory", 1.5), ("blas", None)]
)
def test_a_remembered_answer_of_the_wrong_kind_is_not_used(
    tmp_path: Path, answers: Answers, environment: WorkerEnvironment, field: str, value: object
) -> None:
    path = tmp_path / "machine.json"
    probe(path, environment)
    raw = json.loads(path.read_text())
    raw["probe"][field] = value
    path.write_text(json.dumps(sealed({"key": raw["key"], "probe": raw["probe"]})))
    assert probe(path, environment).blas == CPU.blas
    assert answers.count == 2


def test_an_answer_that_was_damaged_is_not_used(
    tmp_path: Path, answers: Answers, environment: WorkerEnvironment
) -> None:
    """Threads are in the keys: another number would give results of other bits the same key."""
    path = tmp_path / "machine.json"
    probe(path, environment)
    path.write_text(path.read_text().replace('"threads": 4', '"threads": 5'))
    assert probe(path, environment).threads == 4
    assert answers.count == 2


def test_a_home_that_cannot_be_written_costs_only_the_asking(
    tmp_path: Path, answers: Answers, environment: WorkerEnvironment
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    for _ in range(2):
        assert probe(blocked / "machine.json", environment).backend == "cpu"
    assert answers.count == 2


@pytest.mark.parametrize(
    ("code", "stdout", "stderr"),
    [
        (1, "", "Traceback\nModuleNotFoundError: No module named 'mlx'"),
        (0, "", ""),
        (0, "nonsense", ""),
        (0, "{}", ""),
        (-11, "", ""),
    ],
)
def test_a_probe_that_fails_is_an_error_that_says_so(
    tmp_path: Path, answers: Answers, environment: WorkerEnvironment, code: int, stdout: str, stderr: str
) -> None:
    answers.code, answers.stdout, answers.stderr = code, stdout, stderr
    with pytest.raises(WorkerFailed, match="MLX does not start") as caught:
        probe(tmp_path / "machine.json", environment)
    if stderr:
        assert "No module named 'mlx'" in caught.value.message
    assert not (tmp_path / "machine.json").exists()


def test_lines_before_the_answer_are_noise(tmp_path: Path, answers: Answers, environment: WorkerEnvironment) -> None:
    answers.stdout = f"a library says hello\n{answers.stdout}\n"
    assert probe(tmp_path / "machine.json", environment).backend == "cpu"


@pytest.mark.parametrize(
    ("answer", "numerics"),
    [
        (CPU, {"backend": "cpu", "blas": "openblas-0.3.21-Zen", "threads": 4}),
        (MAC, {"backend": "metal"}),
        (CARD, {"backend": "cuda"}),
    ],
    ids=["cpu", "metal", "cuda"],
)
def test_what_goes_into_keys(
    tmp_path: Path, answers: Answers, environment: WorkerEnvironment, answer: Probe, numerics: dict[str, Any]
) -> None:
    answers.stdout = json.dumps(asdict(answer))
    found = probe(tmp_path / "machine.json", environment)
    assert found.numerics == numerics
    assert found.device_memory == (80 << 30 if answer is CARD else None)
    assert found.working_set == answer.working_set


def test_memory_is_that_of_the_control_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.cgroup, "memory_limit", lambda: None)
    whole = machine.total_memory()
    monkeypatch.setattr(machine.cgroup, "memory_limit", lambda: 5 << 20)
    assert machine.total_memory() == 5 << 20
    monkeypatch.setattr(machine.cgroup, "memory_limit", lambda: whole * 2)
    assert machine.total_memory() == whole
