"""Room on the disks, asked before anything starts: what the missing results of a run will take at most.

Latents and contexts are exact, and each is counted once more for the state that is saved after every step. A video's
size is only known when it is made: the figure here is what a busy picture takes. A disk that fills up all the same
ends a run with the same exit code (4), and what was finished is kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cache.durable import size_text
from orchestrator.pipeline import StagePlan, latent_bytes, needed
from orchestrator.prepare import Prepared
from weights.architecture.connector import ConnectorConfig
from weights.errors import DoesNotFit
from weights.select import select

MARGIN = 8_000_000
"""Logs, events, the run's records."""
VIDEO_BYTES_PER_PIXEL: Mapping[str, float] = {"h264": 0.3, "hevc": 0.4, "prores": 0.8, "ffv1": 3.0}
ITEM_BYTES = {"float32": 4}
"""Bytes of a value by dtype; two for the others."""
CONTEXT_TOKENS = 1024


@dataclass(frozen=True)
class Room:
    """What one disk must take, and what it has; `place` is a folder on it."""

    place: Path
    needed: int
    free: int


def check_disk(prepared: Prepared) -> None:
    """DoesNotFit (4) when a disk has less room than the run needs, by how much, and what to do."""
    refuse(rooms(prepared))


def check_room(places: Mapping[Path, int]) -> None:
    """The same for folders and the bytes that go to each."""
    refuse(_by_disk(places))


def refuse(found: Iterable[Room]) -> None:
    for room in found:
        if room.free < room.needed:
            raise DoesNotFit(
                f"The run needs about {size_text(room.needed)} on the disk of {room.place}, which has "
                f"{size_text(room.free)} free: {size_text(room.needed - room.free)} too little.",
                advice="Free some space (`ltx-relay cache prune --max-size 10GB` removes old results), "
                "or put LTX_RELAY_HOME or --output on another disk.",
            )


def rooms(prepared: Prepared) -> list[Room]:
    """One for the disk of the home, and one for each other disk that a video goes to."""
    todo = needed(prepared.relay, lambda stage, item: os.path.exists(item.output))
    results = 0
    for stage in prepared.relay:
        count, size = len(todo[stage.name]), result_bytes(stage, prepared)
        results += count * size
        if count and "steps" in stage.params:
            results += 2 * size  # the saved state, and the next one beside it
    places = {prepared.home.root: results + MARGIN}
    for key, path in prepared.outputs.items():
        if not path.exists():
            size = video_bytes(prepared, base=_is_base(prepared.relay[-1], key))
            places[path.parent] = places.get(path.parent, 0) + size
    return _by_disk(places)


def result_bytes(stage: StagePlan, prepared: Prepared) -> int:
    """Bytes of one result of a stage."""
    item_bytes = ITEM_BYTES.get(stage.dtype, 2)
    if stage.name == "text":
        config = select(Path(stage.weights[-1].path), "connector").config
        assert isinstance(config, ConnectorConfig)
        return 2 * CONTEXT_TOKENS * config.inner_dim * item_bytes
    if stage.name == "decode":
        return video_bytes(prepared, base=False)
    return latent_bytes(stage.params["shape"], item_bytes)


def video_bytes(prepared: Prepared, *, base: bool) -> int:
    """What a busy video of this size may take."""
    geometry = prepared.recipe.geometry
    width, height = geometry.output_size
    frames = geometry.frames if base else geometry.output_frames
    return int(width * height * frames * VIDEO_BYTES_PER_PIXEL.get(prepared.recipe.codec, 3.0))


def _is_base(decode: StagePlan, key: str) -> bool:
    return any(item.key == key and item.params["role"] == "base" for item in decode.items)


def _by_disk(places: Mapping[Path, int]) -> list[Room]:
    """Folders on one disk share its room."""
    found: dict[int, Room] = {}
    for place, size in places.items():
        try:
            device, status = os.stat(place).st_dev, os.statvfs(place)
        except OSError:
            continue  # what is wrong with it is said by who writes there
        free = status.f_bavail * status.f_frsize
        known = found.get(device)
        found[device] = Room(known.place if known else place, (known.needed if known else 0) + size, free)
    return list(found.values())
