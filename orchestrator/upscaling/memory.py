"""How an upscaled video is cut up for a budget, and what its workers take.

Chunks and tiles change bits, so they follow from the stated budget and the headers alone, as a decode's tiles do
(`orchestrator.memory_tiles`): the longest chunk whose workers fit, each with the tiles of least work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.display.words import memory_size, stage_label
from orchestrator.machine import Machine
from orchestrator.memory import Network, Work, predict
from orchestrator.memory_backends import BACKENDS, CPU, Backend
from orchestrator.memory_budget import total_for_tiles
from orchestrator.memory_plan import StageMemory, choose_tiles
from orchestrator.memory_tiles import Tiles, choose_encode, encode_cut, encode_normal, normal, stated_budget
from orchestrator.memory_video import MOST_VALUES, encoder_values
from orchestrator.planning import Means, plan_work
from orchestrator.sizes import LatentShape
from orchestrator.upscaling.chunks import LENGTHS, OVERLAP, padded
from orchestrator.upscaling.geometry import Sizes
from orchestrator.upscaling.recipe import UpscaleRecipe
from weights.errors import DoesNotFit

_TOO_LARGE = 1 << 60
_PIXEL = 3
"""Bytes of a pixel."""
Networks = Mapping[str, Mapping[str, Network]]
"""By stage and role."""


@dataclass(frozen=True)
class Cutting:
    """chunk: frames that are computed together. Tiles of the encoder (None: nothing is encoded) and the decoder."""

    chunk: int
    encode_tiles: Tiles | None
    tiles: Tiles


def works(
    recipe: UpscaleRecipe, cutting: Cutting, sizes: Sizes, frames: int, networks: Networks, dtype: str
) -> dict[str, Work]:
    """What each worker computes with at most. frames: of the whole video."""
    longest = min(frames, cutting.chunk)
    before = sizes.before(padded(longest))
    after = sizes.after(padded(longest), recipe.factor)
    shared = 0 if frames <= cutting.chunk else recipe.factor * (OVERLAP - 1) + 1
    found = {}
    if recipe.from_run is not None:
        before = LatentShape(*recipe.from_run.shape)
        after = replace(after, frames=recipe.factor * (before.frames - 1) + 1)
    else:
        chunk_bytes = (padded(longest) + OVERLAP) * _PIXEL * sizes.grid[0] * sizes.grid[1]
        found["encode"] = Work(
            "encode", networks["encode"], dtype, before, before, tiles=cutting.encode_tiles,
            size=(sizes.grid[1], sizes.grid[0]), kept=chunk_bytes,
        )  # fmt: skip
    found[recipe.stage] = Work(recipe.stage, networks[recipe.stage], dtype, after, before)
    found["decode"] = Work(
        "decode", networks["decode"], dtype, after, after, items=1 if not shared else 2, tiles=cutting.tiles,
        codec=recipe.codec, size=sizes.size, kept=2 * shared * _PIXEL * sizes.size[0] * sizes.size[1],
    )  # fmt: skip
    found["join"] = Work("join", {}, dtype, after, after)
    return found


def choose_cutting(
    recipe: UpscaleRecipe, sizes: Sizes, frames: int, networks: Networks, dtype: str, machine: Machine
) -> Cutting:
    """The recipe's own, as far as it says; the rest for the stated budget."""
    backend = BACKENDS[machine.backend]
    stated = stated_budget(recipe.memory, total_for_tiles(machine), backend.stated_share)
    host = stated_budget(None, machine.memory, CPU.stated_share)
    lengths: Sequence[int] = LENGTHS if recipe.chunk is None else (recipe.chunk,)
    if recipe.from_run is not None:
        lengths = (frames,)
    found = None
    for length in dict.fromkeys(lengths):
        found = _tiles(recipe, length, sizes, frames, networks, dtype, (backend, stated, host))
        peaks = [predict(work, backend).peak for work in works(recipe, found, sizes, frames, networks, dtype).values()]
        if max(peaks) <= stated:
            break
    assert found is not None
    return found


def _tiles(
    recipe: UpscaleRecipe,
    length: int,
    sizes: Sizes,
    frames: int,
    networks: Networks,
    dtype: str,
    limits: tuple[Backend, int, int],
) -> Cutting:
    backend, stated, host = limits
    whole = Tiles(None, 64, None, 24)
    plain = works(recipe, Cutting(length, whole, whole), sizes, frames, networks, dtype)
    decode = plain["decode"]
    if recipe.tiles is not None:
        tiles = normal(decode.result, Tiles.from_recipe(recipe.tiles))
    else:
        tiles = choose_tiles(decode, backend, stated, host)
    if "encode" not in plain:
        return Cutting(length, None, tiles)
    encode = plain["encode"]
    if recipe.encode_tiles is not None:
        return Cutting(length, encode_normal(encode.result, Tiles.from_recipe(recipe.encode_tiles)), tiles)

    def peak(candidate: Tiles) -> int:
        config = encode.networks["vae_encoder"].selection.config
        if encoder_values(config, encode_cut(encode.result, candidate).tile) > MOST_VALUES:
            return _TOO_LARGE
        return predict(replace(encode, tiles=candidate), backend).peak

    return Cutting(length, choose_encode(encode.result, peak, stated), tiles)


def plan_works(found: Mapping[str, Work], given: Means) -> dict[str, StageMemory]:
    """How each stage is held, and what it is predicted to take."""
    return {name: plan_work(work, given) for name, work in found.items()}


def check(stages: Mapping[str, StageMemory], missing: Sequence[str]) -> None:
    """DoesNotFit (4) when a stage that has to be computed does not fit, with what would help."""
    over = [memory for name, memory in stages.items() if name in missing and not memory.fits]
    if not over:
        return
    worst = max(over, key=lambda memory: memory.expected - memory.budget.bytes)
    unit, name = (1 << 30, "GB") if worst.expected > 2 << 30 else (1 << 20, "MB")
    enough = -(-worst.expected * 102 // (100 * unit))
    raise DoesNotFit(
        f"{stage_label(worst.work.stage).capitalize()} needs about {memory_size(worst.expected)} of memory in the "
        f"smallest chunks and tiles, and the budget is {memory_size(worst.budget.bytes)} ({worst.budget.source}): "
        f"{memory_size(worst.expected - worst.budget.bytes)} too little.",
        advice=f"--memory {enough}{name} would fit; so would a video of a smaller size.",
    )
