"""How much memory a worker may take: what was asked, or what this machine can give now.

--memory           as it stands
Metal              the working set that Metal recommends
CUDA               a share of the card
CPU                a share of the memory that is available, within the control group's limit
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator import cgroup
from orchestrator.display.words import memory_size
from orchestrator.machine import Machine
from orchestrator.memory_backends import BACKENDS


@dataclass(frozen=True)
class Budget:
    """Bytes, and where the figure comes from, in words."""

    bytes: int
    source: str


def budget(asked: int | None, machine: Machine, available: int) -> Budget:
    """Pure; `available` is `available_memory()`."""
    backend = BACKENDS[machine.backend]
    if asked is not None:
        return Budget(asked, "--memory")
    if machine.backend == "metal" and machine.working_set:
        return Budget(int(backend.share * machine.working_set), "what Metal recommends at most on this machine")
    if machine.backend == "cuda" and machine.device_memory:
        return Budget(int(backend.share * machine.device_memory), f"{backend.share:.0%} of the card's memory")
    return Budget(
        int(backend.share * available), f"{backend.share:.0%} of the {memory_size(available)} that are available"
    )


def total_for_tiles(machine: Machine) -> int:
    """The memory that the machine was sold with, or its card."""
    return machine.device_memory or machine.memory


def available_memory() -> int:
    """Bytes that a new process can take without pushing others out, within the control group's limit."""
    import psutil

    free = int(psutil.virtual_memory().available)
    limit, used = cgroup.memory_limit(), cgroup.memory_used()
    return free if limit is None else max(0, min(free, limit - (used or 0)))
