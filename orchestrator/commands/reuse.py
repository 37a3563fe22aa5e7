"""`promote` and `decode`: new runs that use what an old one computed."""

from __future__ import annotations

from dataclasses import dataclass
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
    Output,
    Overwrite,
    Quiet,
    RunName,
    option,
    takes_flags,
)
from orchestrator.display import open_display
from orchestrator.sizes import parse_fps
from weights.errors import UsageError


# fmt: off
@dataclass(frozen=True)
class AgainFlags:
    """What was said on the command line of either command, as Typer parsed it."""

    run: RunName
    seeds: Annotated[list[str] | None, typer.Argument(
        metavar="SEED...", show_default="all of the run's", help="Which of its seeds, 3 7 or 3,7.")] = None
    seed: Annotated[list[str] | None, option(
        "--seed", "-s", metavar="N", default="all of the run's", help="Which of its seeds.", panel=OUTPUT)] = None
    codec: Annotated[str | None, option(
        "--codec", metavar="NAME", default="the run's", panel=OUTPUT, complete=one_of(*CODECS),
        help="h264, hevc, prores (.mov) or ffv1 (.mkv, lossless).")] = None
    play_fps: Annotated[str | None, option(
        "--play-fps", metavar="RATE", default="the run's", help="At what rate it plays.", panel=SIZE)] = None
    output: Output = None
    overwrite: Overwrite = False
    home: Home = None
    nice: Nice = None
    on_done: OnDone = None
    json: Json = False
    quiet: Quiet = False
    debug: Debug = False
# fmt: on


@takes_flags(AgainFlags, without=("seed", "codec", "play_fps"))
def promote(flags: AgainFlags) -> None:
    """Carry chosen seeds of a run to the end.

    For a sweep that stopped after stage 1: its contact sheet shows what each seed gives, and the rest of the relay is
    computed for the good ones only.
    """
    carry_out(flags, flags.seeds, "promote takes the numbers of seeds.")


@takes_flags(AgainFlags, without=("seeds",))
def decode(flags: AgainFlags) -> None:
    """Make the video of a run again, from its latents: with another codec, or another rate."""
    carry_out(flags, flags.seed, "--seed takes the numbers of seeds here.")


def carry_out(flags: AgainFlags, seeds: list[str] | None, no_numbers: str) -> None:
    """no_numbers: what is said of `random`."""
    with Manners(nice=flags.nice, on_done=flags.on_done, json=flags.json) as manners:
        chosen = parse_seeds(seeds, None) if seeds else None
        if chosen == ():
            raise UsageError(no_numbers)
        check_display(flags.json, flags.quiet)
        output = output_of(flags.output)
        rate = None if flags.play_fps is None else parse_fps(flags.play_fps, "--play-fps")
        home = chosen_home(flags.home)
        from cache.runs import open_run
        from orchestrator.reuse import Again, prepare_again
        from orchestrator.run import generate

        changes = Again(chosen, flags.codec, rate)
        prepared = prepare_again(
            open_run(home, flags.run), changes, home=home, output=output, overwrite=flags.overwrite
        )
        show(
            open_display(json=flags.json, quiet=flags.quiet),
            resume_words(flags.home, flags.overwrite),
            lambda on_event, interrupts: generate(prepared, on_event=on_event, interrupts=interrupts),
            manners,
        )
