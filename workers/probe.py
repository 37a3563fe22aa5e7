"""What MLX computes with on this machine: `python -P -m workers.probe` prints one line of JSON and ends.

A process of its own, because the orchestrator never imports mlx. The fields are those of
`orchestrator.machine.Probe`. The BLAS is named by what the loader really took, not by what was asked for, and with
the kernel that OpenBLAS chose for this processor: both decide the bits of a result on the CPU.
"""

from __future__ import annotations

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
    blas, threads = _blas()
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
    """Name and threads of the BLAS that MLX calls on the CPU."""
    if sys.platform == "darwin":
        return "accelerate", 1
    program = ctypes.CDLL(None)
    # Only what is preloaded is visible here; MLX's own BLAS is private to it, and comes after.
    if hasattr(program, "cblas_sgemm"):
        if hasattr(program, "openblas_get_config"):
            return _openblas(program)
        return _library_name(_path_of(program.cblas_sgemm)), 1
    return _library_name(_mapped_blas()), 1


def _openblas(library: ctypes.CDLL) -> tuple[str, int]:
    for name in ("openblas_get_config", "openblas_get_corename"):
        getattr(library, name).restype = ctypes.c_char_p
    version = re.search(r"\d+(\.\d+)+", (library.openblas_get_config() or b"").decode("ascii", "replace"))
    core = (library.openblas_get_corename() or b"unknown").decode("ascii", "replace")
    return f"openblas-{version.group() if version else 'unknown'}-{core}", int(library.openblas_get_num_threads())


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


def _mapped_blas() -> str:
    try:
        lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    paths = [line.split(None, 5)[5] for line in lines if line.count("/")]
    named = [path for path in paths if re.search(r"blas", Path(path).name)]
    return named[0] if named else ""


def _library_name(path: str) -> str:
    """ "blas-3.10.0" of libblas-bd8a282c.so.3.10.0: without what the wheel's build added."""
    match = re.fullmatch(r"lib([a-z]+)(?:-[0-9a-f]{8})?\.so\.?([\d.]*)", Path(path).name)
    return "-".join(part for part in match.groups() if part) if match else Path(path).name or "unknown"


if __name__ == "__main__":
    main()
