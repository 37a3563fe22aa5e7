"""What a run would do, before it does anything: stages, what is cached, sizes, bytes of weights. From headers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cache.artifacts import read
from cache.videos import find_video
from orchestrator.disk import Room, rooms
from orchestrator.pipeline import StagePlan, needed
from orchestrator.planning import estimate
from orchestrator.prepare import Prepared
from weights.errors import ArtifactError
from weights.header import read_header
from weights.lora import match
from weights.select import Selection, select
from workers.protocol import Item


@dataclass(frozen=True)
class FilePlan:
    """What a stage reads of one file: `bytes` of `file_bytes`, and how many tensors.

    changes: of a LoRA, how strongly and what of the network it changes, in words.
    """

    role: str
    path: str
    bytes: int
    tensors: int
    file_bytes: int
    changes: str = ""


@dataclass(frozen=True)
class StageReport:
    """`shape`: the latent that the stage makes, as [frames, height, width]; none for text and decode.

    memory: what `StageMemory.to_dict` says: predicted peak, how weights are held, tiles. seconds: an estimate from
    earlier runs on this machine; None before there was one.
    """

    name: str
    cached: bool
    items: int
    weights: tuple[FilePlan, ...]
    bytes: int
    shape: tuple[int, ...] | None
    keys: tuple[str, ...]
    memory: Mapping[str, Any]
    seconds: float | None


@dataclass(frozen=True)
class PlanReport:
    """Pixels; `base` and `output` are (width, height). `budget` and `rooms` (on the disks) in bytes.

    seconds: of the stages that are not cached together; None when one of them is not known.
    """

    preset: str
    backend: str
    dtype: str
    base: tuple[int, int]
    output: tuple[int, int]
    frames: int
    output_frames: int
    fps: str
    output_fps: str
    seeds: tuple[int, ...]
    stages: tuple[StageReport, ...]
    outputs: tuple[str, ...]
    budget: int
    budget_source: str
    fits: bool
    seconds: float | None
    rooms: tuple[Room, ...]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "rooms": [{**asdict(room), "place": str(room.place)} for room in self.rooms]}


def describe(prepared: Prepared) -> PlanReport:
    """The report of a prepared run; reads headers, and verifies what is cached."""
    recipe, geometry, given = prepared.recipe, prepared.recipe.geometry, prepared.means
    missing = needed(prepared.relay, lambda stage, item: is_there(prepared, stage, item))
    stages = tuple(report(stage, missing, prepared) for stage in prepared.relay)
    todo = [stage for stage in stages if not stage.cached]
    times = [stage.seconds for stage in todo]
    return PlanReport(
        preset=recipe.preset,
        backend=prepared.machine.backend,
        dtype=prepared.dtype,
        base=(recipe.width, recipe.height),
        output=geometry.output_size,
        frames=recipe.frames,
        output_frames=geometry.output_frames,
        fps=recipe.fps,
        output_fps=str(recipe.playing_fps),
        seeds=recipe.seeds,
        stages=stages,
        outputs=tuple(str(path) for path in prepared.outputs.values()),
        budget=given.budget.bytes,
        budget_source=given.budget.source,
        fits=all(stage.memory["fits"] for stage in todo),
        seconds=None if None in times else sum(time for time in times if time is not None),
        rooms=tuple(rooms(prepared)),
    )


def report(stage: StagePlan, missing: Mapping[str, tuple[Item, ...]], prepared: Prepared) -> StageReport:
    memory = prepared.memory[stage.name]
    files = tuple(file for use in stage.weights for file in files_of(use.role, Path(use.path), use.loras))
    return StageReport(
        name=stage.name,
        cached=not missing[stage.name],
        items=len(stage.items),
        weights=files,
        bytes=sum(file.bytes for file in files),
        shape=tuple(stage.params["shape"]) if "shape" in stage.params else None,
        keys=tuple(item.key for item in stage.items),
        memory=memory.to_dict(),
        seconds=estimate(memory, prepared.means),
    )


def files_of(role: str, path: Path, loras: tuple[Any, ...]) -> list[FilePlan]:
    """What is read in that role: one entry per role, and one per LoRA."""
    selection = select(path, role)
    read_bytes = selection.bytes
    if role == "gemma":  # of the embedding only the prompts' rows are read
        read_bytes -= selection.tensors["embed_tokens.weight"].info.nbytes
    found = [FilePlan(role, str(path), read_bytes, len(selection.tensors), size_of(selection))]
    for lora in loras:
        header = read_header(Path(lora.path))
        pairs = match(header, selection)
        changes = f"x{lora.strength:g}: {pairs.summary}"
        found.append(FilePlan("lora", lora.path, pairs.bytes, 2 * len(pairs.pairs), header.file_size, changes))
    return found


def size_of(selection: Selection) -> int:
    """Bytes of the files that the selection's tensors are in."""
    return sum(path.stat().st_size for path in {stored.path for stored in selection.tensors.values()})


def is_there(prepared: Prepared, stage: StagePlan, item: Item) -> bool:
    if stage.name == "decode":
        return find_video(prepared.home, item.key) is not None
    try:
        read(Path(item.output), key=item.key, stage=stage.name)
    except ArtifactError:
        return False
    return True
