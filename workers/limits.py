"""Sets the limits of a job before the worker loads anything. The one place that knows what only Metal has.

MLX's memory limit is a wish, not a cap: it makes MLX free its cache and wait for running work first. The cache limit
is what keeps dropped weights from staying: on Metal its default is larger than the machine can bear.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
from pathlib import Path

from workers.protocol import Limits

_BLAS_SIDE = 256
_ROOM = 288 << 20
"""Bytes of address space for both matrix libraries' buffers and the first threads' stacks."""
_OOM_PREFERENCE = 300
"""Linux, -1000 to 1000: when memory runs out, a worker goes before the desktop or the orchestrator; it can resume."""


def apply_limits(limits: Limits) -> None:
    """Imports mlx, and sets what the job names; a field that is None keeps MLX's default."""
    import mlx.core as mx

    if limits.memory is not None:
        mx.set_memory_limit(limits.memory)
    if limits.cache is not None:
        mx.set_cache_limit(limits.cache)
    if limits.wired is not None and mx.metal.is_available():
        # More than the working set is an error there, and a working set can shrink between plan and run.
        working_set = int(mx.device_info().get("max_recommended_working_set_size", limits.wired))
        mx.set_wired_limit(min(limits.wired, working_set))


def take_the_blas_buffers() -> None:
    """Where a BLAS was put before MLX's: a product that makes it take its buffers, while there is memory for them.

    OpenBLAS keeps them: 128 MB of address space, hardly any of it touched. Where it gets none, some versions (Debian
    12's) ask again for ever, and a worker that waits for them never ends; MLX waits for ever too where it gets some of
    its threads and not all. So room for all of it is tried first. MemoryError when there is none.
    """
    if not os.environ.get("LD_PRELOAD"):
        return
    import mlx.core as mx

    try:
        mmap.mmap(-1, _ROOM, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError as error:
        raise MemoryError("there is no room for the buffers of the matrix libraries.") from error
    ones = mx.ones((_BLAS_SIDE, _BLAS_SIDE))
    mx.eval(ones @ ones)


def volunteer_for_the_oom_killer() -> None:
    """Linux: ask the kernel to take this process first when memory runs out. Elsewhere nothing."""
    if sys.platform == "linux":
        path = Path("/proc/self/oom_score_adj")
        with contextlib.suppress(OSError, ValueError):
            path.write_text(str(max(_OOM_PREFERENCE, int(path.read_text()))))
