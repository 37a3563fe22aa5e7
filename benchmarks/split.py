"""Where a worker's seconds go, from the start of its process to its end, and which of them only a new process takes.

    uv run python -m benchmarks.split RUN_FOLDER STAGE... [--times 2] [--warm] [--out FILE.json]

Runs the job of a finished run's stage again, somewhere else, in a new process as the supervisor starts it, and then
once more in that same process. What is larger the first time (libraries loaded, kernels compiled or chosen, memory
touched for the first time) is the price of a process of its own. `--warm` measures besides a worker whose device is
woken by a thread while modules are imported and weights read, as workers do it; the first column wakes it by itself, to
tell what that takes. Prints Markdown; of several turns each part's least seconds count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import environment, tables
from cache.home import open_home
from workers.protocol import Job

Parts = Mapping[str, float]
LEAVING = "leaving"


def elsewhere(job: Job, folder: Path, made: dict[str, str]) -> Job:
    """The job with its results in a home in that folder. made: results before -> where they are made again."""
    home = open_home(folder / "home")
    items = []
    for item in job.items:
        output = str(home.object_path(item.key, Path(item.output).suffix))
        inputs = {role: made.get(path, path) for role, path in item.inputs.items()}
        made[item.output] = output
        items.append(replace(item, output=output, inputs=inputs))
    return replace(job, items=tuple(items), home=str(home.root))


def measure(job: Job, variables: Mapping[str, str], warm: bool) -> tuple[Parts, Parts]:
    """Seconds by part: in a new process, and again in the same one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = []
        for turn in ("first", "again"):
            path = folder / f"{turn}.json"
            path.write_text(elsewhere(job, folder / turn, {}).to_json(), encoding="utf-8")
            paths.append(str(path))
        out = folder / "out.json"
        began = time.monotonic()
        words = [sys.executable, "-P", "-m", "benchmarks.split_worker", paths[0], str(began), str(out), paths[1]]
        subprocess.run([*words, *["--warm"] * warm], env=dict(variables), stdin=subprocess.DEVNULL, check=True)
        ended = time.monotonic()
        found = json.loads(out.read_text(encoding="utf-8"))
    first, again = found["parts"]
    return {**first, LEAVING: ended - found["ended"]}, again


def least(turns: Sequence[Parts]) -> dict[str, float]:
    names = dict.fromkeys(name for turn in turns for name in turn)
    return {name: min(turn[name] for turn in turns if name in turn) for name in names}


def table(columns: Mapping[str, Parts]) -> str:
    """A line for each part, in the order in which they come, and their sums."""
    names = dict.fromkeys(name for parts in columns.values() for name in parts)
    lines = [[name, *(f"{parts[name]:.3f} s" if name in parts else "" for parts in columns.values())] for name in names]
    sums = ["all", *(f"{sum(parts.values()):.2f} s" for parts in columns.values())]
    return tables.table(["", *columns], [*lines, sums])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("stages", nargs="+")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--warm", action="store_true")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    (_, variables), results = environment.of_workers(), {}
    for stage in asked.stages:
        job = Job.from_json((asked.run / "jobs" / f"{stage}.json").read_text(encoding="utf-8"))
        plain = [measure(job, variables, False) for _ in range(asked.times)]
        columns = {"a new process": least([first for first, _ in plain]), "again in it": least([x for _, x in plain])}
        try:
            warm = [measure(job, variables, True)[0] for _ in range(asked.times if asked.warm else 0)]
        except subprocess.CalledProcessError as error:
            warm = []
            print(f"({stage}, woken by a thread, ended with {error.returncode})\n")
        if warm:
            columns["a new process, woken by a thread"] = least(warm)
        results[stage] = columns
        print(f"{stage}\n\n{table(columns)}\n", flush=True)
        if asked.out:
            asked.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
