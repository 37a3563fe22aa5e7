"""The console script `ltx-relay`: its commands, and the one place where every exception becomes an exit code.

Importing this module imports Typer and the declarations of the flags, nothing that computes; `--help` is quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from orchestrator.commands import cache, weights
from orchestrator.commands.doctor import doctor
from orchestrator.commands.download import download_command
from orchestrator.commands.ends import report
from orchestrator.commands.generate import generate, resume
from orchestrator.commands.open import open_command
from orchestrator.commands.pages import GroupPage, Page, ProgramPage
from orchestrator.commands.plan import plan
from orchestrator.commands.report import report_command
from orchestrator.commands.reuse import decode, promote
from orchestrator.commands.runs import delete_command, list_command, runs, show_command
from orchestrator.commands.upscale import upscale_spatial, upscale_temporal
from orchestrator.commands.weights_list import list_weights
from orchestrator.display.streams import Stream, open_standard_streams
from weights.errors import UsageError

PROGRAM = "ltx-relay"
INTERRUPTED, READER_LEFT = 130, 1
"""What Typer makes of a Ctrl-C that nobody caught, and of a pipe whose reader left while it printed help."""
EPILOG = """ltx-relay COMMAND --help tells more, for example ltx-relay generate --help.
A prompt in quotes in the place of a command is generated."""
EXAMPLES = """Examples:
  ltx-relay generate "A red ball bouncing on green grass" --model tiny -o ball.mp4
  ltx-relay generate "A fox in the snow" --size 1920x1080 --seeds 4 --memory 24GB
  ltx-relay generate "A fox in the snow" --preset draft --frames 49"""


def print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version(PROGRAM)
        except PackageNotFoundError:  # run from a checkout that is not installed
            number = "(not installed)"
        Stream(sys.stdout).write(f"{PROGRAM} {number}\n")
        raise typer.Exit


def relay(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.", show_default=False),
    ] = False,
) -> None:
    """Make the best video that LTX-2 can make on a machine whose memory cannot hold LTX-2.

    One worker process after the other, each with only its own weights; what was computed once is used again.
    """
    if context.invoked_subcommand is None:
        Stream(sys.stdout).write(context.get_help() + "\n")


def build() -> typer.Typer:
    """The program's commands. Errors are left to `main`: Typer prints none and shows no traceback of its own."""
    app = typer.Typer(cls=ProgramPage, pretty_exceptions_enable=False, rich_markup_mode=None, epilog=EPILOG)
    app.callback(invoke_without_command=True)(relay)
    app.command(cls=Page, epilog=EXAMPLES)(generate)
    app.command(cls=Page)(resume)
    app.command(cls=Page)(plan)
    app.command(cls=Page)(promote)
    app.command(cls=Page)(decode)
    app.command("upscale-temporal", cls=Page)(upscale_temporal)
    app.command("upscale-spatial", cls=Page)(upscale_spatial)
    records = typer.Typer(cls=GroupPage, rich_markup_mode=None)
    records.callback(invoke_without_command=True)(runs)
    records.command("list", cls=Page)(list_command)
    records.command("show", cls=Page)(show_command)
    records.command("report", cls=Page)(report_command)
    records.command("open", cls=Page)(open_command)
    records.command("delete", cls=Page)(delete_command)
    app.add_typer(records, name="runs")
    kept = typer.Typer(cls=GroupPage, rich_markup_mode=None)
    kept.callback(invoke_without_command=True)(cache.cache)
    kept.command("list", cls=Page)(cache.list_command)
    kept.command("verify", cls=Page)(cache.verify_command)
    kept.command("prune", cls=Page)(cache.prune_command)
    app.add_typer(kept, name="cache")
    files = typer.Typer(cls=GroupPage, rich_markup_mode=None)
    files.callback(invoke_without_command=True)(weights.weights)
    files.command("list", cls=Page)(list_weights)
    files.command("download", cls=Page)(download_command)
    files.command("quantize", cls=Page)(weights.quantize_command)
    files.command("verify", cls=Page)(weights.verify_command)
    app.add_typer(files, name="weights")
    app.command(cls=Page)(doctor)
    return app


def check_folder() -> None:
    """UsageError when the current folder was removed: every relative name means nothing then."""
    try:
        os.getcwd()
    except OSError as error:
        raise UsageError("The current folder is not there any more.", advice="Change to another folder.") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program and returns its exit code: 0, or what `orchestrator.commands.ends` makes of the error."""
    open_standard_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    flags = words[: words.index("--")] if "--" in words else words
    try:
        check_folder()
        code = build()(args=words, prog_name=PROGRAM, standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except SystemExit as error:
        return 0 if error.code in (None, READER_LEFT) else error.code if isinstance(error.code, int) else 2
    except BaseException as error:
        return report(error, json="--json" in flags, debug="--debug" in flags)


if __name__ == "__main__":
    sys.exit(main())
