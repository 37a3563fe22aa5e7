"""`doctor`: what this machine has, what is wrong with it, and what to do about that.

Every look ends in findings, whatever it meets: a look that fails is a finding itself, and libraries that may be broken
(MLX, PyAV) are only loaded by processes of their own. The looks are in the order in which one thing needs another.

    system      the operating system, Python, processors, memory and what limits it
    MLX         its back end, Metal's limits, the BLAS of a CPU            (a short process)
    libraries   NumPy, safetensors, tokenizers, PyAV and its codecs        (short processes)
    disk        the home, and where one is
    weights     which presets can run
    power       a battery, and what keeps the machine awake
    self-test   a small video with the tiny model, through all five workers
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from orchestrator.display.words import count, memory_size, printable
from orchestrator.machine import Machine
from weights.errors import RelayError

State = Literal["ok", "warning", "problem"]
LEAST_PYTHON, PAST_PYTHON = (3, 11), (3, 14)
LEAST_MACOS, LEAST_GLIBC = (14,), (2, 35)
LITTLE_MEMORY = 12 << 30


@dataclass(frozen=True)
class Finding:
    """One fact. problem: ltx-relay cannot work so. warning: it works, but less well than it could."""

    subject: str
    state: State
    message: str
    advice: str = ""

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class System:
    """What the operating system says. Bytes; `limit` of the control group, `own` limits of this process in words."""

    platform: str
    release: tuple[int, ...]
    name: str
    architecture: str
    translated: bool
    python: tuple[int, ...]
    glibc: tuple[int, ...]
    cpus: int
    memory: int
    available: int
    limit: int | None
    own: tuple[str, ...]


Look = Callable[[], Iterable[Finding]]


def examine(looks: Iterable[tuple[str, Look]]) -> Iterator[Finding]:
    """The findings of all looks, one by one; a look that raises is a problem, and the next one goes on."""
    for subject, look in looks:
        try:
            yield from look()
        except RelayError as error:
            yield Finding(subject, "problem", error.message, error.advice)
        except Exception as error:
            yield Finding(subject, "problem", f"this could not be looked at: {words(error)}.", reinstall())


def looks(home: Path, self_test: bool = True) -> list[tuple[str, Look]]:
    """All of them. home: where results would be kept."""
    from orchestrator import doctor_files, doctor_video

    found: list[tuple[str, Look]] = [
        ("system", lambda: system_findings(read_system())),
        ("MLX", mlx_findings),
        ("libraries", doctor_files.library_findings),
        ("disk", lambda: doctor_files.disk_findings(home)),
        ("weights", doctor_files.weights_findings),
        ("power", doctor_files.power_findings),
    ]
    return [*found, ("self-test", doctor_video.self_test)] if self_test else found


def words(error: BaseException) -> str:
    text = str(error).strip()
    return printable(f"{type(error).__name__}: {text}" if text else type(error).__name__)[:300].rstrip(".")


def reinstall() -> str:
    return "Install ltx-relay again in a fresh environment; in a clone: `rm -r .venv && uv sync`."


# -- the system ------------------------------------------------------------------------------------------------------


def read_system() -> System:
    import psutil

    from orchestrator import cgroup
    from weights.own_limits import own_limits

    mac = sys.platform == "darwin"
    release = platform.mac_ver()[0] if mac else platform.release()
    memory = psutil.virtual_memory()
    return System(
        platform=sys.platform,
        release=numbers(release),
        name=f"macOS {release}" if mac else f"{platform.system()} {release}",
        architecture=platform.machine(),
        translated=mac and platform.machine() != "arm64" and "ARM64" in platform.version(),
        python=sys.version_info[:3],
        glibc=numbers(platform.libc_ver()[1]) if sys.platform == "linux" else (),
        cpus=os.cpu_count() or 1,
        memory=int(memory.total),
        available=int(memory.available),
        limit=cgroup.memory_limit(),
        own=tuple(limit.words for limit in own_limits()),
    )


def numbers(version: str) -> tuple[int, ...]:
    """ "14.5-x" -> (14, 5)"""
    found = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        found.append(int(digits))
    return tuple(found)


def system_findings(system: System) -> Iterator[Finding]:
    python = ".".join(map(str, system.python))
    yield Finding("system", "ok", f"{system.name}, {system.architecture}, {count(system.cpus, 'processor')}")
    if system.translated:
        yield Finding(
            "system", "problem", "this Python runs under Rosetta, where there is no Metal", "Use a Python for arm64."
        )
    elif system.platform == "darwin" and system.architecture != "arm64":
        yield Finding(
            "system", "problem", "this Mac has no Apple Silicon, and MLX needs it", "Use another Mac, or Linux."
        )
    if system.platform == "darwin" and system.release and system.release < LEAST_MACOS:
        yield Finding("system", "problem", f"{system.name} is older than 14, which MLX needs", "Update macOS.")
    if system.glibc and system.glibc < LEAST_GLIBC:
        have = ".".join(map(str, system.glibc))
        yield Finding("system", "problem", f"glibc {have} is older than 2.35, which MLX needs", "Update the system.")
    if LEAST_PYTHON <= system.python[:2] < PAST_PYTHON:
        yield Finding("system", "ok", f"Python {python} ({sys.executable})")
    else:
        yield Finding(
            "system",
            "problem",
            f"Python {python} is none of 3.11 to 3.13",
            "Use one of these; uv fetches it by itself.",
        )
    yield from memory_findings(system)


def memory_findings(system: System) -> Iterator[Finding]:
    text = f"{memory_size(system.memory)} of memory, {memory_size(system.available)} available now"
    usable = min(system.memory, system.limit or system.memory)
    if system.limit is not None and system.limit < system.memory:
        text += f"; this process's control group may take {memory_size(system.limit)}"
    if usable < LITTLE_MEMORY:
        yield Finding(
            "memory", "warning", text, "Full-size LTX-2 needs small videos here: `ltx-relay plan` says what fits."
        )
    else:
        yield Finding("memory", "ok", text)
    for own in system.own:
        yield Finding("memory", "warning", f"this shell allows {own}", "Raise that limit, or lift it.")


# -- MLX -------------------------------------------------------------------------------------------------------------


def mlx_findings() -> Iterator[Finding]:
    """Asks a fresh probe process: what an earlier one said is not looked at."""
    from orchestrator.environment import BLAS_VARIABLE, worker_environment
    from orchestrator.machine import probe

    environment = worker_environment(os.environ)
    with tempfile.TemporaryDirectory(prefix="ltx-relay-") as folder:
        machine = probe(Path(folder) / "machine.json", environment)
    card = Path("/dev/nvidiactl").exists()
    yield from machine_findings(machine, sys.platform, card, os.environ.get(BLAS_VARIABLE, "").lower() == "none")


def machine_findings(machine: Machine, system: str, card: bool, blas_off: bool = False) -> Iterator[Finding]:
    """card: whether there is an NVIDIA card, for MLX or not."""
    name = {"metal": "Metal", "cuda": "CUDA", "cpu": "the processor"}[machine.backend]
    device = "" if machine.device in ("", "unknown") else f" ({machine.device})"
    yield Finding("MLX", "ok", f"MLX {machine.mlx} computes with {name}{device}, in {machine.dtype}")
    if machine.backend == "metal" and machine.working_set:
        text = f"Metal recommends to take at most {memory_size(machine.working_set)} of {memory_size(machine.memory)}"
        megabytes = int(0.85 * machine.memory) >> 20
        more = f"`sudo sysctl iogpu.wired_limit_mb={megabytes}` allows more until the next start, at your own risk."
        yield Finding("MLX", "ok", text, more if machine.working_set < 0.8 * machine.memory else "")
    if machine.backend == "cuda" and machine.device_memory:
        yield Finding("MLX", "ok", f"the card has {memory_size(machine.device_memory)}")
    if machine.backend != "cpu":
        return
    if system == "darwin":
        yield Finding(
            "MLX", "problem", "Metal is not available", "A virtual machine has none, nor has a session without a GPU."
        )
    if card:
        yield Finding(
            "MLX",
            "warning",
            "there is an NVIDIA card, and this MLX does not use it",
            "In a clone: `uv sync --extra cuda --no-group cpu`; with pip: `pip install 'ltx-relay[cuda]'`.",
        )
    if system == "linux":
        yield blas_finding(machine, blas_off)


def blas_finding(machine: Machine, off: bool) -> Finding:
    fast = not machine.blas.startswith("blas-") and machine.blas != "unknown"
    text = f"its matrix library is {machine.blas}, on {count(machine.threads, 'thread')}"
    if fast:
        return Finding("MLX", "ok", text)
    advice = (
        "Unset LTX_RELAY_BLAS." if off else "`apt-get install libopenblas0-pthread`, or dnf install openblas-threads."
    )
    return Finding("MLX", "warning", f"{text}: that is up to thirty times slower than OpenBLAS", advice)


def healthy(findings: Iterable[Finding]) -> bool:
    """Whether nothing is broken; warnings do not count."""
    return not any(finding.state == "problem" for finding in findings)


def document(findings: Iterable[Finding]) -> dict[str, Any]:
    """As JSON has it."""
    known = list(findings)
    return {"healthy": healthy(known), "findings": [finding.to_dict() for finding in known]}
