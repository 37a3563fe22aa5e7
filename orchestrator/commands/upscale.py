"""`upscale-temporal` and `upscale-spatial`: a finished video, made smoother or larger."""

from __future__ import annotations

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
    Debug,
    Home,
    Json,
    Nice,
    NoRetry,
    OnDone,
    Overwrite,
    Quiet,
    option,
)
from orchestrator.display import open_display
from orchestrator.recipe import WeightsChoice
from orchestrator.upscaling.chunks import check_length
from orchestrator.upscaling.recipe import SPATIAL, TEMPORAL, UpscaleRecipe
from weights.errors import UsageError

Video = Annotated[
    str,
    typer.Argument(metavar="VIDEO", help="The video's file, of any usual kind.", rich_help_panel=WHAT),
]
Output = Annotated[
    str | None,
    option(
        "--output", "--output-path", "-o", metavar="FILE", default="./<video>-temporal.mp4 or -spatial", panel=OUTPUT,
        help="Where the new video goes.",
    ),
]  # fmt: skip
Codec = Annotated[
    str | None,
    option(
        "--codec", metavar="NAME", default="h264", panel=OUTPUT,
        help="h264, hevc, prores (.mov) or ffv1 (.mkv, lossless).",
    ),
]  # fmt: skip
Sound = Annotated[
    bool,
    typer.Option(
        "--sound/--no-sound", help="Copy sound and subtitles as they are.", rich_help_panel=OUTPUT, show_default="on"
    ),
]
Model = Annotated[
    str | None,
    option(
        "--model", "-m", metavar="tiny|FOLDER", default="weights/ltx-2 and other usual places", panel=WEIGHTS,
        help="Where all weights are; tiny is the model that comes along.",
    ),
]  # fmt: skip
Checkpoint = Annotated[
    str | None, option("--weights", metavar="FILE", panel=WEIGHTS, help="The checkpoint, for its VAE.")
]
TemporalWeights = Annotated[
    str | None,
    option(
        "--temporal-weights", "--temporal-upscaler-weights", metavar="FILE", panel=WEIGHTS,
        help="The upscaler of the frame rate.",
    ),
]  # fmt: skip
SpatialWeights = Annotated[
    str | None,
    option("--spatial-upscaler-weights", metavar="FILE", panel=WEIGHTS, help="The upscaler of the size."),
]
Version = Annotated[
    str | None,
    option(
        "--model-version", metavar="2.0|2.3", default="what the files say", panel=WEIGHTS,
        help="Of LTX-2, for files that do not tell, and where both are there.",
    ),
]  # fmt: skip
Memory = Annotated[
    str | None,
    option(
        "--memory", metavar="SIZE", default="what the machine can give", panel=MACHINE,
        help="Budget of every worker: 24GB. As on a Mac, 1 GB is 2^30 bytes.",
    ),
]  # fmt: skip
TileSizes = Annotated[
    str | None,
    option(
        "--tiles", metavar="PIXELSxFRAMES", default="by --memory", panel=MACHINE,
        help="Decode in tiles of that size, 512x64; smaller ones take less memory and more time. 0 is whole.",
    ),
]  # fmt: skip
ChunkFrames = Annotated[
    int | None,
    option(
        "--chunk", metavar="FRAMES", default="97, less for a small --memory", panel=MACHINE,
        help="Compute so many frames together, 8k+1; the next ones fade in.",
    ),
]  # fmt: skip
Dtype = Annotated[
    str | None,
    option(
        "--dtype", metavar="TYPE", default="auto", panel=MACHINE,
        help="auto, bfloat16, float16 or float32; auto is bfloat16 on a GPU.",
    ),
]  # fmt: skip


def upscale_temporal(
    video: Video,
    output: Output = None,
    overwrite: Overwrite = False,
    codec: Codec = None,
    sound: Sound = True,
    model: Model = None,
    weights: Checkpoint = None,
    temporal_weights: TemporalWeights = None,
    model_version: Version = None,
    memory: Memory = None,
    tiles: TileSizes = None,
    chunk: ChunkFrames = None,
    dtype: Dtype = None,
    no_retry: NoRetry = False,
    nice: Nice = None,
    on_done: OnDone = None,
    home: Home = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Double the frame rate of a video.

    n frames become 2n-1, each of the old ones shown when it was. Sound and subtitles are copied. A video that we made
    is taken from its latent, where that is still there.
    """
    choice = WeightsChoice(
        model=model_of(model),
        weights=absolute_if_said(weights),
        temporal_upscaler=absolute_if_said(temporal_weights),
        model_version=model_version,
    )
    recipe = recipe_of(TEMPORAL, video, choice, codec, sound, memory, tiles, chunk, dtype)
    with Manners(nice=nice, on_done=on_done, json=json) as manners:
        carry_out(recipe, output, overwrite, not no_retry, home, json, quiet, manners)


def upscale_spatial(
    video: Video,
    output: Output = None,
    overwrite: Overwrite = False,
    codec: Codec = None,
    sound: Sound = True,
    model: Model = None,
    weights: Checkpoint = None,
    spatial_upscaler_weights: SpatialWeights = None,
    model_version: Version = None,
    memory: Memory = None,
    tiles: TileSizes = None,
    chunk: ChunkFrames = None,
    dtype: Dtype = None,
    no_retry: NoRetry = False,
    nice: Nice = None,
    on_done: OnDone = None,
    home: Home = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Double the width and height of a video.

    By the latent upscaler alone, without the refinement that two-stage generation does after it. Frames keep their
    number and their times; sound and subtitles are copied.
    """
    choice = WeightsChoice(
        model=model_of(model),
        weights=absolute_if_said(weights),
        spatial_upscaler=absolute_if_said(spatial_upscaler_weights),
        model_version=model_version,
    )
    recipe = recipe_of(SPATIAL, video, choice, codec, sound, memory, tiles, chunk, dtype)
    with Manners(nice=nice, on_done=on_done, json=json) as manners:
        carry_out(recipe, output, overwrite, not no_retry, home, json, quiet, manners)


def recipe_of(
    kind: str,
    video: str,
    choice: WeightsChoice,
    codec: str | None,
    sound: bool,
    memory: str | None,
    tiles: str | None,
    chunk: int | None,
    dtype: str | None,
) -> UpscaleRecipe:
    """What was asked, with chunks and the video's hash left open."""
    if not video:
        raise UsageError("VIDEO names no file.")
    if chunk is not None:
        check_length(chunk)
    return UpscaleRecipe(
        kind=kind,
        video=absolute(video),
        sha256="",
        weights=choice,
        dtype="auto" if dtype is None else dtype,
        codec="h264" if codec is None else codec,
        sound=sound,
        memory=None if memory is None else parse_memory(memory),
        tiles=None if tiles is None else parse_tiles(tiles),
        chunk=chunk,
    )


def carry_out(
    recipe: UpscaleRecipe,
    output: str | None,
    overwrite: bool,
    retry: bool,
    home: str | None,
    json: bool,
    quiet: bool,
    manners: Manners,
) -> None:
    check_display(json, quiet)
    place = output_of(output)
    at = chosen_home(home)
    from orchestrator.upscaling.prepare import prepare
    from orchestrator.upscaling.run import upscale

    prepared = prepare(recipe, home=at, output=place, overwrite=overwrite)

    def begin(on_event: Any, interrupts: Any) -> None:
        upscale(prepared, on_event=on_event, interrupts=interrupts, retry=retry)

    show(open_display(json=json, quiet=quiet), resume_words(home, overwrite), begin, manners)
