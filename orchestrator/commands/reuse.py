"""`promote` and `decode`: new runs that use what an old one computed."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.commands.asked import check_display, output_of, parse_seeds
from orchestrator.commands.complete import one_of
from orchestrator.commands.generate import chosen_home, resume_words, show
from orchestrator.commands.manners import Manners
from orchestrator.commands.options import (
    CODECS,
    OUTPUT,
    SIZE,
    Debug,
    Home,
    Json,
    Nice,
    OnDone,
    Overwrite,
    Quiet,
    RunName,
    option,
)
from orchestrator.display import open_display
from orchestrator.sizes import parse_fps
from weights.errors import UsageError

Output = Annotated[
    str | None,
    option(
        "--output", "--output-path", "-o", metavar="FILE", panel=OUTPUT,
        default="./<prompt>-<seed>.mp4, numbered where it is taken",
        help="Where the video goes; several seeds add theirs to the name.",
    ),
]  # fmt: skip


def promote(
    run: RunName,
    seeds: Annotated[
        list[str] | None,
        typer.Argument(metavar="SEED...", show_default="all of the run's", help="Which of its seeds, 3 7 or 3,7."),
    ] = None,
    output: Output = None,
    overwrite: Overwrite = False,
    home: Home = None,
    nice: Nice = None,
    on_done: OnDone = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Carry chosen seeds of a run to the end.

    For a sweep that stopped after stage 1: its contact sheet shows what each seed gives, and the rest of the relay is
    computed for the good ones only.
    """
    chosen = parse_seeds(seeds, None) if seeds else None
    if chosen == ():
        raise UsageError("promote takes the numbers of seeds.")
    with Manners(nice=nice, on_done=on_done, json=json) as manners:
        begin(run, chosen, None, None, output, overwrite, home, json, quiet, manners)


def decode(
    run: RunName,
    seed: Annotated[
        list[str] | None,
        option("--seed", "-s", metavar="N", default="all of the run's", help="Which of its seeds.", panel=OUTPUT),
    ] = None,
    codec: Annotated[
        str | None,
        option(
            "--codec", metavar="NAME", default="the run's", panel=OUTPUT, complete=one_of(*CODECS),
            help="h264, hevc, prores (.mov) or ffv1 (.mkv, lossless).",
        ),
    ] = None,
    play_fps: Annotated[
        str | None,
        option("--play-fps", metavar="RATE", default="the run's", help="At what rate it plays.", panel=SIZE),
    ] = None,
    output: Output = None,
    overwrite: Overwrite = False,
    home: Home = None,
    nice: Nice = None,
    on_done: OnDone = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Make the video of a run again, from its latents: with another codec, or another rate."""
    chosen = parse_seeds(seed, None) if seed else None
    if chosen == ():
        raise UsageError("--seed takes the numbers of seeds here.")
    with Manners(nice=nice, on_done=on_done, json=json) as manners:
        begin(run, chosen, codec, play_fps, output, overwrite, home, json, quiet, manners)


def begin(
    run: str,
    seeds: tuple[int, ...] | None,
    codec: str | None,
    play_fps: str | None,
    output: str | None,
    overwrite: bool,
    home: str | None,
    json: bool,
    quiet: bool,
    manners: Manners,
) -> None:
    check_display(json, quiet)
    place = output_of(output)
    rate = None if play_fps is None else parse_fps(play_fps, "--play-fps")
    at = chosen_home(home)
    from cache.runs import open_run
    from orchestrator.reuse import Again, prepare_again
    from orchestrator.run import generate

    changes = Again(seeds, codec, rate)
    prepared = prepare_again(open_run(at, run), changes, home=at, output=place, overwrite=overwrite)
    show(
        open_display(json=json, quiet=quiet),
        resume_words(home, overwrite),
        lambda on_event, interrupts: generate(prepared, on_event=on_event, interrupts=interrupts),
        manners,
    )
