"""One denoising stage of a finished run again, with other numbers of blocks in memory: bits, time and memory.

    uv run python -m benchmarks.residency RUN_FOLDER STAGE RESIDENT... [--prefetch 1]

RUN_FOLDER is a run's folder in its home, STAGE stage1 or stage2. For each number of resident blocks a real worker makes
the stage's result anew, somewhere else; its tensors must have the hash of the run's own result. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import environment
from cache.home import open_home
from orchestrator.interrupts import Interrupts
from orchestrator.supervisor import run_worker
from workers.protocol import Job


def tensor_hash(path: str) -> str:
    """The hash of the tensors in an artifact's metadata."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return str(json.loads(file.read(size))["__metadata__"]["sha256"])


def again(job: Job, resident: int, prefetch: int) -> dict[str, Any]:
    """Runs the job with that residency in a home of its own; returns the figures."""
    with tempfile.TemporaryDirectory() as folder:
        home = open_home(Path(folder) / "home")
        items = tuple(replace(item, output=str(home.object_path(item.key))) for item in job.items)
        residency = {"resident_blocks": resident, "prefetch": prefetch}
        pace = {"pace": "whole"} if job.params.get("pace") == "ahead" else {}  # not with blocks that come and go
        params = {**job.params, **pace, "residency": residency}
        changed = replace(job, items=items, params=params, home=str(home.root))
        backend, variables = environment.of_workers()
        seconds: list[float] = []

        def watch(event: dict[str, Any]) -> None:
            if event["event"] == "step":
                seconds.append(event["seconds"])

        with Interrupts() as interrupts:
            end = run_worker(
                changed,
                job_path=Path(folder) / "job.json",
                log_path=Path(folder) / "worker.log",
                environment=variables,
                on_event=watch,
                interrupts=interrupts,
                backend=backend,
            )
        if end.code:
            raise SystemExit(f"{resident} resident: {end.message}\n" + "\n".join(end.last_log_lines))
        return {
            "hashes": [tensor_hash(item.output) for item in items],
            "seconds": end.seconds,
            "first": seconds[0],
            "step": statistics.median(seconds[1:] or seconds),
            "mlx_peak": end.mlx_peak,
            "process_peak": end.process_peak,
            "read": sum(end.bytes_read.values()),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("stage", choices=("stage1", "stage2"))
    parser.add_argument("resident", type=int, nargs="+")
    parser.add_argument("--prefetch", type=int, default=1)
    asked = parser.parse_args()
    job = Job.from_json((asked.run / "jobs" / f"{asked.stage}.json").read_text())
    own = [tensor_hash(item.output) for item in job.items]
    print("| resident blocks | bits | first step | other steps | in all | MLX peak | host peak | read |")
    print("|---|---|---|---|---|---|---|---|")
    for resident in asked.resident:
        found = again(job, resident, asked.prefetch)
        cells = [
            str(resident),
            "the same" if found["hashes"] == own else "OTHERS",
            f"{found['first']:.2f} s",
            f"{found['step']:.3f} s",
            f"{found['seconds']:.1f} s",
            f"{found['mlx_peak'] / 2**30:.2f} GiB",
            f"{found['process_peak'] / 2**30:.2f} GiB",
            f"{found['read'] / 1e9:.1f} GB",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
