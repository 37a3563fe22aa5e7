"""What this machine computes with: asked of a short probe process once per boot, and remembered.

The memory (with the control group's limit) and the count of processors are read anew each time; backend, device,
working set, MLX's version and the BLAS come from `python -P -m workers.probe` and are kept in a file under a key of
everything that could change them: the boot, MLX's and numpy's packages, the interpreter, the preloaded BLAS, its
threads, the visible GPUs and, on a Mac, the wired limit. A cache that is damaged, or cannot be read or written, only
costs the probe's half second; it is sealed, because what it says goes into the keys.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from cache.durable import publish_text
from cache.records import read_json, sealed, unsealed
from orchestrator import cgroup
from orchestrator.environment import WorkerEnvironment, worker_environment
from weights.errors import OutOfMemory, RelayError, WorkerFailed
from weights.own_limits import own_limits
from weights.symptoms import failure_kind

_PACKAGES = ("numpy", "mlx", "mlx-metal", "mlx-cpu", "mlx-cuda", "mlx-cuda-12", "mlx-cuda-13")
_DECISIVE = ("CUDA_VISIBLE_DEVICES", "OPENBLAS_CORETYPE", "LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH")
_PROBE_SECONDS = 120


@dataclass(frozen=True)
class Probe:
    """What the probe process printed. Bytes; `memory` is a GPU's, or the machine's on Metal, None on the CPU."""

    backend: str
    device: str
    architecture: str
    memory: int | None
    working_set: int | None
    mlx: str
    blas: str
    threads: int
    dtype: str
    space: int = 0
    data: int = 0


@dataclass(frozen=True)
class Machine:
    """One computer as the planner sees it. Bytes.

    backend: "metal", "cuda" or "cpu". memory: of the machine, within its control group's limit. device_memory: of a
    CUDA card. working_set: what Metal recommends at most. blas: MLX's, and on a CPU numpy's too. threads: of the BLAS
    that computes most, as it was really set. space, data: of
    address space and of data that a worker's libraries only reserve (CPU, Linux).
    """

    backend: str
    device: str
    architecture: str
    memory: int
    device_memory: int | None
    working_set: int | None
    mlx: str
    blas: str
    threads: int
    dtype: str
    cpus: int
    space: int = 0
    data: int = 0

    @property
    def numerics(self) -> dict[str, Any]:
        """What decides the bits of a result, for the keys: the backend, and on the CPU both BLAS and their threads."""
        if self.backend == "cpu":
            return {"backend": "cpu", "blas": self.blas, "threads": self.threads}
        return {"backend": self.backend}


def probe(cache_file: Path, environment: WorkerEnvironment | None = None) -> Machine:
    """The machine under this environment (by default the one that workers get); remembered in `cache_file`.

    WorkerFailed when the probe process fails, which is when MLX cannot be imported; OutOfMemory when it has no room.
    """
    environment = environment or worker_environment()
    key = _key(environment)
    found = _remembered(cache_file, key)
    if found is None:
        found = _ask(environment)
        _remember(cache_file, key, found)
    return Machine(
        backend=found.backend,
        device=found.device,
        architecture=found.architecture,
        memory=total_memory(),
        device_memory=found.memory if found.backend == "cuda" else None,
        working_set=found.working_set,
        mlx=found.mlx,
        blas=found.blas,
        threads=found.threads,
        dtype=found.dtype,
        cpus=os.cpu_count() or 1,
        space=found.space,
        data=found.data,
    )


def total_memory() -> int:
    """Bytes of this machine, or of the control group that it is run in, if that is less."""
    import psutil

    total = int(psutil.virtual_memory().total)
    return min(total, cgroup.memory_limit() or total)


def boot_id() -> str:
    """A text that changes with every boot, and with nothing else where the system offers one."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with contextlib.suppress(OSError, AttributeError):
        return _sysctl("kern.bootsessionuuid").split(b"\0")[0].decode("ascii")
    import psutil

    return str(round(psutil.boot_time() / 60))


def _key(environment: WorkerEnvironment) -> dict[str, Any]:
    key: dict[str, Any] = {
        "boot": boot_id(),
        "python": [sys.executable, sys.version],
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "threads": environment.threads,
        "variables": {name: environment.variables[name] for name in _DECISIVE if name in environment.variables},
        "blas": None,
    }
    if environment.blas is not None:
        with contextlib.suppress(OSError):
            status = os.stat(environment.blas)  # an update of the library keeps its path
            key["blas"] = [str(Path(environment.blas).resolve()), status.st_size, status.st_mtime_ns]
    if hasattr(os, "sched_getaffinity"):
        key["affinity"] = len(os.sched_getaffinity(0))
    if sys.platform == "darwin":
        with contextlib.suppress(OSError, AttributeError):
            key["wired_limit"] = int.from_bytes(_sysctl("iogpu.wired_limit_mb"), sys.byteorder)
    return key


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _sysctl(name: str) -> bytes:
    """A value of macOS's sysctl; OSError or AttributeError where there is none."""
    library = ctypes.CDLL("/usr/lib/libSystem.B.dylib")
    buffer = ctypes.create_string_buffer(256)
    size = ctypes.c_size_t(len(buffer))
    if library.sysctlbyname(name.encode(), buffer, ctypes.byref(size), None, ctypes.c_size_t(0)) != 0:
        raise OSError(f"no sysctl {name}")
    return buffer.raw[: size.value]


def _ask(environment: WorkerEnvironment) -> Probe:
    try:
        answer = subprocess.run(
            [sys.executable, "-P", "-m", "workers.probe"],
            env=dict(environment.variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_SECONDS,
        )
        lines = answer.stdout.strip().splitlines()
        found = _parse(json.loads(lines[-1])) if answer.returncode == 0 and lines else None
        trouble = (answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"])[-1]
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        found, trouble = None, str(error)
    if found is None:
        limits = own_limits()
        if failure_kind(trouble, starved=bool(limits)) == "memory":
            raise OutOfMemory(
                f"MLX does not start on this machine: {trouble}",
                advice=f"This process may have no more than {', '.join(limit.words for limit in limits)}. Raise that."
                if limits
                else "Free some memory: not even an empty worker could start.",
            )
        raise WorkerFailed(
            f"MLX does not start on this machine: {trouble}",
            advice=f"Try `{sys.executable} -c 'import mlx.core'`; reinstall MLX if that fails too.",
        )
    return found


def _parse(raw: Any) -> Probe | None:
    """A probe's answer; None when it is not one."""
    if not isinstance(raw, Mapping) or set(raw) != {field.name for field in fields(Probe)}:
        return None
    texts = all(isinstance(raw[name], str) for name in ("backend", "device", "architecture", "mlx", "blas", "dtype"))
    numbers = all(raw[name] is None or type(raw[name]) is int for name in ("memory", "working_set"))
    if not texts or not numbers or any(type(raw[name]) is not int for name in ("threads", "space", "data")):
        return None
    if raw["backend"] not in ("metal", "cuda", "cpu"):
        return None
    return Probe(**raw)


def _remembered(cache_file: Path, key: Mapping[str, Any]) -> Probe | None:
    try:
        raw = unsealed(read_json(cache_file, what="answer of the probe"), cache_file, what="answer of the probe")
    except RelayError:
        return None
    return _parse(raw.get("probe")) if raw.get("key") == key else None


def _remember(cache_file: Path, key: Mapping[str, Any], found: Probe) -> None:
    with contextlib.suppress(RelayError):
        publish_text(cache_file, json.dumps(sealed({"key": key, "probe": asdict(found)}), indent=1))
