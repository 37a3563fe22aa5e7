"""What a shell can complete: runs, and the words that a flag takes. Nothing is opened but the folder of runs.

Typer calls these in a process of its own at every press of the tab key, so they must be quick, and print nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import typer

MOST_RUNS = 100
Complete = Callable[[str], list[str]]


def one_of(*words: str) -> Complete:
    """For a flag that takes one of these."""

    def complete(incomplete: str) -> list[str]:
        return beginning(words, incomplete)

    return complete


def beginning(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def run_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """`last`, and the ids of runs, the newest first: those of --home where it was said, else of the usual home."""
    from cache.home import home_folder

    try:
        said = ctx.params.get("home")
        home = Path(said).expanduser() if said else home_folder(os.environ)
        with os.scandir(home / "runs") as entries:
            names = sorted((entry.name for entry in entries if entry.is_dir()), reverse=True)
    except Exception:  # a tab key has no use for an error
        names = []
    return beginning(["last", *names], incomplete)[:MOST_RUNS]
