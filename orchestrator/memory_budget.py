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
from weights.own_limits import OwnLimit, own_limits

_STACK, _HEAP = 8 << 20, 32 << 20
"""Bytes of data, and of address space beyond that, that a thread reserves, whatever it uses."""


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

    threads = 8 + 2 * machine.cpus  # readers, MLX's, the video encoder's
    reserved = {"space": machine.space + threads * (_STACK + _HEAP), "data": machine.data + threads * _STACK}
    room = [int(psutil.virtual_memory().available)]
    room += [own.limit - reserved[own.kind] for own in _own_limits(machine)]
    left = cgroup.memory_room()
    if left is not None:
        room.append(left)
    return max(0, min(room))


def check_own_limits(machine: Machine) -> None:
    """DoesNotFit (4) where a limit of this process's own leaves no room for a worker that has not even begun."""
    reserved = {"space": machine.space, "data": machine.data}
    for own in _own_limits(machine):
        if own.limit < reserved[own.kind] + BACKENDS[machine.backend].base:
            raise DoesNotFit(
                f"This process may have {own.words}, and a worker needs more before it reads any weights.",
                advice="Raise that limit in the shell that starts it, or take fewer threads (LTX_RELAY_THREADS=1).",
            )


def _own_limits(machine: Machine) -> tuple[OwnLimit, ...]:
    """Those that bound a worker, which inherits them; with a GPU the memory that counts is not among them."""
    return own_limits() if machine.backend == "cpu" else ()
