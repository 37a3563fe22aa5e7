"""A run's records together: what `runs show` tells, and what reports are made from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cache.runs import Run
from workers.protocol import STAGES


def run_record(run: Run) -> dict[str, Any]:
    """As JSON has it; stages in the order of the relay. ArtifactError for a damaged run."""
    state = run.state()
    order = {name: place for place, name in enumerate(STAGES)}
    stages = sorted(state.stages.items(), key=lambda entry: order.get(entry[0], len(order)))
    return {
        "run": run.id,
        "status": run.status(),
        "created": state.created,
        "updated": state.updated,
        "folder": str(run.folder),
        "outputs": list(state.outputs),
        "stages": [{"name": name, **asdict(stage), "log": str(run.log_path(name))} for name, stage in stages],
        "recipe": run.recipe(),
    }
