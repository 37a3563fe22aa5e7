"""What the relay's processes cost: the stages of a finished run again, in turn, in one process.

    uv run python -m benchmarks.monolith RUN_FOLDER [--out FILE.json]

RUN_FOLDER is a run's folder in its home. Its job files are run as they are, somewhere else, with the same code as the
workers run, one after the other in this process, in a worker's environment and with all memory given back between
them. The run itself took its seconds from the start of each worker to its end; the difference is what starting
processes, opening weights anew and reporting to a supervisor cost. Only stages that the run computed are compared, and
their tensors must have its hashes. Where a worker's seconds go is for `benchmarks.split` to say.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import mlx.core as mx

from benchmarks import environment
from benchmarks.full_size import tensor_hash
from benchmarks.split import elsewhere
from workers.channel import EventChannel
from workers.context import Context
from workers.limits import apply_limits
from workers.protocol import Job


def again(job: Job) -> float:
    """Seconds of the stage in this process."""
    began = time.monotonic()
    apply_limits(job.limits)
    importlib.import_module(f"workers.stages.{job.stage}").run(job, Context(job, EventChannel(None)))
    mx.clear_cache()
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    state = json.loads((asked.run / "state.json").read_text())
    stages = {name: stage for name, stage in state["stages"].items() if stage["status"] == "computed"}
    rows: list[dict[str, Any]] = []
    made: dict[str, str] = {}
    print("| stage | worker | in one process | more | bits |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, stage in stages.items():
            path = asked.run / "jobs" / f"{name}.json"
            if name == "preview" or not path.exists():
                continue
            job = Job.from_json(path.read_text())
            changed = elsewhere(job, Path(folder), made)
            seconds = again(changed)
            pairs = [(a.output, b.output) for a, b in zip(job.items, changed.items, strict=True)]
            same = all(tensor_hash(a) == tensor_hash(b) for a, b in pairs)
            rows.append({"stage": name, "worker": stage["seconds"], "alone": seconds, "same": same})
            more = stage["seconds"] - seconds
            bits = "the same" if same else "OTHERS"
            print(f"| {name} | {stage['seconds']:.2f} s | {seconds:.2f} s | {more:+.2f} s | {bits} |", flush=True)
    relay, alone = (sum(row[which] for row in rows) for which in ("worker", "alone"))
    print(f"| all | {relay:.2f} s | {alone:.2f} s | {relay - alone:+.2f} s | |\n")
    print(f"{(relay - alone) / max(1, len(rows)):+.2f} s a worker; {relay / alone:.3f} times one process's time.")
    events = [json.loads(line) for line in (asked.run / "events.jsonl").read_text().splitlines()]
    whole = next(event["seconds"] for event in reversed(events) if event["event"] == "run_done")
    print(f"The whole command took {whole:.2f} s, {whole - relay:.2f} s of it outside its workers.")
    if asked.out:
        asked.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    environment.enter("benchmarks.monolith")
    main()
