"""`generate` and `resume`: prepare, run, show."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.commands.asked import absolute, check_display, output_of, settings_of
from orchestrator.commands.complete import run_names
from orchestrator.commands.ends import Ended, relay_error
from orchestrator.commands.manners import Manners
from orchestrator.commands.options import (
    Debug,
    Flags,
    Home,
    Json,
    Nice,
    NoRetry,
    OnDone,
    Overwrite,
    Quiet,
    takes_flags,
)
from orchestrator.display import Display, open_display
from weights.errors import UsageError

OnEvent = Callable[[dict[str, Any]], None]


@takes_flags(Flags)
def generate(flags: Flags) -> None:
    """Make a video from a prompt.

    Each stage runs in a process of its own with only its own weights. What was computed before is used again: the same
    command continues an interrupted run.
    """
    with Manners(nice=flags.nice, on_done=flags.on_done, json=flags.json) as manners:
        settings, output = settings_of(flags), output_of(flags.output)
        home = chosen_home(flags.home)
        from orchestrator.prepare import prepare

        prepared = prepare(settings, home=home, output=output, overwrite=flags.overwrite, stop_after=flags.stop_after)
        from orchestrator.run import generate as start

        def begin(on_event: OnEvent, interrupts: Any) -> None:
            start(prepared, on_event=on_event, interrupts=interrupts, retry=not flags.no_retry)

        display = open_display(json=flags.json, quiet=flags.quiet)
        show(display, resume_words(flags.home, flags.overwrite), begin, manners)


def resume(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            show_default="the last that is not done",
            help="A run, or the beginning of its id.",
            autocompletion=run_names,
        ),
    ] = None,
    overwrite: Overwrite = False,
    no_retry: NoRetry = False,
    home: Home = None,
    nice: Nice = None,
    on_done: OnDone = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Go on with a run that failed or was interrupted, from its last finished step."""
    check_display(json, quiet)
    with Manners(nice=nice, on_done=on_done, json=json) as manners:
        at = chosen_home(home)
        chosen = run_to_resume(at, run)
        from orchestrator.run import resume as start

        def go_on(on_event: OnEvent, interrupts: Any) -> None:
            start(chosen, home=at, on_event=on_event, interrupts=interrupts, overwrite=overwrite, retry=not no_retry)

        show(open_display(json=json, quiet=quiet), resume_words(home, overwrite), go_on, manners)


def run_to_resume(home: Any, reference: str | None) -> Any:
    """UsageError when there is nothing to resume, or when the run is still under way."""
    from cache.runs import list_runs, open_run

    if reference is None:
        open_ends = [run.id for run in list_runs(home) if run.status in ("failed", "interrupted")]
        if not open_ends:
            raise UsageError("There is no run to resume: none failed or was interrupted.")
        reference = open_ends[0]
    run = open_run(home, reference)
    if run.status() == "running":
        raise UsageError(f"The run {run.id} is still under way, in another process.")
    return run


def show(
    display: Display, again: list[str], start: Callable[[OnEvent, Any], Any], manners: Manners | None = None
) -> None:
    """Carries a run out under a display. Raises Ended, with the command that resumes it, for whatever stops it.

    manners: those of the command around it, which say at its end how it ended; without them the machine stays awake.
    """
    from orchestrator.interrupts import Interrupts

    try:
        with Interrupts() as interrupts, Manners() if manners is None else nullcontext(manners) as minded:
            start(minded.attend(display), interrupts)
    except BaseException as error:
        display.close()
        raise Ended(error, resume_line(display, again, error), announced=display.view.error is not None) from error
    display.close()


def resume_words(home: str | None, overwrite: bool) -> list[str]:
    """What `resume` has to be told to find and finish the same run."""
    return (["--overwrite"] if overwrite else []) + (["--home", absolute(home)] if home is not None else [])


def resume_line(display: Display, again: list[str], error: BaseException) -> str | None:
    """From the run's own `error` event, else for the run as far as it is known; none for 2 and 3."""
    if display.view.error is not None:
        stated = display.view.error.get("resume")
        return str(stated) if stated else None
    if display.view.run is None or relay_error(error).exit_code < 4:
        return None
    return shlex.join(["ltx-relay", "resume", display.view.run, *again])


def chosen_home(name: str | None) -> Any:
    """The home that --home or the environment names, made where it is missing."""
    from cache.home import home_folder, open_home

    if name is None:
        return open_home(home_folder(os.environ))
    if not name:
        raise UsageError("--home names no folder.")
    return open_home(Path(absolute(name)))
