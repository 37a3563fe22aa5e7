"""A home of its own, and runs in it that only their records know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cache.home import open_home
from cache.runs import create_run
from weights.errors import UsageError


@pytest.fixture
def home_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    root = tmp_path / "home"
    monkeypatch.setenv("LTX_RELAY_HOME", str(root))
    return root


class Asked:
    """Stands for a `prepare`: keeps what it was asked (settings or a recipe), and ends the command there."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.arguments: Mapping[str, Any] = {}

    def __call__(self, asked: Any, **arguments: Any) -> None:
        self.calls.append(asked)
        self.arguments = arguments
        raise UsageError("asked")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home_root: Path) -> Callable[[str], Asked]:
    """`stand_in("orchestrator.prepare.prepare")`: in its place; commands run in `tmp_path`."""

    def take_place(of: str) -> Asked:
        asked = Asked()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(of, asked)
        return asked

    return take_place


@pytest.fixture
def make_run(home_root: Path) -> Callable[..., str]:
    """`make_run(status, prompt=..., stages={name: fields})` -> the run's id."""

    def make(status: str, prompt: str = "a fox", stages: Mapping[str, Mapping[str, Any]] | None = None) -> str:
        run = create_run(open_home(home_root), {"prompt": prompt}, "a fox")
        for name, changes in (stages or {}).items():
            run.update_stage(name, **changes)
        run.update_state(status=status, outputs=["/v/a.mp4"])
        return run.id

    return make
