"""Decides and supervises; never imports mlx. From Python: see `orchestrator.api` and docs/python.md.

Names are imported when they are asked for, because the command line imports its modules one by one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.api import generate, load_recipe, plan, resume, upscale
    from orchestrator.interrupts import Interrupts
    from orchestrator.plan_report import PlanReport
    from orchestrator.recipe import Recipe, WeightsChoice
    from orchestrator.relay_run import RunResult
    from orchestrator.settings import Settings
    from weights.errors import (
        DoesNotFit,
        GpuFailure,
        Interrupted,
        OutOfMemory,
        RelayError,
        UsageError,
        WeightsError,
        WorkerFailed,
    )

_PLACES = {
    "DoesNotFit": "weights.errors",
    "GpuFailure": "weights.errors",
    "Interrupted": "weights.errors",
    "Interrupts": "orchestrator.interrupts",
    "OutOfMemory": "weights.errors",
    "PlanReport": "orchestrator.plan_report",
    "Recipe": "orchestrator.recipe",
    "RelayError": "weights.errors",
    "RunResult": "orchestrator.relay_run",
    "Settings": "orchestrator.settings",
    "UsageError": "weights.errors",
    "WeightsChoice": "orchestrator.recipe",
    "WeightsError": "weights.errors",
    "WorkerFailed": "weights.errors",
    "generate": "orchestrator.api",
    "load_recipe": "orchestrator.api",
    "plan": "orchestrator.api",
    "resume": "orchestrator.api",
    "upscale": "orchestrator.api",
}

__all__ = [
    "DoesNotFit",
    "GpuFailure",
    "Interrupted",
    "Interrupts",
    "OutOfMemory",
    "PlanReport",
    "Recipe",
    "RelayError",
    "RunResult",
    "Settings",
    "UsageError",
    "WeightsChoice",
    "WeightsError",
    "WorkerFailed",
    "generate",
    "load_recipe",
    "plan",
    "resume",
    "upscale",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'orchestrator' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
