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
from weights.errors import UsageError

Path_ = str | os.PathLike[str]
OnEvent = Callable[[dict[str, Any]], None]
EVERYWHERE = WeightsChoice()
"""None is named: they are found in the usual places."""


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

    output: by default in the current folder, named after prompt and seed, with a number where another video has that
    name. home: as `--home`. retry: whether a worker that ran out of memory is started again, more frugally. on_event:
    called in this thread.

    In the main thread Ctrl-C and SIGTERM let the step finish and be saved, and raise Interrupted here. With
    `interrupts` no handler is touched: from any thread `interrupts.receive(signal.SIGTERM)` does the same.

    Raises UsageError (2), WeightsError (3), DoesNotFit (4), OutOfMemory (5), GpuFailure (6), WorkerFailed (7),
    Interrupted (130, 143).
    """
    prepared = _prepared(asked, output, home, overwrite, stop_after)
    with _or_own(interrupts) as heard:
        return carry_out(prepared, on_event=on_event, interrupts=heard, retry=retry)


def upscale(
    video: Path_,
    *,
    kind: str = "temporal",
    weights: WeightsChoice = EVERYWHERE,
    codec: str = "h264",
    sound: bool = True,
    memory: int | None = None,
    tiles: tuple[int, ...] | None = None,
    chunk: int | None = None,
    dtype: str = "auto",
    output: Path_ | None = None,
    home: Path_ | None = None,
    overwrite: bool = False,
    retry: bool = True,
    on_event: OnEvent = lambda event: None,
    interrupts: Interrupts | None = None,
) -> RunResult:
    """Makes a finished video smoother ("temporal": n frames become 2n-1) or larger ("spatial": twice width and height).

    As the commands `upscale-temporal` and `upscale-spatial`. weights: of those that it names, what this needs: a folder
    or a checkpoint for the VAE, and the upscaler. sound: whether sound and subtitles are copied. memory, tiles: as in
    `Settings`. chunk: frames that are computed together, 8k+1. output: by default `<video>-temporal.mp4` or -spatial in
    the current folder. The rest, and what is raised, as `generate`.
    """
    from orchestrator.upscaling.prepare import prepare as prepare_upscaling
    from orchestrator.upscaling.recipe import SPATIAL, TEMPORAL, UpscaleRecipe
    from orchestrator.upscaling.run import upscale as carry_out_upscaling

    kinds = {"temporal": TEMPORAL, "spatial": SPATIAL}
    if not isinstance(kind, str) or kind not in kinds:
        raise UsageError(f"There is no upscaling of the kind {kind!r:.60}; it is temporal or spatial.")
    if not isinstance(video, str | os.PathLike) or not os.fspath(video):
        raise UsageError(f"{video!r:.60} names no video.")
    recipe = UpscaleRecipe(
        kind=kinds[kind],
        video=absolute(os.fsdecode(video)),
        sha256="",
        weights=_serving(_tidy_weights(weights), kind),
        dtype=dtype,
        codec=codec,
        sound=sound,
        memory=memory,
        tiles=tuple(tiles) if isinstance(tiles, list) else tiles,
        chunk=chunk,
    )
    for one in fields(recipe):
        if one.name != "from_run":
            check_type(f"upscale's {one.name}", getattr(recipe, one.name), str(one.type))
    place = None if output is None else Path(output).expanduser()
    prepared = prepare_upscaling(recipe, home=_home(home), output=place, overwrite=overwrite)
    with _or_own(interrupts) as heard:
        return carry_out_upscaling(prepared, on_event=on_event, interrupts=heard, retry=retry)


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
    for one in fields(asked):
        check_type(f"Settings.{one.name}", getattr(asked, one.name), str(one.type))
    loras = asked.loras and tuple((absolute(path), strength, stage) for path, strength, stage in asked.loras)
    noise = asked.noise and absolute(asked.noise)
    return replace(asked, weights=_tidy_weights(asked.weights), loras=loras, noise=noise)


def _tidy_weights(asked: WeightsChoice) -> WeightsChoice:
    """The same for weights; UsageError too."""
    check_type("weights", asked, "WeightsChoice")
    if not isinstance(asked, WeightsChoice):
        asked = WeightsChoice(**asked)  # a dictionary of the right names
    for one in fields(asked):
        check_type(f"WeightsChoice.{one.name}", getattr(asked, one.name), str(one.type))
    return WeightsChoice(
        **{
            name: value if (name, value) == ("model", "tiny") or name.startswith("model_") else absolute(value)
            for name, value in vars(asked).items()
            if value is not None
        }
    )


def _serving(choice: WeightsChoice, kind: str) -> WeightsChoice:
    """What upscaling needs of the weights that were named: where all of them are, a checkpoint, one upscaler."""
    return WeightsChoice(
        model=choice.model,
        weights=choice.weights or choice.weights_stage1 or choice.weights_stage2,
        spatial_upscaler=choice.spatial_upscaler if kind == "spatial" else None,
        temporal_upscaler=choice.temporal_upscaler if kind == "temporal" else None,
        model_version=choice.model_version,
    )


def _home(home: Path_ | None) -> Home:
    return open_home(home_folder(os.environ) if home is None else Path(home).expanduser().absolute())


def _or_own(interrupts: Interrupts | None) -> Any:
    return Interrupts() if interrupts is None else nullcontext(interrupts)
