"""How much memory a worker may take: what was asked, or what this machine can give now.

--memory           as it stands
Metal              the working set that Metal recommends
CUDA               a share of the card
CPU                a share of the memory that is available, within the control group's limit and this process's own
                   (`ulimit -v`, `ulimit -d`), which its workers inherit
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator import cgroup
from orchestrator.display.words import memory_size
from orchestrator.machine import Machine
from orchestrator.memory_backends import BACKENDS
from weights.errors import DoesNotFit
from weights.own_limits import own_limits

_STACKS, _HEAPS = 64 << 20, 512 << 20
"""Bytes of data that a worker's own threads reserve, and of address space: each has a stack and a heap."""


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


def available_memory(machine: Machine) -> int:
    """Bytes that a worker can take without pushing others out, within all limits."""
    import psutil

    room = [int(psutil.virtual_memory().available), *(size for size, _ in own_room(machine))]
    limit, used = cgroup.memory_limit(), cgroup.memory_used()
    if limit is not None:
        room.append(limit - (used or 0))
    return max(0, min(room))


def own_room(machine: Machine) -> list[tuple[int, str]]:
    """For each limit of this process's own: the memory that a worker can have within it, and the limit in words."""
    if machine.backend != "cpu":
        return []
    reserved = {"space": machine.space + _HEAPS, "data": machine.data + _STACKS}
    return [(own.limit - reserved[own.kind], own.words) for own in own_limits()]


def check_own_limits(machine: Machine) -> None:
    """DoesNotFit (4) where a limit of this process's own leaves no room for a worker that has not even begun."""
    for room, words in own_room(machine):
        if room < BACKENDS[machine.backend].base:
            raise DoesNotFit(
                f"This process may have {words}, and a worker needs more before it reads any weights.",
                advice="Raise that limit in the shell that starts it, or take fewer threads (LTX_RELAY_THREADS=1).",
            )
