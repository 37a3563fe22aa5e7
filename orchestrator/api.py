"""ltx-relay from Python: make a recipe or say what is wanted, see what it would take, run it, follow its events.

    from orchestrator import Settings, WeightsChoice, generate, plan

    asked = Settings(prompt="A red ball bouncing on green grass", weights=WeightsChoice(model="tiny"))
    print(plan(asked).to_dict()["fits"])
    made = generate(asked, output="ball.mp4", on_event=lambda event: print(event["event"]))
    print(made.outputs, made.run_id)

What the command line does, without a display: the same homes, keys, workers and events (those of `--json`). Errors are
`RelayError`s with `message`, `advice` and the `exit_code` that the program would end with.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from cache.home import Home, home_folder, open_home
from cache.runs import open_run
from orchestrator.interrupts import Interrupts
from orchestrator.plan_report import PlanReport, describe
from orchestrator.prepare import Prepared, prepare
from orchestrator.recipe import Recipe
from orchestrator.recipe_files import read_recipe
from orchestrator.run import RunResult
from orchestrator.run import generate as carry_out
from orchestrator.run import resume as go_on
from orchestrator.settings import Settings, with_recipe

Path_ = str | os.PathLike[str]
OnEvent = Callable[[dict[str, Any]], None]


def plan(
    asked: Settings | Recipe, *, output: Path_ | None = None, home: Path_ | None = None, overwrite: bool = False
) -> PlanReport:
    """What `generate` would do, from headers alone: stages, what is cached, bytes, predicted peaks, disk, time.

    It says whether the run fits, and raises nothing where it does not. UsageError, WeightsError as `generate`.
    """
    return describe(_prepared(asked, output, home, overwrite, None))


def generate(
    asked: Settings | Recipe,
    *,
    output: Path_ | None = None,
    home: Path_ | None = None,
    overwrite: bool = False,
    stop_after: str | None = None,
    retry: bool = True,
    on_event: OnEvent = lambda event: None,
    interrupts: Interrupts | None = None,
) -> RunResult:
    """Makes the videos, using whatever is there already; `RunResult.outputs` are their paths.

    output: by default in the current folder, named after prompt and seed. home: as `--home`. retry: whether a worker
    that ran out of memory is started again, more frugally. on_event: called in this thread.

    In the main thread Ctrl-C and SIGTERM let the step finish and be saved, and raise Interrupted here. With
    `interrupts` no handler is touched: from any thread `interrupts.receive(signal.SIGTERM)` does the same.

    Raises UsageError (2), WeightsError (3), DoesNotFit (4), OutOfMemory (5), GpuFailure (6), WorkerFailed (7),
    Interrupted (130, 143).
    """
    prepared = _prepared(asked, output, home, overwrite, stop_after)
    with _or_own(interrupts) as heard:
        return carry_out(prepared, on_event=on_event, interrupts=heard, retry=retry)


def resume(
    run: str = "last",
    *,
    home: Path_ | None = None,
    overwrite: bool = False,
    retry: bool = True,
    on_event: OnEvent = lambda event: None,
    interrupts: Interrupts | None = None,
) -> RunResult:
    """Goes on with a run by its id, the beginning of it, or "last"; only what is missing is computed."""
    at = _home(home)
    with _or_own(interrupts) as heard:
        return go_on(open_run(at, run), home=at, on_event=on_event, interrupts=heard, overwrite=overwrite, retry=retry)


def load_recipe(path: Path_) -> Recipe:
    """The recipe in a run's recipe.json, in the record beside a video, or in the video. UsageError where it is none."""
    return read_recipe(os.fspath(path))


def _prepared(
    asked: Settings | Recipe, output: Path_ | None, home: Path_ | None, overwrite: bool, stop_after: str | None
) -> Prepared:
    settings = with_recipe(asked, Settings(prompt="")) if isinstance(asked, Recipe) else asked
    place = None if output is None else Path(output)
    return prepare(settings, home=_home(home), output=place, overwrite=overwrite, stop_after=stop_after)


def _home(home: Path_ | None) -> Home:
    return open_home(home_folder(os.environ) if home is None else Path(home).expanduser().absolute())


def _or_own(interrupts: Interrupts | None) -> Any:
    return Interrupts() if interrupts is None else nullcontext(interrupts)
