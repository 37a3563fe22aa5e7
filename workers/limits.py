"""Sets the limits of a job before the worker loads anything. The one place that knows what only Metal has.

MLX's memory limit is a wish, not a cap: it makes MLX free its cache and wait for running work first. The cache limit
is what keeps dropped weights from staying: on Metal its default is larger than the machine can bear.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from workers.protocol import Limits

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


def volunteer_for_the_oom_killer() -> None:
    """Linux: ask the kernel to take this process first when memory runs out. Elsewhere nothing."""
    if sys.platform == "linux":
        path = Path("/proc/self/oom_score_adj")
        with contextlib.suppress(OSError, ValueError):
            path.write_text(str(max(_OOM_PREFERENCE, int(path.read_text()))))
