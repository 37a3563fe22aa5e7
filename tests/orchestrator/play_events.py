"""Plays recorded events through a display, to look at it: a developer's tool, not a test.

    python tests/orchestrator/play_events.py tests/orchestrator/data/max-run.jsonl --speed 20 [--plain|--json|--quiet]

`events.jsonl` of a real run plays as well. `--until` stops after so many seconds of it, `--fail` with an error.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from orchestrator.display.live import LiveDisplay
from orchestrator.display.machine import JsonDisplay, QuietDisplay
from orchestrator.display.plain import PlainDisplay


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("events", type=Path)
    parser.add_argument("--speed", type=float, default=20.0)
    parser.add_argument("--until", type=float, default=float("inf"))
    parser.add_argument("--fail", action="store_true")
    for mode in ("plain", "json", "quiet"):
        parser.add_argument(f"--{mode}", action="store_true")
    said = parser.parse_args()
    events = [json.loads(line) for line in said.events.read_text().splitlines()]
    first, began = events[0]["time"], time.monotonic()

    def clock() -> float:
        return first + (time.monotonic() - began) * said.speed

    if said.plain:
        display = PlainDisplay(sys.stderr, sys.stdout)
    elif said.json:
        display = JsonDisplay(sys.stdout)
    elif said.quiet:
        display = QuietDisplay(sys.stdout)
    else:
        display = LiveDisplay(sys.stderr, sys.stdout, clock=clock)
    for event in events:
        if event["time"] - first > said.until:
            break
        time.sleep(max(0.0, (event["time"] - clock()) / said.speed))
        display.event(event)
    if said.fail:
        error = {"exit_code": 7, "message": "The stage2 worker died.", "advice": "", "resume": "ltx-relay resume last"}
        display.event({"event": "error", "time": clock(), "run": "x", **error})
    display.close()


if __name__ == "__main__":
    main()
