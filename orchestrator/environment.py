"""The environment that every worker gets: the same packages, the same BLAS and threads, nothing that it need not know.

    LTX_RELAY_BLAS       path of a BLAS library to preload on Linux, or "none" for the one that MLX brings
    LTX_RELAY_THREADS    threads of the BLAS (default: physical cores that this process may use)

On Linux PyPI's MLX calls a reference BLAS, thirty times slower than OpenBLAS, so an OpenBLAS of the system is put
before it with LD_PRELOAD. Threads are fixed because bits depend on their number. What was really loaded is for the
probe to say (`orchestrator.machine`), and that is what goes into the keys.
"""

from __future__ import annotations

import os
import platform
import site
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator import cgroup
from weights.errors import UsageError
from workers import protocol

BLAS_VARIABLE = "LTX_RELAY_BLAS"
THREADS_VARIABLE = "LTX_RELAY_THREADS"

# These would change how the worker's Python starts (PYTHONINSPECT would keep it alive), or keep it from caching code.
_DROPPED = ("PYTHONDONTWRITEBYTECODE", "PYTHONINSPECT", "PYTHONSTARTUP", "PYTHONPROFILEIMPORTTIME")
_SECRET_WORDS = frozenset({"TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIALS", "APIKEY"})
_LIBRARIES = ("libopenblas.so.0", "libopenblasp.so.0", "libopenblaso.so.0")


@dataclass(frozen=True)
class WorkerEnvironment:
    """`variables` is the whole environment; `blas` the library put before MLX's own, or None; `threads` are its."""

    variables: Mapping[str, str]
    blas: str | None
    threads: int

    def for_backend(self, backend: str) -> WorkerEnvironment:
        """Without the preloaded BLAS where the backend computes on a GPU: it would only take memory there.

        On CUDA MLX reads weights into fresh memory of the host; with huge pages that is half as fast again (measured on
        an H100: 4.0 and 6.3 GB/s from page cache). And its kernels are launched one by one, not as graphs: a graph runs
        what does not depend on each other at once, and large products are slower beside other kernels than before them
        (a forward of 17,160 tokens 1.06 s instead of 1.24 s, of 4,290 0.195 s instead of 0.209 s).
        """
        variables = dict(self.variables)
        if backend == "cuda":
            variables.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
            variables.setdefault("MLX_USE_CUDA_GRAPHS", "0")
        if backend == "cpu" or self.blas is None:
            return WorkerEnvironment(variables, self.blas, self.threads)
        others = [name for name in variables.pop("LD_PRELOAD", "").split(":") if name and name != self.blas]
        if others:
            variables["LD_PRELOAD"] = ":".join(others)
        return WorkerEnvironment(variables, None, self.threads)


def worker_environment(base: Mapping[str, str] = os.environ) -> WorkerEnvironment:
    """The environment for workers, made from this process's own. UsageError for a bad LTX_RELAY_BLAS or
    LTX_RELAY_THREADS."""
    variables = {name: value for name, value in base.items() if name not in _DROPPED and not _is_secret(name)}
    threads = _threads(base)
    blas = _blas(base)
    variables["PYTHONPATH"] = _python_path(base.get("PYTHONPATH", ""))
    if not variables["PYTHONPATH"]:
        del variables["PYTHONPATH"]
    variables |= {
        "PYTHONIOENCODING": "utf-8:backslashreplace",  # a log line must not fail for its letters
        "PYTHONUNBUFFERED": "1",  # nor be lost when the worker is killed
        "PYTHONFAULTHANDLER": "1",  # a crash leaves its Python stack in the log
        "OPENBLAS_NUM_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
        # 2^4 cycles of waiting for work before a thread sleeps, not 2^26: no slower, and where others need the
        # processor the threads that compute are not kept from it by those that wait. It changes no bit.
        "OPENBLAS_THREAD_TIMEOUT": "4",
        "MLX_ENABLE_TF32": "0",  # float32 on a GPU means float32, as in the reference
        "HF_HUB_OFFLINE": "1",  # a worker reads local files only
    }
    if sys.platform == "linux":
        # Large arrays go back to the system when they are dropped: glibc's own threshold grows with what is freed, and
        # then its heap keeps up to a third more than is in use.
        variables.setdefault("MALLOC_MMAP_THRESHOLD_", str(4 << 20))
    if blas is not None:
        preloaded = [name for name in base.get("LD_PRELOAD", "").replace(" ", ":").split(":") if name]
        variables["LD_PRELOAD"] = ":".join([blas, *(name for name in preloaded if name != blas)])
    return WorkerEnvironment(variables, blas, threads)


def physical_cores() -> int:
    """Physical cores that this process may use, by its affinity and its control group's quota; at least 1."""
    import psutil

    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(os.sched_getaffinity(0)))
    return max(1, min(cores, cgroup.cpu_limit() or cores))


def _is_secret(name: str) -> bool:
    words = name.upper().split("_")
    return not _SECRET_WORDS.isdisjoint(words) or words[-2:] in (["API", "KEY"], ["ACCESS", "KEY"])


def _threads(base: Mapping[str, str]) -> int:
    text = base.get(THREADS_VARIABLE, "").strip()
    if not text:
        return physical_cores()
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1024):
        raise UsageError(
            f"{THREADS_VARIABLE} is {text!r}, not a number of threads.",
            advice=f"Give it a number from 1 to 1024, or unset {THREADS_VARIABLE}.",
        )
    return int(text)


def _python_path(existing: str) -> str:
    """Where the worker finds the packages that run here, whatever folder it is started in.

    With `-P` the current folder is not searched, but an empty entry of PYTHONPATH would mean just that. An installed
    copy is found anyway, and its site-packages must not come before the standard library.
    """
    root = str(Path(protocol.__file__).resolve().parent.parent)
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages()}
    entries = [] if root in {str(Path(path).resolve()) for path in installed if path} else [root]
    entries += [os.path.abspath(entry) for entry in existing.split(os.pathsep) if entry]
    return os.pathsep.join(dict.fromkeys(entries))


def _blas(base: Mapping[str, str]) -> str | None:
    """The library to preload, or None: not Linux, switched off, or none found."""
    if sys.platform != "linux":
        return None
    choice = base.get(BLAS_VARIABLE, "").strip()
    if choice.lower() == "none":
        return None
    if choice:
        if not Path(choice).is_file() or not _can_preload(os.path.abspath(choice)):
            raise UsageError(
                f"{BLAS_VARIABLE} is {choice!r}, which is no library that can be preloaded.",
                advice=f"Give it the path of a libopenblas.so.0 (no spaces or colons), or {BLAS_VARIABLE}=none.",
            )
        return os.path.abspath(choice)
    return next((path for path in _candidates() if Path(path).is_file() and _can_preload(path)), None)


def _can_preload(path: str) -> bool:
    return not any(character in path for character in " :\n\t")


def _candidates() -> Iterator[str]:
    """Places of OpenBLAS, the best first: with threads of its own, and before any that need a process to find."""
    multiarch = sysconfig.get_config_var("MULTIARCH") or f"{platform.machine()}-linux-gnu"
    folders = (f"/usr/lib/{multiarch}", "/usr/lib64", "/usr/lib")
    if sys.prefix == sys.base_prefix:  # conda: a prefix of its own, and not a virtual environment
        yield f"{sys.prefix}/lib/libopenblas.so.0"
    yield f"/usr/lib/{multiarch}/openblas-pthread/libopenblas.so.0"  # Debian, Ubuntu
    yield "/usr/lib64/libopenblasp.so.0"  # Fedora: libopenblas.so.0 has no threads there
    for folder in folders:
        for library in _LIBRARIES:
            yield f"{folder}/{library}"
    yield from _from_linker_cache()


def _from_linker_cache() -> Iterator[str]:
    try:
        listing = subprocess.run(
            ["ldconfig", "-p"],
            env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=5,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return
    for line in listing.splitlines():
        name, arrow, path = line.strip().partition(" => ")
        if arrow and name.split(" ")[0] in _LIBRARIES:
            yield path
