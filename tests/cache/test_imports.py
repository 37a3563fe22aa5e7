"""What `cache` may import: the command line imports all of it, and must be quick and small."""

from __future__ import annotations

import subprocess
import sys


def test_no_mlx_and_nothing_slow() -> None:
    program = (
        "import sys\n"
        "import cache.artifacts, cache.home, cache.keys, cache.locks, cache.partial, cache.runs, cache.videos\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert {"cache", "weights"} <= set(found)
    assert not set(found) & {"mlx", "numpy", "psutil", "safetensors", "orchestrator", "workers"}
