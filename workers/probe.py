"""What MLX computes with on this machine: `python -P -m workers.probe` prints one line of JSON and ends.

A process of its own, because the orchestrator never imports mlx. The fields are those of
`orchestrator.machine.Probe`. On a CPU both matrix libraries are named, MLX's and numpy's (which does most of the work
there, see `workers.networks.host`), by what the loader really took, not by what was asked for, and with the kernel that
OpenBLAS chose for this processor: all of it, and the number of threads, decides the bits of a result.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from workers.limits import take_the_blas_buffers


def main() -> NoReturn:
    code = 0
    try:
        print(json.dumps(probe()), flush=True)
    except Exception:
        traceback.print_exc()
        code = 1
    os._exit(code)  # an exit handler of OpenBLAS waits for its threads, also for one that waits for memory for ever


def probe() -> dict[str, Any]:
    """backend, device, architecture, memory, working_set (bytes or None), mlx, blas, threads, dtype; and `space` and
    `data`, the bytes of either that a worker's libraries hold on Linux beyond those that are really in memory."""
    take_the_blas_buffers()
    import mlx.core as mx

    cuda = getattr(mx, "cuda", None)
    if mx.metal.is_available():
        backend = "metal"
    elif cuda is not None and cuda.is_available():
        backend = "cuda"
    else:
        backend = "cpu"
    info = mx.device_info()
    blas, threads = _blas()  # before numpy's is loaded too
    if backend == "cpu":
        numpys, threads = _numpys_blas()
        blas = f"{blas}, numpy's {numpys}"
    memory = info.get("memory_size") or info.get("total_memory")
    working_set = info.get("max_recommended_working_set_size")
    return {
        "backend": backend,
        "device": str(info.get("device_name", "unknown")),
        "architecture": str(info.get("architecture", "unknown")),
        "memory": int(memory) if memory else None,
        "working_set": int(working_set) if working_set else None,
        "mlx": getattr(mx, "__version__", "unknown"),
        "blas": blas,
        "threads": threads,
        "dtype": "float32" if backend == "cpu" else "bfloat16",
        **_reserved(backend),
    }


def _reserved(backend: str) -> dict[str, int]:
    """Once the matrix libraries have their buffers. Only on a CPU do limits of these (`ulimit`) bound a worker."""
    if sys.platform != "linux" or backend != "cpu":
        return {"space": 0, "data": 0}
    import numpy as np

    ones = np.ones((256, 256), np.float32)
    ones @ ones
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Vm")}
    return {name: max(0, sizes[field] - sizes["VmRSS"]) for name, field in (("space", "VmSize"), ("data", "VmData"))}


def _blas() -> tuple[str, int]:
    """Name and threads of the BLAS that MLX calls."""
    if sys.platform == "darwin":
        return "accelerate", 1
    program = ctypes.CDLL(None)
    # Only what is preloaded is visible here; MLX's own BLAS is private to it, and comes after.
    if hasattr(program, "cblas_sgemm"):
        if hasattr(program, "openblas_get_config"):
            return _openblas(program)
        return _library_name(_path_of(program.cblas_sgemm)), 1
    return _library_name(next(iter(_mapped("blas")), "")), 1


def _numpys_blas() -> tuple[str, int]:
    """Name and threads of the BLAS that numpy calls. One that does not tell goes by numpy's version, and by the threads
    that it was asked to take."""
    import numpy as np

    libraries = _mapped("openblas")
    for prefix, suffix in (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", "")):
        # Names of its own: a copy for numpy alone. The usual ones: what was preloaded comes before numpy's.
        for path in libraries if prefix or suffix else [None, *libraries]:
            with contextlib.suppress(OSError, AttributeError):
                return _openblas(ctypes.CDLL(path), prefix, suffix)
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "")
    return f"blas-of-{np.__version__}", int(threads) if threads.isdecimal() else 1


def _openblas(library: ctypes.CDLL, prefix: str = "", suffix: str = "") -> tuple[str, int]:
    """prefix, suffix: of its functions' names, which a private copy changes. AttributeError where it has none so."""
    config, core, threads = (
        getattr(library, f"{prefix}openblas_get_{name}{suffix}") for name in ("config", "corename", "num_threads")
    )
    config.restype = core.restype = ctypes.c_char_p
    version = re.search(r"\d+(\.\d+)+", (config() or b"").decode("ascii", "replace"))
    kernel = (core() or b"unknown").decode("ascii", "replace")
    return f"openblas-{version.group() if version else 'unknown'}-{kernel}", int(threads())


class _DlInfo(ctypes.Structure):
    _fields_ = (
        ("dli_fname", ctypes.c_char_p),
        ("dli_fbase", ctypes.c_void_p),
        ("dli_sname", ctypes.c_char_p),
        ("dli_saddr", ctypes.c_void_p),
    )


def _path_of(function: Any) -> str:
    """The file that a C function was loaded from."""
    info = _DlInfo()
    try:
        found = ctypes.CDLL(None).dladdr(ctypes.cast(function, ctypes.c_void_p), ctypes.byref(info))
    except AttributeError:
        return ""
    return str(Path((info.dli_fname or b"").decode()).resolve()) if found else ""


def _mapped(word: str) -> list[str]:
    """The libraries in this process with that word in their names, in the order of their addresses; Linux."""
    try:
        lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    except OSError:
        return []
    paths = [line.split(None, 5)[5] for line in lines if line.count("/")]
    return list(dict.fromkeys(path for path in paths if word in Path(path).name))


def _library_name(path: str) -> str:
    """ "blas-3.10.0" of libblas-bd8a282c.so.3.10.0: without what the wheel's build added."""
    match = re.fullmatch(r"lib([a-z]+)(?:-[0-9a-f]{8})?\.so\.?([\d.]*)", Path(path).name)
    return "-".join(part for part in match.groups() if part) if match else Path(path).name or "unknown"


if __name__ == "__main__":
    main()
