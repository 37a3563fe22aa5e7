"""The stages of an upscaled video, what each reads, and the keys of their results.

    encode -> temporal | spatial -> decode -> join

One item for each chunk of frames, and one for the whole at the end. Keys depend on the video's content, never on where
it lies. With the latent of a run of ours there is nothing to encode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.home import Home
from orchestrator.memory_tiles import Tiles
from orchestrator.pipeline import Ground, StagePlan, plan, use
from orchestrator.sizes import LatentShape
from orchestrator.upscaling.chunks import Chunk, pieces
from orchestrator.upscaling.facts import Facts, SoundTrack
from orchestrator.upscaling.geometry import Sizes, Times, piece_rate
from orchestrator.upscaling.memory import Cutting
from orchestrator.upscaling.recipe import UpscaleRecipe
from orchestrator.video_files import suffix_of
from weights.resolve import UpscalerSet
from workers.protocol import Item

MARGIN = 4
"""A part of the frames that two chunks share, at either end, comes from one of them alone: a quarter."""


@dataclass(frozen=True)
class Given:
    """What the stages are made from, beside the recipe. tracks: those that are copied."""

    facts: Facts
    sizes: Sizes
    times: Times
    chunks: tuple[Chunk, ...]
    cutting: Cutting
    tracks: tuple[SoundTrack, ...]
    weights: UpscalerSet
    fingerprint: Callable[[Path], str]
    numerics: Mapping[str, Any]
    home: Home
    container: str
    after: LatentShape
    """The largest latent that is decoded."""


def stages(recipe: UpscaleRecipe, given: Given) -> tuple[StagePlan, ...]:
    """In the order in which they run."""
    pieced = ground(given, suffix_of(recipe.codec))
    made: list[StagePlan] = []
    if recipe.from_run is None:
        made.append(encode_stage(recipe, given, pieced))
        latents = made[0].items
    else:
        key = recipe.from_run.key
        latents = (Item(key, str(given.home.object_path(key))),)
    made.append(upsample_stage(recipe, given, pieced, latents))
    made.append(decode_stage(recipe, given, pieced, made[-1].items))
    made.append(join_stage(recipe, given, ground(given, given.container), made[-1].items))
    return tuple(made)


def ground(given: Given, container: str) -> Ground:
    return Ground(given.fingerprint, given.numerics, given.home, container)


def encode_stage(recipe: UpscaleRecipe, given: Given, found: Ground) -> StagePlan:
    """Frames to latents; the file itself is named when the worker starts, since only its content counts."""
    vae = given.weights.vae.path
    weights = (use(found, "statistics", vae), use(found, "vae_encoder", vae))
    tiles = given.cutting.encode_tiles or Tiles(None, 64, None, 24)
    params = {"source": recipe.sha256, "padding": list(given.sizes.padding), "tiles": tiles.as_params()}
    items: list[tuple[dict[str, Item], dict[str, Any]]] = [
        ({}, {"start": chunk.start, "frames": chunk.frames, "padded": chunk.padded}) for chunk in given.chunks
    ]
    return plan("encode", found, weights, params, items)


def upsample_stage(recipe: UpscaleRecipe, given: Given, found: Ground, latents: tuple[Item, ...]) -> StagePlan:
    weights = (
        use(found, "statistics", given.weights.vae.path),
        use(found, "upsampler", given.weights.upscaler.path),
    )
    # With the latent of a run it is the same work as that run's own, under the same key.
    params = {} if recipe.from_run is None else {"shape": given.after.as_list()}
    items: list[tuple[dict[str, Item], dict[str, Any]]] = [({"latent": latent}, {}) for latent in latents]
    return plan(recipe.stage, found, weights, params, items)


def decode_stage(recipe: UpscaleRecipe, given: Given, found: Ground, latents: tuple[Item, ...]) -> StagePlan:
    """Each chunk to a piece of the video, fading from the one before."""
    vae = given.weights.vae.path
    weights = (use(found, "statistics", vae), use(found, "vae_decoder", vae))
    cut = pieces(given.chunks, recipe.factor)
    params = {
        "codec": recipe.codec,
        "container": suffix_of(recipe.codec),
        "crop": list(given.sizes.crop),
        "margin": max((piece.shared for piece in cut), default=0) // MARGIN,
        "fps": str(piece_rate(given.facts, recipe.factor)),
        "aspect": str(given.facts.aspect),
        "tiles": given.cutting.tiles.as_params(),
    }
    items: list[tuple[dict[str, Item], dict[str, Any]]] = []
    for index, piece in enumerate(cut):
        inputs = {"latent": latents[index]} | ({"before": latents[index - 1]} if index else {})
        own = {"start": piece.start, "write": piece.write, "keep": piece.keep, "shared": piece.shared}
        items.append((inputs, own | ({"before_start": cut[index - 1].start} if index else {})))
    return plan("decode", found, weights, params, items)


def join_stage(recipe: UpscaleRecipe, given: Given, found: Ground, made: tuple[Item, ...]) -> StagePlan:
    """The pieces and the old video's sound to one file."""
    times = given.times
    params = {
        "codec": recipe.codec,
        "container": found.container,
        "times": times.times if isinstance(times.times, int) else list(times.times),
        "time_base": str(times.base),
        "last": times.last,
        "fps": str(piece_rate(given.facts, recipe.factor)),
        "tracks": [track.index for track in given.tracks],
        "origin": str(given.facts.origin),
        "source": recipe.sha256 if given.tracks else None,
    }
    inputs = {f"piece{index:06d}": item for index, item in enumerate(made)}
    return plan("join", found, (), params, [(inputs, {})])
