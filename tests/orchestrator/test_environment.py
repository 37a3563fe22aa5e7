"""What a worker's environment holds, and that its packages are ours wherever it is started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import environment as module
from orchestrator.environment import worker_environment
from weights.errors import UsageError
from workers import protocol

ROOT = Path(protocol.__file__).resolve().parent.parent
NO_BLAS = {"LTX_RELAY_BLAS": "none", "PATH": "/usr/bin:/bin"}


@pytest.fixture
def library(tmp_path: Path) -> str:
    path = tmp_path / "libopenblas.so.0"
    path.touch()
    return str(path)


@pytest.fixture(autouse=True)
def on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")


def test_what_would_disturb_a_worker_is_left_out() -> None:
    base = {
        **NO_BLAS,
        "HF_TOKEN": "hf_x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "OPENAI_API_KEY": "x",
        "PGPASSWORD_FILE": "kept",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONINSPECT": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/h",
    }
    variables = worker_environment(base).variables
    assert {"HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY"}.isdisjoint(variables)
    assert {"PYTHONINSPECT", "PYTHONDONTWRITEBYTECODE"}.isdisjoint(variables)
    assert variables["TOKENIZERS_PARALLELISM"] == "false"
    assert variables["PGPASSWORD_FILE"] == "kept"
    assert variables["HOME"] == "/h"


def test_threads_are_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "physical_cores", lambda: 6)
    made = worker_environment({**NO_BLAS, "OPENBLAS_NUM_THREADS": "64"})
    assert made.threads == 6
    assert made.variables["OPENBLAS_NUM_THREADS"] == made.variables["OMP_NUM_THREADS"] == "6"
    assert made.variables["OPENBLAS_THREAD_TIMEOUT"] == "4"
    assert worker_environment({**NO_BLAS, "LTX_RELAY_THREADS": "3"}).variables["OPENBLAS_NUM_THREADS"] == "3"


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "9999", "²"])
def test_a_bad_number_of_threads_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="LTX_RELAY_THREADS"):
        worker_environment({**NO_BLAS, "LTX_RELAY_THREADS": text})


def test_cores_respect_affinity_and_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 32)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(module.cgroup, "cpu_limit", lambda: None)
    assert module.physical_cores() == 8
    monkeypatch.setattr(module.cgroup, "cpu_limit", lambda: 2)
    assert module.physical_cores() == 2


def test_the_chosen_blas_is_preloaded_before_what_was(library: str) -> None:
    made = worker_environment({"LTX_RELAY_BLAS": library, "LD_PRELOAD": f"/a.so {library}:/b.so"})
    assert made.blas == library
    assert made.variables["LD_PRELOAD"] == f"{library}:/a.so:/b.so"


def test_a_gpu_needs_no_blas(library: str) -> None:
    made = worker_environment({"LTX_RELAY_BLAS": library, "LD_PRELOAD": "/a.so"})
    assert made.for_backend("cpu") == made
    assert made.for_backend("cuda").variables["LD_PRELOAD"] == "/a.so"
    assert made.for_backend("cuda").blas is None
    alone = worker_environment({"LTX_RELAY_BLAS": library}).for_backend("cuda")
    assert "LD_PRELOAD" not in alone.variables


def test_a_card_is_given_kernels_and_no_graphs_unless_the_user_says_so() -> None:
    assert worker_environment(NO_BLAS).for_backend("cuda").variables["MLX_USE_CUDA_GRAPHS"] == "0"
    asked = worker_environment({**NO_BLAS, "MLX_USE_CUDA_GRAPHS": "1"}).for_backend("cuda")
    assert asked.variables["MLX_USE_CUDA_GRAPHS"] == "1"
    for backend in ("cpu", "metal"):
        assert "MLX_USE_CUDA_GRAPHS" not in worker_environment(NO_BLAS).for_backend(backend).variables


def test_the_first_candidate_that_exists_is_taken(
    monkeypatch: pytest.MonkeyPatch, library: str, tmp_path: Path
) -> None:
    spaced = tmp_path / "with space.so"
    spaced.touch()
    monkeypatch.setattr(module, "_candidates", lambda: iter(["/no/such.so", str(spaced), library, "/later.so"]))
    assert worker_environment({}).blas == library
    monkeypatch.setattr(module, "_candidates", lambda: iter([]))
    made = worker_environment({"LD_PRELOAD": "/a.so"})
    assert made.blas is None
    assert made.variables["LD_PRELOAD"] == "/a.so"


def test_blas_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setattr(module, "_candidates", lambda: iter([library]))
    made = worker_environment({"LTX_RELAY_BLAS": "None"})
    assert made.blas is None
    assert "LD_PRELOAD" not in made.variables


def test_only_linux_preloads(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert worker_environment({"LTX_RELAY_BLAS": library}).blas is None


@pytest.mark.parametrize("name", ["missing.so", "", "a b.so", "a:b.so"])
def test_a_blas_that_cannot_be_preloaded_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name and name != "missing.so":
        path.touch()
    with pytest.raises(UsageError, match="LTX_RELAY_BLAS"):
        worker_environment({"LTX_RELAY_BLAS": str(path)})


def test_the_linkers_listing_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    listing = (
        "2 libs found in cache\n"
        "\tlibopenblas.so.0 (libc6,x86-64) => /opt/lib/libopenblas.so.0\n"
        "\tlibopenblas64_.so.0 (libc6,x86-64) => /opt/lib/libopenblas64_.so.0\n"
        "\tlibblas.so.3 (libc6,x86-64) => /opt/lib/libblas.so.3\n"
    )
    monkeypatch.setattr(
        subprocess, "run", lambda *arguments, **options: subprocess.CompletedProcess([], 0, stdout=listing)
    )
    assert list(module._from_linker_cache()) == ["/opt/lib/libopenblas.so.0"]

    def absent(*arguments: object, **options: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", absent)
    assert list(module._from_linker_cache()) == []


def test_a_worker_computes_float32_in_float32_and_fetches_nothing() -> None:
    """Whatever the user's shell says: both are promises, and the first decides bits."""
    variables = worker_environment({**NO_BLAS, "MLX_ENABLE_TF32": "1", "HF_HUB_OFFLINE": "0"}).variables
    assert (variables["MLX_ENABLE_TF32"], variables["HF_HUB_OFFLINE"]) == ("0", "1")


def test_empty_and_relative_entries_of_the_path_do_not_mean_the_current_folder() -> None:
    variables = worker_environment({**NO_BLAS, "PYTHONPATH": f":lib:{ROOT}:"}).variables
    assert variables["PYTHONPATH"] == f"{ROOT}:{Path('lib').absolute()}"


def test_an_installed_copy_is_not_put_before_the_standard_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sysconfig, "get_path", lambda name: str(ROOT))
    assert "PYTHONPATH" not in worker_environment(NO_BLAS).variables


@pytest.mark.parametrize("python_path", [None, "", ":"])
def test_a_folder_with_our_names_is_not_imported(tmp_path: Path, python_path: str | None) -> None:
    for name in ("workers", "weights", "cache", "mlx", "json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong one')")
    base = {**os.environ, "LTX_RELAY_BLAS": "none"}
    base.pop("PYTHONPATH", None)
    if python_path is not None:
        base["PYTHONPATH"] = python_path
    answer = subprocess.run(
        [sys.executable, "-P", "-c", "import workers.protocol as p, weights.errors; print(p.__file__)"],
        env=dict(worker_environment(base).variables),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert Path(answer.stdout.strip()) == Path(protocol.__file__), answer.stderr
