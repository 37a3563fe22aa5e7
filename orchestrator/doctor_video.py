"""`doctor`'s self-test: the program makes a small video with the tiny model, through all workers, in its own home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.display.words import duration, memory_size, stage_label
from orchestrator.doctor import Finding
from orchestrator.environment import worker_environment

SECONDS = 300
PROMPT = "A red ball bouncing on green grass"
SMALL = ("--model", "tiny", "--height", "64", "--width", "64", "--frames", "9")
STEPS = ("--steps-stage1", "1", "--steps-stage2", "1")


def self_test() -> Iterator[Finding]:
    """Nothing of it stays: home, video and lock lie in a folder that is removed."""
    with tempfile.TemporaryDirectory(prefix="ltx-relay-doctor-") as folder:
        place = Path(folder)
        command = [sys.executable, "-P", "-m", "orchestrator", "generate", PROMPT, *SMALL, *STEPS, "--json"]
        try:
            ended = subprocess.run(
                [*command, "--home", str(place / "home"), "--output", str(place / "test.mp4")],
                env=variables(place),
                cwd=place,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            yield Finding(
                "self-test",
                "problem",
                f"a small video with the tiny model was not done after {duration(SECONDS)}",
                "If the machine is busy with other work, try again after it.",
            )
            return
        yield verdict(ended.returncode, ended.stdout, ended.stderr, (place / "test.mp4").is_file())


def variables(place: Path) -> Mapping[str, str]:
    """This environment, without what would make the test another one."""
    kept = {name: value for name, value in os.environ.items() if name not in ("LTX_RELAY_HOME", "LTX_RELAY_WEIGHTS")}
    paths = worker_environment(os.environ).variables.get("PYTHONPATH")
    return {
        **kept,
        **({"PYTHONPATH": paths} if paths else {}),
        "LTX_RELAY_MACHINE_LOCK": str(place / "machine.lock"),  # it is small enough to run beside a real one
    }


def verdict(code: int, out: str, err: str, there: bool) -> Finding:
    """From what the program printed and how it ended."""
    events = list(parsed(out))
    if code == 0 and there:
        done = [event for event in events if event.get("event") == "stage_done"]
        seconds = next((event.get("seconds", 0.0) for event in events if event.get("event") == "run_done"), 0.0)
        peak = max((max(e.get("mlx_peak") or 0, e.get("process_peak") or 0) for e in done), default=0)
        stages = ", ".join(stage_label(str(event.get("stage"))) for event in done)
        text = f"a video with the tiny model in {duration(seconds)} ({stages}), peak {memory_size(peak)}"
        return Finding("self-test", "ok", text)
    said = next((event for event in events if event.get("event") == "error"), {})
    lines = err.strip().splitlines() or ["it printed nothing"]
    message = str(said.get("message") or lines[-1]).rstrip(".")
    advice = str(said.get("advice") or "") or "What is said above this line may be the cause."
    return Finding("self-test", "problem", f"the tiny model made no video (exit code {code}): {message}", advice)


def parsed(out: str) -> Iterator[dict[str, Any]]:
    for line in out.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event
