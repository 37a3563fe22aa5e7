"""`doctor`: each finding from facts of machines that are not here, and installations that are broken in every way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator import doctor_files, doctor_video
from orchestrator.doctor import (
    Finding,
    System,
    examine,
    healthy,
    machine_findings,
    numbers,
    system_findings,
)
from orchestrator.machine import Machine
from weights.errors import WeightsError

ROOT = Path(__file__).parents[2]
GB = 1 << 30
MAC = System("darwin", (15, 1), "macOS 15.1", "arm64", False, (3, 12, 4), (), 12, 32 * GB, 20 * GB, None, ())
LINUX = System(
    "linux", (6, 1), "Linux 6.1", "x86_64", False, (3, 11, 7), (2, 36), 8, 64 * GB, 60 * GB, None, ()
)  # fmt: skip
METAL = Machine("metal", "Apple M3 Max", "", 32 * GB, None, int(21.3 * GB), "0.32", "accelerate", 1, "bfloat16", 12)
CPU = Machine("cpu", "unknown", "", 64 * GB, None, None, "0.32", "openblas-0.3.21-Zen", 8, "float32", 8)


def states(findings: Any) -> list[str]:
    return [finding.state for finding in findings]


def troubles(findings: Any) -> str:
    found = [finding for finding in findings if finding.state != "ok"]
    assert all(finding.advice for finding in found), "each trouble comes with what to do"
    return "; ".join(f"{finding.state}: {finding.message}" for finding in found)


def test_good_machines_have_no_trouble() -> None:
    for system in (MAC, LINUX):
        assert set(states(system_findings(system))) == {"ok"}
    assert set(states(machine_findings(METAL, "darwin", card=False))) == {"ok"}
    assert set(states(machine_findings(CPU, "linux", card=False))) == {"ok"}


@pytest.mark.parametrize(
    ("system", "sentence"),
    [
        (replace(MAC, architecture="x86_64", translated=True), "problem: this Python runs under Rosetta"),
        (replace(MAC, architecture="x86_64"), "problem: this Mac has no Apple Silicon"),
        (replace(MAC, release=(13, 6), name="macOS 13.6"), "problem: macOS 13.6 is older than 14"),
        (replace(LINUX, glibc=(2, 31)), "problem: glibc 2.31 is older than 2.35"),
        (replace(LINUX, python=(3, 14, 0)), "problem: Python 3.14.0 is none of 3.11 to 3.13"),
        (replace(LINUX, python=(3, 10, 9)), "problem: Python 3.10.9"),
        (replace(MAC, memory=8 * GB), "warning: 8.0 GB of memory"),
        (replace(LINUX, limit=4 * GB), "control group may take 4.0 GB"),
        (replace(LINUX, own=("4096 MB of data (ulimit -d)",)), "warning: this shell allows 4096 MB of data"),
    ],
)
def test_a_system_that_does_not_do(system: System, sentence: str) -> None:
    assert sentence in troubles(system_findings(system))


@pytest.mark.parametrize(
    ("machine", "system", "card", "sentence"),
    [
        (replace(CPU, blas="blas-3.10.0"), "linux", False, "warning: its matrix library is blas-3.10.0, on 8 threads"),
        (replace(CPU, blas="unknown"), "linux", False, "up to thirty times slower"),
        (CPU, "linux", True, "warning: there is an NVIDIA card, and this MLX does not use it"),
        (replace(CPU, blas="accelerate"), "darwin", False, "problem: Metal is not available"),
    ],
)
def test_an_mlx_that_is_slow_or_wrong(machine: Machine, system: str, card: bool, sentence: str) -> None:
    assert sentence in troubles(machine_findings(machine, system, card))


def test_metals_limit_and_how_to_raise_it() -> None:
    texts = [f"{finding.message} {finding.advice}" for finding in machine_findings(METAL, "darwin", card=False)]
    assert any("at most 21.3 GB of 32.0 GB `sudo sysctl iogpu.wired_limit_mb=27852`" in text for text in texts)


def test_a_look_that_fails_is_a_finding_and_the_next_goes_on() -> None:
    def fails() -> Any:
        yield Finding("a", "ok", "first")
        raise ValueError("a mistake\nof ours\x1b[31m")

    def refuses() -> Any:
        raise WeightsError("This file is bad.", advice="Fetch it again.")
        yield

    found = list(examine([("a", fails), ("b", refuses), ("c", lambda: [Finding("c", "ok", "last")])]))
    assert [(one.subject, one.state) for one in found] == [("a", "ok"), ("a", "problem"), ("b", "problem"), ("c", "ok")]
    assert "ValueError: a mistake of ours" in found[1].message
    assert "\x1b" not in found[1].message
    assert (found[2].message, found[2].advice) == ("This file is bad.", "Fetch it again.")
    assert not healthy(found)
    assert healthy([Finding("w", "warning", "x", "y")])


@pytest.mark.parametrize(
    ("text", "expected"), [("14.5", (14, 5)), ("6.1.0-rc2", (6, 1, 0)), ("", ()), ("x", ()), ("2.36", (2, 36))]
)
def test_versions(text: str, expected: tuple[int, ...]) -> None:
    assert numbers(text) == expected


@pytest.mark.parametrize(
    ("answer", "trouble", "sentence"),
    [
        ('{"av": "15", "codecs": {"h264": "libx264", "hevc": null}}', "", "warning: this FFmpeg cannot write hevc"),
        ('{"av": "15", "codecs": {"h264": null, "ffv1": "ffv1"}}', "", "problem: this FFmpeg cannot write h264"),
        ("", "ImportError: libx.so", "problem: PyAV does not load: ImportError: libx.so"),
        ("hello", "", "problem: PyAV does not load: it gave no answer"),
        ("[]", "", "problem: PyAV does not load: it gave no answer"),
    ],
)
def test_codecs_that_cannot_be_written(answer: str, trouble: str, sentence: str) -> None:
    assert sentence in troubles(doctor_files.video_findings(answer, trouble))


@pytest.mark.parametrize(("free", "state"), [(10, "problem"), (5_000_000_000, "warning"), (10**12, "ok")])
def test_room_on_the_disk(free: int, state: str) -> None:
    assert doctor_files.room_finding("the home", Path("/"), free).state == state


def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    assert "problem: The home" in troubles(doctor_files.disk_findings(tmp_path / "home"))


def test_what_a_self_test_says() -> None:
    done = '{"event": "stage_done", "stage": "stage1", "mlx_peak": 1, "process_peak": 94371840}\n'
    good = doctor_video.verdict(0, done + '{"event": "run_done", "seconds": 4.9}\n', "", there=True)
    assert (good.state, good.message) == ("ok", "a video with the tiny model in 4.9 s (stage 1), peak 90 MB")
    error = 'x\n{"event": "error", "message": "It broke.", "advice": "Mend it."}'
    bad = doctor_video.verdict(7, error, "", there=False)
    assert (bad.state, bad.advice) == ("problem", "Mend it.")
    assert "(exit code 7): It broke" in bad.message
    assert "it printed nothing" in doctor_video.verdict(-11, "", "", there=False).message
    assert doctor_video.verdict(0, "", "", there=False).state == "problem"


def diagnosed(tmp_path: Path, *flags: str, **packages: str) -> tuple[int, dict[str, Any], str]:
    """The program's own diagnosis where these packages are broken: the source that is found in their place."""
    for name, source in packages.items():
        (tmp_path / "broken" / name).mkdir(parents=True)
        (tmp_path / "broken" / name / "__init__.py").write_text(source)
    ended = subprocess.run(
        [sys.executable, "-m", "orchestrator", "doctor", "--json", *flags],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": f"{tmp_path / 'broken'}{os.pathsep}{ROOT}",
            "LTX_RELAY_HOME": str(tmp_path / "home"),
            "HF_HUB_CACHE": str(tmp_path / "hf"),
            "LTX_RELAY_BLAS": "none",
        },
        capture_output=True,
        text=True,
    )
    return ended.returncode, json.loads(ended.stdout.splitlines()[0]), ended.stderr


def problems(document: dict[str, Any]) -> dict[str, str]:
    return {one["subject"]: one["message"] for one in document["findings"] if one["state"] == "problem"}


def test_broken_libraries_are_named_one_by_one(tmp_path: Path) -> None:
    code, document, err = diagnosed(
        tmp_path,
        "--no-self-test",
        mlx="raise ImportError('libmlx.so: cannot open shared object file')",
        av="import os; os.kill(os.getpid(), 11)",
        tokenizers="raise RuntimeError('built for another machine')",
    )
    assert code == 7
    assert "Traceback" not in err
    found = problems(document)
    assert set(found) == {"MLX", "video", "libraries"}
    assert "libmlx.so: cannot open shared object file" in found["MLX"]
    assert found["video"] == "PyAV does not load: its process was ended by signal 11"
    assert "tokenizers does not load: RuntimeError: built for another machine" in found["libraries"]


def test_without_what_the_orchestrator_itself_needs(tmp_path: Path) -> None:
    """psutil is loaded by the doctor's own process: that ends no look but those that need it."""
    code, document, err = diagnosed(tmp_path, "--no-self-test", psutil="raise ImportError('no psutil')")
    assert code == 7
    assert "Traceback" not in err
    assert "no psutil" in problems(document)["system"]
    assert {one["subject"] for one in document["findings"]} >= {"system", "MLX", "disk", "weights", "power"}


def test_warnings_are_no_failure(tmp_path: Path) -> None:
    """A fresh machine without weights, and MLX's own slow matrix library; the self-test makes its video."""
    code, document, _ = diagnosed(tmp_path)
    assert (code, document["healthy"]) == (0, True)
    warned = {one["subject"] for one in document["findings"] if one["state"] == "warning"}
    assert "weights" in warned
    assert "MLX" in warned or sys.platform != "linux"
    assert document["findings"][-1]["message"].startswith("a video with the tiny model in ")
