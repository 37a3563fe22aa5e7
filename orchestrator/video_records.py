"""The record beside a video: `ball.json` beside `ball.mp4`, with its recipe and how it was made.

It is for people and programs that find the video later; nothing is computed from it but by `--recipe`. A file that is
not a record of ours is never replaced, not even with --overwrite, which is about the video: where one has the name, the
record goes to `ball.mp4.json`, and where that is taken too there is none and the run says so.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.durable import publish_text
from cache.records import read_json
from cache.runs import Run
from cache.state import RunState, StageState
from cache.videos import VideoObject
from weights.errors import RelayError, UsageError
from workers.protocol import Item

if TYPE_CHECKING:
    from orchestrator.prepare import Prepared

FORMAT = 1
KIND = "ltx-relay video"
_PACKAGES = ("ltx-relay", "mlx", "numpy", "av")


def write_record(prepared: Prepared, run: Run, item: Item, video: VideoObject, path: Path) -> Path:
    """Writes the record of the video that was delivered to `path`, atomically, and returns where it is.

    The record of this very video stays: it may say how it was made, when this run only found it. RelayError when both
    names are taken by other files, or neither can be written.
    """
    for place in (path.with_suffix(".json"), path.with_name(f"{path.name}.json")):
        there = existing(place)
        if there is None or there.get("file") == path.name:
            if there is not None and there.get("sha256") == video.sha256:
                return place
            record = video_record(prepared, run.id, run.state(), item, video, path)
            publish_text(place, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
            return place
    raise UsageError(f"There is no record beside {path}: {path.with_suffix('.json').name} is another file.")


def existing(place: Path) -> Mapping[str, Any] | None:
    """The `video` of the record at that place, empty when it is anything else; None when nothing is there."""
    if not place.is_symlink() and not place.exists():
        return None
    try:
        found = read_json(place, what="record")
    except RelayError:
        return {}
    video = found.get("video")
    return video if found.get("kind") == KIND and isinstance(video, dict) else {}


def recorded_video(path: Path) -> VideoObject | None:
    """What the record beside a video says that the video is; None where there is no such record."""
    for place in (path.with_suffix(".json"), path.with_name(f"{path.name}.json")):
        try:
            record = read_json(place, what="record") if place.exists() else {}
        except (RelayError, OSError):
            continue
        video, keys = record.get("video"), record.get("keys")
        if record.get("kind") != KIND or not isinstance(video, dict) or not isinstance(keys, dict):
            continue
        key, sha256, size = keys.get("decode"), video.get("sha256"), video.get("bytes")
        if video.get("file") == path.name and isinstance(key, str) and isinstance(sha256, str) and type(size) is int:
            return VideoObject(key, path, sha256, size)
    return None


def video_record(
    prepared: Prepared, run: str, state: RunState, item: Item, video: VideoObject, path: Path
) -> dict[str, Any]:
    """What the record says. Bytes, seconds, pixels; times are seconds since the epoch."""
    recipe, seed, base = prepared.recipe, item.params["seed"], item.params["role"] == "base"
    geometry, machine = recipe.geometry, prepared.machine
    width, height = geometry.output_size
    stages = {name: stage_record(stage) for name, stage in state.stages.items()}
    peaks = {name: max(stage["mlx_peak"] or 0, stage["process_peak"] or 0) for name, stage in stages.items()}
    largest = max(peaks, key=lambda name: peaks[name], default=None)
    return {
        "kind": KIND,
        "format": FORMAT,
        "video": {
            "file": path.name,
            "sha256": video.sha256,
            "bytes": video.bytes,
            "seed": seed,
            "role": item.params["role"],
            "width": width,
            "height": height,
            "frames": geometry.frames if base else geometry.output_frames,
            "fps": item.params["fps"],
            "codec": recipe.codec,
        },
        "recipe": replace(recipe, seeds=(seed,)).to_dict(),
        "settings": {
            "base": [recipe.width, recipe.height],
            "latents": {stage.name: list(stage.params["shape"]) for stage in prepared.relay if "shape" in stage.params},
            "steps": {"stage1": recipe.steps_stage1, "stage2": recipe.steps_stage2},
            "cfg": recipe.cfg,
            "dtype": prepared.dtype,
            "backend": machine.backend,
            "device": machine.device,
            "blas": machine.blas,
            "threads": machine.threads,
            "budget": prepared.means.budget.bytes,
            "tiles": dict(item_tiles(prepared)),
        },
        "weights": [
            {"stage": stage.name, "role": use.role, "path": use.path, "fingerprint": use.fingerprint}
            for stage in prepared.relay
            for use in stage.weights
        ],
        "keys": keys_of(prepared, item),
        "stages": stages,
        "peak": {"stage": largest, "bytes": peaks[largest]} if largest and peaks[largest] else None,
        "versions": versions(),
        "run": run,
        "started": state.created,
        "finished": time.time(),
    }


def item_tiles(prepared: Prepared) -> Mapping[str, Any]:
    return dict(prepared.relay[-1].params.get("tiles") or {})


def stage_record(stage: StageState) -> dict[str, Any]:
    memory = stage.notes.get("memory")
    known: Mapping[str, Any] = memory if isinstance(memory, Mapping) else {}
    return {
        "status": stage.status,
        "seconds": stage.seconds,
        "mlx_peak": stage.mlx_peak,
        "process_peak": stage.process_peak,
        "predicted": known.get("predicted"),
        "holding": known.get("holding"),
        "tries": known.get("tries"),
        "bytes_read": dict(stage.bytes_read),
    }


def keys_of(prepared: Prepared, item: Item) -> dict[str, str]:
    """Of the results that this video was made from, by stage."""
    by_place = {made.output: (stage.name, made) for stage in prepared.relay for made in stage.items}
    found: dict[str, str] = {"decode": item.key}
    todo = list(item.inputs.values())
    while todo:
        entry = by_place.get(todo.pop())
        if entry is not None:
            found[entry[0]] = entry[1].key
            todo += entry[1].inputs.values()
    return {stage.name: found[stage.name] for stage in prepared.relay if stage.name in found}


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
