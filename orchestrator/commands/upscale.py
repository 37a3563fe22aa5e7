"""`upscale-temporal` and `upscale-spatial`: a finished video, made smoother or larger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from orchestrator.commands.asked import (
    absolute,
    absolute_if_said,
    check_display,
    model_of,
    output_of,
    parse_memory,
    parse_tiles,
)
from orchestrator.commands.generate import chosen_home, resume_words, show
from orchestrator.commands.manners import Manners
from orchestrator.commands.options import (
    MACHINE,
    OUTPUT,
    WEIGHTS,
    WHAT,
    Codec,
    Debug,
    Dtype,
    Home,
    Json,
    Memory,
    Model,
    ModelVersion,
    Nice,
    NoRetry,
    OnDone,
    Overwrite,
    Quiet,
    TemporalWeights,
    TileSizes,
    option,
    takes_flags,
)
from orchestrator.display import open_display
from orchestrator.recipe import WeightsChoice
from orchestrator.upscaling.recipe import SPATIAL, TEMPORAL, UpscaleRecipe
from weights.errors import UsageError


# fmt: off
@dataclass(frozen=True)
class UpscaleFlags:
    """What was said on the command line of either command, as Typer parsed it."""

    video: Annotated[str, typer.Argument(
        metavar="VIDEO", help="The video's file, of any usual kind.", rich_help_panel=WHAT)]

    output: Annotated[str | None, option(
        "--output", "--output-path", "-o", metavar="FILE", panel=OUTPUT,
        default="./<video>-temporal.mp4 or -spatial, numbered where it is taken",
        help="Where the new video goes.")] = None
    overwrite: Overwrite = False
    codec: Codec = None
    sound: Annotated[bool, typer.Option(
        "--sound/--no-sound", help="Copy sound and subtitles as they are.", rich_help_panel=OUTPUT, show_default="on")
    ] = True

    model: Model = None
    weights: Annotated[str | None, option(
        "--weights", metavar="FILE", panel=WEIGHTS, help="The checkpoint, for its VAE.")] = None
    temporal_weights: TemporalWeights = None
    spatial_upscaler_weights: Annotated[str | None, option(
        "--spatial-upscaler-weights", metavar="FILE", panel=WEIGHTS, help="The upscaler of the size.")] = None
    model_version: ModelVersion = None

    memory: Memory = None
    tiles: TileSizes = None
    chunk: Annotated[int | None, option(
        "--chunk", metavar="FRAMES", default="97, less for a small --memory", panel=MACHINE,
        help="Compute so many frames together, 8k+1; the next ones fade in.")] = None
    dtype: Dtype = None
    no_retry: NoRetry = False

    nice: Nice = None
    on_done: OnDone = None
    home: Home = None
    json: Json = False
    quiet: Quiet = False
    debug: Debug = False
# fmt: on


@takes_flags(UpscaleFlags, without=("spatial_upscaler_weights",))
def upscale_temporal(flags: UpscaleFlags) -> None:
    """Double the frame rate of a video.

    n frames become 2n-1, each of the old ones shown when it was. Sound and subtitles are copied. A video that we made
    is taken from its latent, where that is still there.
    """
    carry_out(TEMPORAL, flags)


@takes_flags(UpscaleFlags, without=("temporal_weights",))
def upscale_spatial(flags: UpscaleFlags) -> None:
    """Double the width and height of a video.

    By the latent upscaler alone, without the refinement that two-stage generation does after it. Frames keep their
    number and their times; sound and subtitles are copied.
    """
    carry_out(SPATIAL, flags)


def carry_out(kind: str, flags: UpscaleFlags) -> None:
    with Manners(nice=flags.nice, on_done=flags.on_done, json=flags.json) as manners:
        recipe = recipe_of(kind, flags)
        check_display(flags.json, flags.quiet)
        output, home = output_of(flags.output), chosen_home(flags.home)
        from orchestrator.upscaling.prepare import prepare
        from orchestrator.upscaling.run import upscale

        prepared = prepare(recipe, home=home, output=output, overwrite=flags.overwrite)

        def begin(on_event: Any, interrupts: Any) -> None:
            upscale(prepared, on_event=on_event, interrupts=interrupts, retry=not flags.no_retry)

        display = open_display(json=flags.json, quiet=flags.quiet)
        show(display, resume_words(flags.home, flags.overwrite), begin, manners)


def recipe_of(kind: str, flags: UpscaleFlags) -> UpscaleRecipe:
    """What was asked, with the video's hash left open, and chunks too where they were not said. UsageError (2)."""
    if not flags.video:
        raise UsageError("VIDEO names no file.")
    return UpscaleRecipe(
        kind=kind,
        video=absolute(flags.video),
        sha256="",
        weights=WeightsChoice(
            model=model_of(flags.model),
            weights=absolute_if_said(flags.weights),
            spatial_upscaler=absolute_if_said(flags.spatial_upscaler_weights),
            temporal_upscaler=absolute_if_said(flags.temporal_weights),
            model_version=flags.model_version,
        ),
        dtype="auto" if flags.dtype is None else flags.dtype,
        codec="h264" if flags.codec is None else flags.codec,
        sound=flags.sound,
        memory=None if flags.memory is None else parse_memory(flags.memory),
        tiles=None if flags.tiles is None else parse_tiles(flags.tiles),
        chunk=flags.chunk,
    )
