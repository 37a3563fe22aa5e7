"""Everything that can be known, and refused, before a worker starts on an upscaled video.

`prepare` turns what was asked into a `PreparedUpscale`; mistakes end here with exit code 2, 3 or 4 in a sentence. The
video is decoded once, by a process of its own, to know its frames; headers of weights are read, and nothing is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from cache.home import Home
from orchestrator.early import Early
from orchestrator.environment import worker_environment
from orchestrator.find_weights import find_upscaler
from orchestrator.machine import probe
from orchestrator.memory import Network
from orchestrator.memory_plan import stage_memory
from orchestrator.memory_tiles import Tiles
from orchestrator.outputs import check_outputs, renamed, unless_taken
from orchestrator.planning import Means
from orchestrator.prepared import Chosen, PreparedRelay, fingerprints, means_now, stages_to_compute
from orchestrator.presets import compute_dtype
from orchestrator.settings import DTYPES, check_machine
from orchestrator.sizes import LatentShape
from orchestrator.upscaling import memory as cutting_up
from orchestrator.upscaling import words
from orchestrator.upscaling.chunks import OVERLAP, Chunk, check_length, cut
from orchestrator.upscaling.facts import Facts, look
from orchestrator.upscaling.geometry import Sizes, Times, sizes, times
from orchestrator.upscaling.origin import Origin, find_origin
from orchestrator.upscaling.recipe import SPATIAL, UpscaleRecipe
from orchestrator.upscaling.relay import Given, stages
from orchestrator.video_files import CONTAINERS, check_codec, check_container, check_place, is_called, suffix_of
from weights.errors import UsageError
from weights.resolve import UpscalerSet
from weights.select import select

FORMATS: Mapping[str, str] = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""FFmpeg's names; a test compares them with workers.video.codecs."""


@dataclass(frozen=True, kw_only=True)
class PreparedUpscale(PreparedRelay):
    """The run of a video. `facts` are the old one's, `sizes` and `times` the new one's. seen: the old one's size, and
    when it changed in nanoseconds, as it was looked at. It always goes to the end."""

    recipe: UpscaleRecipe
    weights: UpscalerSet
    facts: Facts
    seen: tuple[int, int]
    sizes: Sizes
    times: Times


def prepare(
    recipe: UpscaleRecipe, *, home: Home, output: Path | None, overwrite: bool, again: bool = False
) -> PreparedUpscale:
    """UsageError (2), WeightsError (3) or DoesNotFit (4), the first that applies.

    recipe: its hash may be empty, and chunks and tiles open. again: a run that goes on, whose video must be the same.
    """
    check(recipe)
    video = Path(recipe.video)
    place = output_path(video, output, recipe, overwrite)
    environment = worker_environment(os.environ)
    asked = Early(lambda: probe(home.root / "machine.json", environment))
    before = seen(video)
    looking = Early(lambda: look(video, FORMATS[place.suffix.lower()], environment))
    weights = find_upscaler(recipe.weights, spatial=recipe.kind == SPATIAL)
    facts = looking.result()
    if before is None or seen(video) != before:
        raise UsageError(f"{video} changed while it was looked at.", advice="Run the same command again.")
    if again and facts.sha256 != recipe.sha256:
        raise UsageError(f"{video} is no longer the video that this run was made from.")
    words.refuse(facts, video)
    tracks = words.copied(facts, recipe.sound, place)
    fingerprint_of = fingerprints(home)
    machine = asked.result()
    dtype = compute_dtype(recipe.dtype, machine.backend)
    recipe = replace(recipe, sha256=facts.sha256)

    given = means_now(home, machine, recipe.memory)
    scale = upscale_by(recipe, weights)
    networks = networks_of(recipe, weights)
    notes: list[str] = []
    origin = None if again else find_origin(home, facts.sha256, facts.bytes)
    if origin is not None:
        recipe, sentence = with_origin(recipe, origin, facts, weights, fingerprint_of, networks, given, dtype, scale)
        notes.append(sentence)
    frames, shape = facts.frames, sizes(facts.width, facts.height, scale, recipe.codec)
    if recipe.from_run is not None:
        shape = of_latent(recipe, shape, scale)
    cutting = cutting_up.choose_cutting(recipe, shape, frames, networks, dtype, machine)
    recipe = replace(
        recipe,
        chunk=cutting.chunk,
        tiles=cutting.tiles.as_recipe(),
        encode_tiles=None if cutting.encode_tiles is None else cutting.encode_tiles.as_recipe(),
    )
    found = cutting_up.works(recipe, cutting, shape, frames, networks, dtype)
    chunks = (Chunk(0, frames),) if recipe.from_run is not None else cut(frames, cutting.chunk, OVERLAP)
    when = times(facts, recipe.factor, bool(tracks))
    relay = stages(
        recipe,
        Given(
            facts=facts,
            sizes=shape,
            times=when,
            chunks=chunks,
            cutting=cutting,
            tracks=tracks,
            weights=weights,
            fingerprint=fingerprint_of,
            numerics={**machine.numerics, "dtype": dtype},
            home=home,
            container=place.suffix.lower(),
            after=found["decode"].result,
        ),
    )
    key = relay[-1].items[0].key
    unnamed = output is None or (again and is_called(output, stem_of(video, recipe)))
    choose = partial(choose_output, key, place, home if unnamed and not overwrite else None)
    outputs, remarks = choose()
    if not overwrite:
        check_outputs(outputs, home)
    same_size = shape.size if recipe.factor == 2 else (facts.width, facts.height)
    return PreparedUpscale(
        recipe=recipe,
        notes=(*notes, *remarks, *words.notes(facts, same_size, recipe.codec, recipe.sound)),
        relay=relay,
        outputs=outputs,
        choose=choose,
        overwrite=overwrite,
        home=home,
        weights=weights,
        machine=machine,
        environment=environment.for_backend(machine.backend),
        dtype=dtype,
        means=given,
        memory=cutting_up.plan_works(found, given),
        fingerprint=fingerprint_of,
        facts=facts,
        seen=before,
        sizes=shape,
        times=when,
    )


def check(recipe: UpscaleRecipe) -> None:
    """UsageError for a setting that cannot be, whatever the video."""
    check_codec(recipe.codec)
    if recipe.dtype not in DTYPES:
        raise UsageError(f"--dtype {recipe.dtype!r} does not exist; choose one of {', '.join(DTYPES)}.")
    check_machine(recipe.memory, recipe.tiles)
    if recipe.chunk is not None and recipe.from_run is None:
        check_length(recipe.chunk)


def seen(video: Path) -> tuple[int, int] | None:
    """Its size and the time of its last change, in nanoseconds; None where there is no file."""
    try:
        status = os.stat(video)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def output_path(video: Path, output: Path | None, recipe: UpscaleRecipe, overwrite: bool) -> Path:
    """Where the new video goes. UsageError when it cannot, or when that is the old one."""
    if output is None:
        output = Path.cwd() / f"{stem_of(video, recipe)}{suffix_of(recipe.codec)}"
    place = Path(os.path.abspath(output.expanduser()))
    if place.suffix.lower() not in CONTAINERS[recipe.codec]:
        check_container(place, recipe.codec)
    if os.path.lexists(place) and os.path.exists(video) and os.path.realpath(place) == os.path.realpath(video):
        raise UsageError(f"The output {place} is the video itself.", advice="Give another --output.")
    if os.path.exists(place) and os.path.exists(video) and os.path.samefile(place, video):
        raise UsageError(f"The output {place} is another name of the video itself.", advice="Give another --output.")
    check_place(place, overwrite)
    return place


def stem_of(video: Path, recipe: UpscaleRecipe) -> str:
    """What the new video is called when nobody names it."""
    return f"{video.stem}-{recipe.stage}"


def upscale_by(recipe: UpscaleRecipe, weights: UpscalerSet) -> Fraction:
    """How many times the sides become as long."""
    return Fraction(weights.upscaler.scale or 2) if recipe.kind == SPATIAL else Fraction(1)


def networks_of(recipe: UpscaleRecipe, weights: UpscalerSet) -> dict[str, dict[str, Network]]:
    """By stage and role."""
    vae, upscaler = weights.vae.path, weights.upscaler.path
    statistics = Network(select(vae, "statistics"))
    return {
        "encode": {"statistics": statistics, "vae_encoder": Network(select(vae, "vae_encoder"))},
        recipe.stage: {"statistics": statistics, "upsampler": Network(select(upscaler, "upsampler"))},
        "decode": {"statistics": statistics, "vae_decoder": Network(select(vae, "vae_decoder"))},
    }


def with_origin(
    recipe: UpscaleRecipe,
    origin: Origin,
    facts: Facts,
    weights: UpscalerSet,
    fingerprint_of: Callable[[Path], str],
    networks: Mapping[str, Mapping[str, Network]],
    given: Means,
    dtype: str,
    scale: Fraction,
) -> tuple[UpscaleRecipe, str]:
    """The recipe with the latent, and the sentence that says so; or as it was, with the reason."""
    made = f"This video was made by the run {origin.latent.run}"
    if origin.vae != fingerprint_of(weights.vae.path):
        return (
            recipe,
            f"{made}, but with the VAE of another checkpoint; its pictures are encoded instead.",
        )
    if 8 * (origin.latent.shape[0] - 1) + 1 != facts.frames:
        return recipe, f"{made}, but its latent has another length; its pictures are encoded instead."
    chosen = replace(recipe, from_run=origin.latent)
    shape = of_latent(chosen, sizes(facts.width, facts.height, scale, recipe.codec), scale)
    whole = Tiles(None, 64, None, 24)
    work = cutting_up.works(
        chosen, cutting_up.Cutting(facts.frames, None, whole), shape, facts.frames, networks, dtype
    )[recipe.stage]
    if not stage_memory(work, given.backend, given.budget).fits:
        return recipe, f"{made}, but its latent is too large to upsample as a whole; its pictures are encoded instead."
    return chosen, f"{made}: its latent is used, so nothing is lost by encoding its pictures again."


def of_latent(recipe: UpscaleRecipe, shape: Sizes, scale: Fraction) -> Sizes:
    """The video was cut from the middle of what its latent decodes to, and the new one is too."""
    assert recipe.from_run is not None
    latent = LatentShape(*recipe.from_run.shape)
    rows, columns = latent.height * 32, latent.width * 32
    decoded = int(rows * scale), int(columns * scale)
    _, _, height, width = shape.crop
    crop = ((decoded[0] - height) // 2, (decoded[1] - width) // 2, height, width)
    return Sizes((0, 0, 0, 0), crop, (rows, columns), decoded)


def check_memory(prepared: PreparedUpscale) -> None:
    """DoesNotFit (4) when a stage that is still to be computed fits the budget in no way."""
    cutting_up.check(prepared.memory, stages_to_compute(prepared))


def choose_output(key: str, place: Path, home: Home | None) -> Chosen:
    """Where the video goes. home: to look for names that are taken; None where the name was given."""
    free = place if home is None else unless_taken(place, lambda path: {key: path}, home)
    return {key: free}, renamed(place, free)
