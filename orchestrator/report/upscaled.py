"""What a report says of a recipe of `upscale-temporal` or `upscale-spatial`: its settings, and its command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.report.facts import mapping

FLAGS = {
    "model": "--model",
    "weights": "--weights",
    "temporal_upscaler": "--temporal-weights",
    "spatial_upscaler": "--spatial-upscaler-weights",
    "model_version": "--model-version",
}
"""Of a recipe's weights."""


def setting_rows(recipe: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [
        ("video", recipe.get("video")),
        ("chunk", f"{recipe['chunk']} frames" if recipe.get("chunk") else None),
        ("sound", None if recipe.get("sound", True) else "left out"),
    ]


def command(recipe: Mapping[str, Any]) -> list[str]:
    """Makes the same video again from the same file."""
    words = ["ltx-relay", str(recipe.get("kind")), str(recipe.get("video"))]
    weights = mapping(recipe.get("weights"))
    for name, flag in FLAGS.items():
        if weights.get(name):
            words += [flag, str(weights[name])]
    for name, flag, default in (("codec", "--codec", "h264"), ("dtype", "--dtype", "auto"), ("chunk", "--chunk", None)):
        if recipe.get(name) not in (None, default):
            words += [flag, str(recipe[name])]
    return words if recipe.get("sound", True) else [*words, "--no-sound"]
