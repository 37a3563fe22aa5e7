"""What one process would need that held every network of a run at once, beside what the relay's workers take.

From the same headers and the same model of memory as the plan. Weights count as they are held (in the compute dtype,
quantised where they are), each network once; on top come the largest stage's activations and the process itself.
A transformer with a LoRA folded in is another set of weights than the one without, and a process that does not read
files again while it runs holds both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.memory import Network
from orchestrator.memory_plan import StageMemory
from orchestrator.memory_weights import held_bytes


def monolith(memory: Mapping[str, StageMemory]) -> dict[str, Any]:
    """Bytes: `total`, and its `parts` by stage and role; "activations" and "process" are the last two."""
    seen: set[tuple[str, str, tuple[str, ...]]] = set()
    parts: list[tuple[str, str, int]] = []
    for name, stage in memory.items():
        for role, network in stage.work.networks.items():
            mark = (role, str(network.selection.path), _loras(network))
            if mark not in seen:
                seen.add(mark)
                bits = stage.work.bits if role == "transformer" else None
                parts.append((name, role, held_bytes(network.selection, stage.work.dtype, bits)))
    largest = [stage.prediction.largest for stage in memory.values()]
    parts.append(("", "activations", max((phase.activations + phase.kept for phase in largest), default=0)))
    parts.append(("", "process", max((stage.prediction.base for stage in memory.values()), default=0)))
    return {
        "total": sum(size for _, _, size in parts),
        "parts": [{"stage": name, "role": role, "bytes": size} for name, role, size in parts],
    }


def _loras(network: Network) -> tuple[str, ...]:
    return tuple(str(lora.path) for lora in network.loras)
