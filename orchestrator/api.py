"""ltx-relay from Python: make a recipe or say what is wanted, see what it would take, run it, follow its events.

    from orchestrator import Settings, WeightsChoice, generate, plan

    asked = Settings(prompt="A red ball bouncing on green grass", weights=WeightsChoice(model="tiny"))
    print(plan(asked).to_dict()["fits"])
    made = generate(asked, output="ball.mp4", on_event=lambda event: print(event["event"]))
    print(made.outputs, made.run_id)

What the command line does, without a display: the same homes, keys, workers and events (those of `--json`). Errors are
`RelayError`s with `message`, `advice` and the `exit_code` that the program would end with; they name settings as the
command line does (`--steps-stage1` is `steps_stage1`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from cache.home import Home, home_folder, open_home
from orchestrator.commands.asked import absolute
from orchestrator.commands.generate import run_to_resume
from orchestrator.interrupts import Interrupts
from orchestrator.plan_report import PlanReport, describe
from orchestrator.prepare import Prepared, prepare
from orchestrator.recipe import Recipe, WeightsChoice, check_type
from orchestrator.recipe_files import read_recipe
from orchestrator.relay_run import RunResult
from orchestrator.run import generate as carry_out
from orchestrator.run import resume as go_on
from orchestrator.settings import Settings, with_recipe
from orchestrator.sizes import parse_fps

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

    output: by default in the current folder, named after prompt and seed, with a number where another video has the name.
    home: as `--home`. retry: whether a worker that ran out of memory is started again, more frugally. on_event: called
    in this thread.

    In the main thread Ctrl-C and SIGTERM let the step finish and be saved, and raise Interrupted here. With
    `interrupts` no handler is touched: from any thread `interrupts.receive(signal.SIGTERM)` does the same.

    Raises UsageError (2), WeightsError (3), DoesNotFit (4), OutOfMemory (5), GpuFailure (6), WorkerFailed (7),
    Interrupted (130, 143).
    """
    prepared = _prepared(asked, output, home, overwrite, stop_after)
    with _or_own(interrupts) as heard:
        return carry_out(prepared, on_event=on_event, interrupts=heard, retry=retry)


def resume(
    run: str | None = None,
    *,
    home: Path_ | None = None,
    overwrite: bool = False,
    retry: bool = True,
    on_event: OnEvent = lambda event: None,
    interrupts: Interrupts | None = None,
) -> RunResult:
    """Goes on with a run, by its id or the beginning of it; None: the last that failed or was interrupted.

    Only what is missing is computed. UsageError where there is no such run, or where it is under way.
    """
    at = _home(home)
    chosen = run_to_resume(at, run)
    with _or_own(interrupts) as heard:
        return go_on(chosen, home=at, on_event=on_event, interrupts=heard, overwrite=overwrite, retry=retry)


def load_recipe(path: Path_) -> Recipe:
    """The recipe in a run's recipe.json, in the record beside a video, or in the video. UsageError where it is none."""
    return read_recipe(os.fspath(path))


def _prepared(
    asked: Settings | Recipe, output: Path_ | None, home: Path_ | None, overwrite: bool, stop_after: str | None
) -> Prepared:
    settings = with_recipe(asked, Settings(prompt="")) if isinstance(asked, Recipe) else _tidy(asked)
    place = None if output is None else Path(output).expanduser()
    return prepare(settings, home=_home(home), output=place, overwrite=overwrite, stop_after=stop_after)


def _tidy(asked: Settings) -> Settings:
    """With what a Python caller may write and the command line never hands on: lists, rates as numbers, relative paths.

    UsageError for a value of another kind than its field's, so that it is found before anything starts.
    """
    changes: dict[str, Any] = {}
    for name, value in vars(asked).items():
        if isinstance(value, list):
            changes[name] = tuple(value)
        elif name in ("fps", "play_fps") and isinstance(value, int | float | str):
            changes[name] = parse_fps(str(value), "--" + name.replace("_", "-"))
    asked = replace(asked, **changes)
    for kind in (asked, asked.weights):
        for one in fields(kind):
            check_type(f"{type(kind).__name__}.{one.name}", getattr(kind, one.name), str(one.type))
    weights = {
        name: value if (name, value) == ("model", "tiny") or name.startswith("model_") else absolute(value)
        for name, value in vars(asked.weights).items()
        if value is not None
    }
    loras = asked.loras and tuple((absolute(path), strength, stage) for path, strength, stage in asked.loras)
    noise = asked.noise and absolute(asked.noise)
    return replace(asked, weights=WeightsChoice(**weights), loras=loras, noise=noise)


def _home(home: Path_ | None) -> Home:
    return open_home(home_folder(os.environ) if home is None else Path(home).expanduser().absolute())


def _or_own(interrupts: Interrupts | None) -> Any:
    return Interrupts() if interrupts is None else nullcontext(interrupts)
