"""A worker's environment: what is measured in a benchmark's own process has to run as workers do."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from orchestrator.environment import worker_environment
from orchestrator.machine import probe

MARK = "BENCHMARK_IN_A_WORKERS_ENVIRONMENT"


def of_workers() -> tuple[str, dict[str, str]]:
    """The backend that workers have on this machine, and all their variables."""
    found = worker_environment(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        backend = probe(Path(folder) / "machine.json", found).backend
    return backend, dict(found.for_backend(backend).variables)


def enter(module: str) -> None:
    """Begins the program `python -m module` anew in that environment, unless it is in it: libraries read theirs when a
    process begins."""
    if os.environ.get(MARK) is None:
        os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], {**of_workers()[1], MARK: "1"})
