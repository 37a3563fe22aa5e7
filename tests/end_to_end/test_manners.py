"""Beside a real run: the machine kept awake, workers that let others go first, and somebody told at the end."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.conftest import PROMPT, SMALL, Program

INHIBIT = """#!/bin/sh
echo $$ > {folder}/awake
for last; do :; done
exec "$last"
"""
TELL = 'echo "$LTX_RELAY_STATUS $LTX_RELAY_EXIT_CODE $LTX_RELAY_RUN" > told; exit 9'


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="systemd-inhibit is Linux's")
def test_a_run_with_all_manners(program: Program) -> None:
    tools = program.folder / "tools"
    tools.mkdir()
    (tools / "systemd-inhibit").write_text(INHIBIT.format(folder=program.folder))
    (tools / "systemd-inhibit").chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    flags = ("--json", "--nice", "3", "--stop-after", "text", "--on-done", TELL)
    process = program.start("generate", PROMPT, *SMALL, *flags, PATH=path)
    assert process.stdout is not None
    events, worker, nice, watched = [], 0, None, None
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1]["event"] == "stage_started":
            worker = events[-1]["pid"]
        if events[-1]["event"] == "loading" and watched is None:
            nice = os.getpriority(os.PRIO_PROCESS, worker)
            watched = psutil.Process(int((program.folder / "awake").read_text()))
            assert watched.is_running()
    assert process.wait() == 0, "a failing --on-done changes no exit code"
    assert nice == min(19, os.nice(0) + 3)
    assert watched is not None
    assert not watched.is_running() or watched.status() == psutil.STATUS_ZOMBIE
    assert (program.folder / "told").read_text().split() == ["done", "0", events[0]["run"]]
    assert "exit status 9" in events[-1]["message"]
    recipe = (program.runs()[0] / "recipe.json").read_text()
    assert "nice" not in recipe
    assert "on_done" not in recipe
