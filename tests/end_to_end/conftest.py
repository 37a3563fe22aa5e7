"""The program as a user runs it: real processes, the tiny model, a home and a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROMPT = "A red ball bouncing on green grass"
SMALL = ("--model", "tiny", "--height", "64", "--width", "96", "--frames", "9", "--steps-stage1", "3")
"""A `max` run of a few seconds."""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]


class Program:
    """ltx-relay with its own home; runs in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.before: Callable[[], object] | None = None
        """Called in the new process before the program begins: to limit it."""
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LTX_RELAY_")},
            "LTX_RELAY_HOME": str(self.home),
            "LTX_RELAY_MACHINE_LOCK": str(folder / "machine.lock"),
            "LTX_RELAY_THREADS": "2",
            "NO_COLOR": "1",
        }

    def start(self, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator", *arguments],
            cwd=self.folder,
            env={**self.environment, **changes},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=self.before,
        )

    def __call__(self, *arguments: str, **changes: str) -> Result:
        process = self.start(*arguments, **changes)
        out, err = process.communicate(timeout=300)
        return Result(process.returncode, out, err)

    def generate(self, *arguments: str) -> Result:
        return self("generate", PROMPT, *SMALL, "--json", *arguments)

    def kill_worker(self, at: Callable[[dict[str, Any]], bool], *arguments: str) -> Result:
        """The same, but the worker is killed with -9 as soon as `at` says so of an event."""
        process = self.start("generate", PROMPT, *SMALL, "--json", *arguments)
        assert process.stdout is not None
        lines, pid, killed = [], None, False
        for line in process.stdout:
            lines.append(line)
            event = json.loads(line)
            if event["event"] == "stage_started":
                pid = event["pid"]
            if not killed and at(event):
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                killed = True
        _, err = process.communicate(timeout=60)
        assert killed, "the event to kill at never came"
        return Result(process.returncode, "".join(lines), err)

    def runs(self) -> list[Path]:
        return sorted((self.home / "runs").iterdir()) if (self.home / "runs").is_dir() else []


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """One home for the tests of a module that only look at a finished run."""
    return Program(tmp_path_factory.mktemp("program"))
