"""A worker's environment: what is measured in a benchmark's own process has to run as workers do."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from orchestrator.environment import worker_environment
from orchestrator.machine import probe

MARK = "BENCHMARK_IN_A_WORKERS_ENVIRONMENT"


def of_workers() -> dict[str, str]:
    """All variables of one, on this machine."""
    found = worker_environment(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        backend = probe(Path(folder) / "machine.json", found).backend
    return dict(found.for_backend(backend).variables)


def enter(module: str) -> None:
    """Begins the program `python -m module` anew in that environment, unless it is in it: libraries read theirs when a
    process begins."""
    if os.environ.get(MARK) is None:
        os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], {**of_workers(), MARK: "1"})
