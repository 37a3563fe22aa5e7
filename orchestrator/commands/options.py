"""The flags of `generate` and `plan`, declared once: a frozen dataclass whose fields are Typer options.

Here too are the options that other commands share with them.

Every default here is None or False, "not said"; what a value defaults to is stated in its help, and decided in
`orchestrator.settings`, where presets and the weights are known. The first long name of an option is ours, the rest are
what other tools call it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from orchestrator.commands.complete import one_of, run_names
from orchestrator.presets import PIPELINES, PRESETS, VARIANTS
from orchestrator.settings import DTYPES

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Kind = TypeVar("Kind", bound="DataclassInstance")


def option(
    *names: str,
    help: str,
    metavar: str | None = None,
    default: str | None = None,
    panel: str,
    complete: Callable[..., list[str]] | None = None,
) -> Any:
    """A Typer option that is not said by default; `default` states what then holds. complete: for the tab key."""
    return typer.Option(
        *names,
        help=help,
        metavar=metavar,
        show_default=default or False,
        rich_help_panel=panel,
        autocompletion=complete,
    )


WHAT = "What to make"
SIZE = "Size and time"
STEPS = "Steps and guidance"
WEIGHTS = "Weights"
MACHINE = "Memory and numbers"
OUTPUT = "Output"
PROGRAM = "Program"
CODECS = ("h264", "hevc", "prores", "ffv1")
"""As `orchestrator.video_files` has them, which help pages need not wait for."""

Home = Annotated[
    str | None,
    option(
        "--home", metavar="FOLDER", help="Where results and runs are kept, also LTX_RELAY_HOME.",
        default="~/.cache/ltx-relay", panel=PROGRAM,
    ),
]  # fmt: skip
Overwrite = Annotated[bool, option("--overwrite", help="Replace a file that is there.", panel=OUTPUT)]
Json = Annotated[bool, option("--json", help="One JSON object per line on standard output.", panel=PROGRAM)]
Quiet = Annotated[bool, option("--quiet", "-q", help="Print nothing but the video's path.", panel=PROGRAM)]
QuietFiles = Annotated[bool, option("--quiet", "-q", help="Print nothing but the files' paths.", panel=PROGRAM)]
NoRetry = Annotated[
    bool,
    option("--no-retry", help="Do not start a worker again that ran out of memory, with less of it.", panel=MACHINE),
]
Nice = Annotated[
    int | None,
    option("--nice", metavar="N", default="0", help="Leave the processor to others, 1 to 19.", panel=PROGRAM),
]
OnDone = Annotated[
    str | None,
    option(
        "--on-done", metavar="COMMAND", panel=PROGRAM,
        help="Run this in a shell at the end, well or not; LTX_RELAY_STATUS, _OUTPUT, _RUN, _EXIT_CODE, _SECONDS tell.",
    ),
]  # fmt: skip
RunName = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run, the beginning of its id, or last.", autocompletion=run_names),
]
Debug = Annotated[bool, option("--debug", help="Show the traceback of an error.", panel=PROGRAM)]

# fmt: off
Model = Annotated[str | None, option(
    "--model", "-m", metavar="tiny|FOLDER", default="weights/ltx-2 and other usual places", panel=WEIGHTS,
    help="Where all weights are; tiny is the model that comes along.")]
ModelVersion = Annotated[str | None, option(
    "--model-version", metavar="2.0|2.3", default="what the files say", panel=WEIGHTS, complete=one_of("2.0", "2.3"),
    help="Of LTX-2, for files that do not tell, and where both are there.")]
TemporalWeights = Annotated[str | None, option(
    "--temporal-weights", "--temporal-upscaler-weights", metavar="FILE", panel=WEIGHTS,
    help="The upscaler of the frame rate.")]
Memory = Annotated[str | None, option(
    "--memory", metavar="SIZE", default="what the machine can give", panel=MACHINE,
    help="Budget of every worker: 24GB. As on a Mac, 1 GB is 2^30 bytes.")]
TileSizes = Annotated[str | None, option(
    "--tiles", metavar="PIXELSxFRAMES", default="by --memory", panel=MACHINE,
    help="Decode in tiles of that size, 512x64; smaller ones take less memory and more time. 0 is whole.")]
Dtype = Annotated[str | None, option(
    "--dtype", metavar="TYPE", default="auto", panel=MACHINE, complete=one_of(*DTYPES),
    help="auto, bfloat16, float16 or float32; auto is bfloat16 on a GPU.")]
Output = Annotated[str | None, option(
    "--output", "--output-path", "-o", metavar="FILE", panel=OUTPUT,
    default="./<prompt>-<seed>.mp4, numbered where it is taken",
    help="Where the video goes; several seeds add theirs to the name.")]
Codec = Annotated[str | None, option(
    "--codec", metavar="NAME", default="h264", panel=OUTPUT, complete=one_of(*CODECS),
    help="h264, hevc, prores (.mov) or ffv1 (.mkv, lossless).")]


@dataclass(frozen=True)
class Flags:
    """What was said on the command line, as Typer parsed it."""

    prompt: Annotated[str | None, typer.Argument(
        help="What the video shows, in quotes.", metavar="PROMPT", show_default=False, rich_help_panel=WHAT)] = None
    prompt_flag: Annotated[str | None, option(
        "--prompt", metavar="TEXT", panel=WHAT, help="The same as a flag, as other tools have it.")] = None

    preset: Annotated[str | None, option(
        "--preset", "-p", metavar="NAME", default="max", panel=WHAT, complete=one_of(*PRESETS),
        help="\n".join(["How much is done.", *(f"{name}: {preset.summary}." for name, preset in PRESETS.items())]))
    ] = None
    pipeline: Annotated[str | None, option(
        "--pipeline", metavar="NAME", panel=WHAT, complete=one_of(*PIPELINES),
        help="The guide's names: two-stage is that preset; text-to-video is draft, or dev with --model-variant dev.")
    ] = None
    negative_prompt: Annotated[str | None, option(
        "--negative-prompt", "-n", metavar="TEXT", default="a text of our own", panel=WHAT,
        help='What guidance leads away from; "" for nothing in particular.')] = None
    seed: Annotated[list[str] | None, option(
        "--seed", "-s", metavar="N", default="0", panel=WHAT,
        help="Which of the possible videos; 1,2,3 or the flag again for several, random for a new one.")] = None
    seeds: Annotated[int | None, option(
        "--seeds", metavar="COUNT", default="1", panel=WHAT,
        help="So many videos, counting the seed up; they share the loading of the weights.")] = None
    recipe: Annotated[str | None, option(
        "--recipe", metavar="FILE", panel=WHAT,
        help="Make that video again: the video, the .json beside it, or a recipe.json. Flags beside it win.")] = None

    height: Annotated[int | None, option(
        "--height", "-H", metavar="PIXELS", default="480; tiny its own", panel=SIZE,
        help="Base height, a multiple of 32; two stages double it.")] = None
    width: Annotated[int | None, option(
        "--width", "-W", metavar="PIXELS", default="704; tiny its own", panel=SIZE,
        help="Base width, a multiple of 32; two stages double it.")] = None
    size: Annotated[str | None, option(
        "--size", metavar="WxH", panel=SIZE, help="Final size instead, any even one: 1920x1080. Cropped to fit.")
    ] = None
    frames: Annotated[int | None, option(
        "--frames", "--num-frames", "-f", metavar="COUNT", default="97; tiny its own", panel=SIZE,
        help="Frames, 8k+1; temporal upscaling makes 2n-1 of n.")] = None
    fps: Annotated[str | None, option(
        "--fps", "--frame-rate", metavar="RATE", default="24", panel=SIZE,
        help="Frames a second (24, 23.976, 30000/1001); temporal upscaling doubles it.")] = None
    play_fps: Annotated[str | None, option(
        "--play-fps", metavar="RATE", default="--fps, doubled by --temporal", panel=SIZE,
        help="At what rate the finished video plays; changes no picture.")] = None
    temporal: Annotated[bool | None, option(
        "--temporal/--no-temporal", default="on in max", panel=SIZE, help="Twice the frame rate, as a last stage.")
    ] = None

    steps: Annotated[int | None, option(
        "--steps", "--num-inference-steps", metavar="COUNT", default="draft 8, dev 30", panel=STEPS,
        help="Denoising steps when there is one stage.")] = None
    steps_stage1: Annotated[int | None, option(
        "--steps-stage1", "--stage1-steps", metavar="COUNT", default="15; distilled 8", panel=STEPS,
        help="Denoising steps of stage 1.")] = None
    steps_stage2: Annotated[int | None, option(
        "--steps-stage2", "--stage2-steps", metavar="COUNT", default="3", panel=STEPS,
        help="Denoising steps of stage 2, at the full size.")] = None
    cfg: Annotated[float | None, option(
        "--cfg", "--cfg-scale", "--guidance-scale", "--video-cfg-guidance-scale", metavar="SCALE",
        default="5, dev 7, distilled 1", panel=STEPS,
        help="How strictly stage 1 follows the prompt; 1 is without guidance.")] = None
    cfg_stage1: Annotated[float | None, option(
        "--cfg-stage1", "--stage1-cfg", metavar="SCALE", default="as --cfg", panel=STEPS,
        help="The same for stage 1 by its own name; stage 2 has no guidance.")] = None
    guidance_rescale: Annotated[float | None, option(
        "--guidance-rescale", "--video-rescale-scale", metavar="SHARE", default="0", panel=STEPS,
        help="0 to 1; 0.7 against over-saturated colours.")] = None
    stg: Annotated[float | None, option(
        "--stg", "--stg-scale", "--video-stg-guidance-scale", metavar="SCALE", default="0", panel=STEPS,
        help="Spatio-temporal guidance; costs one more pass a step.")] = None
    stg_blocks: Annotated[str | None, option(
        "--stg-blocks", metavar="N,N", default="29; 2.3: 28", panel=STEPS,
        help="Blocks whose self-attention STG skips, counted from 0.")] = None

    model: Model = None
    model_variant: Annotated[str | None, option(
        "--model-variant", metavar="|".join(VARIANTS), default="dev where it is there", panel=WEIGHTS,
        complete=one_of(*VARIANTS),
        help="The model of stage 1.")] = None
    model_version: ModelVersion = None
    weights: Annotated[str | None, option(
        "--weights", "--checkpoint-path", metavar="FILE", panel=WEIGHTS, help="The checkpoint of both stages.")] = None
    weights_stage1: Annotated[str | None, option(
        "--weights-stage1", metavar="FILE", panel=WEIGHTS, help="The checkpoint of stage 1.")] = None
    weights_stage2: Annotated[str | None, option(
        "--weights-stage2", metavar="FILE", panel=WEIGHTS, help="The checkpoint of stage 2, distilled.")] = None
    gemma: Annotated[str | None, option(
        "--gemma", "--gemma-root", "--text-encoder", metavar="FOLDER", panel=WEIGHTS,
        help="The text encoder, Gemma 3.")] = None
    spatial_upscaler_weights: Annotated[str | None, option(
        "--spatial-upscaler-weights", "--spatial-upsampler-path", metavar="FILE", panel=WEIGHTS,
        help="The upscaler between the stages.")] = None
    temporal_weights: TemporalWeights = None
    distilled_lora: Annotated[str | None, option(
        "--distilled-lora", metavar="FILE", panel=WEIGHTS,
        help="The LoRA that makes the dev checkpoint stage 2's model.")] = None
    lora: Annotated[list[str] | None, option(
        "--lora", metavar="FILE[:STRENGTH][@STAGE]", panel=WEIGHTS,
        help="Add a LoRA, of strength 1 unless said: style.safetensors:0.8@stage1. Again for several.")] = None

    memory: Memory = None
    tiles: TileSizes = None
    quantize: Annotated[int | None, option(
        "--quantize", metavar="8|4", default="as stored", panel=MACHINE,
        help="Hold the transformer's weights in so few bits. A half or a quarter of the memory, less exact.")] = None
    no_retry: NoRetry = False
    fp16: Annotated[bool, option(
        "--fp16", panel=MACHINE, help="16-bit compute: bfloat16 on a GPU; a CPU stays with float32.")] = False
    dtype: Dtype = None
    noise: Annotated[str | None, option(
        "--noise", metavar="FILE", panel=MACHINE,
        help="Start from the tensors stage1 and stage2 of a safetensors file, not from a seed.")] = None

    stop_after: Annotated[str | None, option(
        "--stop-after", metavar="STAGE", panel=OUTPUT, complete=one_of("text", "stage1", "stage2", "temporal"),
        help="Stop after text, stage1, stage2 or temporal; after stage1 with a contact sheet. promote goes on.")
    ] = None
    output: Output = None
    overwrite: Overwrite = False
    codec: Codec = None
    keep_base: Annotated[bool | None, option(
        "--keep-base/--no-keep-base", panel=OUTPUT, default="off",
        help="Write the video from before temporal upscaling too.")] = None
    generate_audio: Annotated[bool, option(
        "--generate-audio", panel=OUTPUT, help="Not there yet; an error that says so.")] = False

    home: Home = None
    nice: Nice = None
    on_done: OnDone = None
    json: Json = False
    quiet: Quiet = False
    debug: Debug = False
# fmt: on


def takes_flags(
    kind: type[Kind], without: Container[str] = ()
) -> Callable[[Callable[[Kind], None]], Callable[..., None]]:
    """Makes a command of a function of all flags together: one parameter for each, as Typer reads them.

    kind: the dataclass of the flags. without: fields that this command does not offer.
    """
    hints = get_type_hints(kind, include_extras=True)
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(kind)
        if field.name not in without
    ]

    def command_of(function: Callable[[Kind], None]) -> Callable[..., None]:
        def command(**said: Any) -> None:
            function(kind(**said))

        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__name__, command.__doc__ = function.__name__, function.__doc__
        return command

    return command_of
