"""Faults on purpose: named points in the program where a test can kill, stop or fail it, or see that it got there.

    LTX_RELAY_FAILPOINTS="stage1.event.step:2=kill; record=/tmp/hits.jsonl"

A point is named `<scope>.<name>`: the scope is the stage of a worker, and `run` in the orchestrator. `:n` means its
n-th hit in that process, the first by default. What can be done there:

    kill, kill-parent, kill-both    SIGKILL to this process, to the one that started it, to both
    orphan                          SIGKILL to the process that started it, and nothing goes on from here
    interrupt-parent                SIGINT to the process that started it
    stop                            SIGSTOP to this process
    exit, abort                     the process ends with status 1, or crashes
    enospc                          OSError, as on a full disk
    hang                            nothing goes on from here

`record` appends every hit to a file, as JSON: [process, scope, name, n, *details]. Without the variable, which is how
the program is used, a point is one comparison.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping

VARIABLE = "LTX_RELAY_FAILPOINTS"
ACTIONS = ("kill", "kill-parent", "kill-both", "orphan", "interrupt-parent", "stop", "exit", "abort", "enospc", "hang")
_RULE = re.compile(r"([a-z0-9_.-]+)(?::([1-9][0-9]*))?=(\S+)")


class Failpoints:
    """What is to happen where, and how often each point was reached. One per process."""

    def __init__(self, text: str) -> None:
        self.scope = "run"
        self.record: str | None = None
        self.rules: dict[tuple[str, int], str] = {}
        self.hits: Counter[str] = Counter()
        for rule in filter(None, map(str.strip, text.split(";"))):
            match = _RULE.fullmatch(rule)
            if match is None or not (match[1] == "record" or match[3] in ACTIONS):
                sys.exit(f"{VARIABLE}: {rule!r} is no rule.")  # a test that injects nothing must not pass
            if match[1] == "record":
                self.record = match[3]
            else:
                self.rules[match[1], int(match[2] or 1)] = match[3]

    def reach(self, name: str, details: tuple[object, ...]) -> None:
        full = f"{self.scope}.{name}"
        self.hits[full] += 1
        if self.record is not None:
            line = json.dumps([os.getpid(), self.scope, name, self.hits[full], *details]).encode() + b"\n"
            descriptor = os.open(self.record, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            os.write(descriptor, line)
            os.close(descriptor)
        action = self.rules.get((full, self.hits[full]))
        if action is not None:
            act(action, full)


def act(action: str, point: str) -> None:
    """Do it; returns only where the program can go on."""
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill-parent":
            os.kill(os.getppid(), signal.SIGKILL)
        case "kill-both":
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        case "interrupt-parent":
            os.kill(os.getppid(), signal.SIGINT)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "exit":
            os._exit(1)
        case "abort":
            os.abort()
        case "enospc":
            raise OSError(errno.ENOSPC, f"No space left on device (the failpoint {point})")
        case "hang" | "orphan":
            if action == "orphan":
                os.kill(os.getppid(), signal.SIGKILL)
            while True:
                time.sleep(3600)


def from_environment(environment: Mapping[str, str]) -> Failpoints | None:
    text = environment.get(VARIABLE, "")
    return Failpoints(text) if text.strip() else None


_active = from_environment(os.environ)


def enter(scope: str) -> None:
    """This process is that stage's worker from now on."""
    if _active is not None:
        _active.scope = scope


def failpoint(name: str, *details: object) -> None:
    """Here a fault may be injected."""
    if _active is not None:
        _active.reach(name, details)
