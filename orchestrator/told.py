"""What a run tells that decides nothing: to workers, beside what is in the keys, and to whoever reads its events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cache.runs import Run
from orchestrator.monolith import monolith
from orchestrator.portable import portable_recipe
from orchestrator.prepare import Prepared
from orchestrator.video_records import versions


def unkeyed_params(prepared: Prepared, run: Run, stage: str) -> dict[str, Any]:
    """What a worker is told that changes no frame: what to write into each video, and where previews go."""
    colours = str(colour_map(prepared))
    if stage in ("stage1", "stage2"):
        return {"preview": {"folder": str(run.previews), "map": colours}}
    if stage != "decode":
        return {}
    videos = prepared.relay[-1].items
    comments = {item.key: json.dumps(portable_recipe(prepared, item).to_dict()) for item in videos}
    return {"title": prepared.recipe.prompt, "comments": comments, "preview_map": colours}


def colour_map(prepared: Prepared) -> Path:
    """Where the map from this VAE's latents to colours is kept, for previews."""
    mark = next(use.fingerprint for use in prepared.preview.weights if use.role == "vae_decoder")
    return prepared.home.colours / f"{mark}.safetensors"


def means_of(prepared: Prepared) -> dict[str, Any]:
    """What this run has at its disposal, for its report."""
    machine, budget = prepared.machine, prepared.means.budget
    return {
        "machine": {"backend": machine.backend, "device": machine.device, "dtype": prepared.dtype},
        "budget": {"bytes": budget.bytes, "source": budget.source},
        "monolith": monolith(prepared.memory),
        "versions": versions(),
    }
