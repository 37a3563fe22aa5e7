"""The `max` flow at full size through the real workers, under several memory budgets: predicted and measured.

    uv run python -m benchmarks.random_weights FOLDER                  (or real weights in FOLDER and FOLDER-lora)
    uv run python -m benchmarks.full_size run CASE --model FOLDER --out RESULTS
    uv run python -m benchmarks.full_size kill CASE --model FOLDER --out RESULTS
    uv run python -m benchmarks.full_size table --out RESULTS

Each case has a home of its own, into which what an earlier case made and this one would make with the same key is
copied as far as `SHARES` says: the text everywhere, and stage 1 for a case that has only another stage 2. `kill` ends
the worker of stage 2 with -9 after its second step, resumes, and compares the bits. `table` prints Markdown: per worker
the predicted and the measured peak, seconds, seconds between the steps, which is what saving the state costs; and
whether the cases agree bit by bit where they must.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import tables

PROMPT = "A red fox trots through fresh snow, low sun, its breath visible"
STEPS = ("--steps-stage1", "15", "--steps-stage2", "3")
SIZES = {
    "full": ("--height", "480", "--width", "704", "--frames", "97", *STEPS),
    "small": ("--height", "64", "--width", "96", "--frames", "9", *STEPS),
}
CASES: dict[str, tuple[str, ...]] = {
    "resident": ("--memory", "64GB"),
    "22GB": ("--memory", "22GB"),
    "12GB": ("--memory", "12GB"),
    "8GB": ("--memory", "8GB"),
    "8GB 4 bits": ("--memory", "8GB", "--quantize", "4"),
    "22GB LoRA": ("--memory", "22GB", "--stop-after", "stage2"),
    "12GB LoRA": ("--memory", "12GB", "--stop-after", "stage2"),
    "16GB 4K": (
        *("--memory", "16GB", "--size", "3840x2160", "--frames", "97"),
        *("--steps-stage1", "1", "--steps-stage2", "1"),
    ),
}
SHARES: dict[str, tuple[str, ...]] = {"22GB LoRA": ("text", "stage1"), "12GB LoRA": ("text", "stage1")}
"""Stages that a case takes from an earlier one, if not only the text."""
STAGES = ("text", "stage1", "stage2", "temporal", "decode")


def command(asked: argparse.Namespace, case: str, *more: str) -> list[str]:
    model = asked.model.with_name(asked.model.name + "-lora") if "LoRA" in case else asked.model
    size = () if "--size" in CASES[case] else SIZES[asked.size]
    words = ["generate", PROMPT, *size, *CASES[case], "--model", str(model)]
    words += ["--output", str(asked.out / f"{named(case)}.mp4"), "--home", str(home_of(asked, case)), "--json"]
    return [sys.executable, "-m", "orchestrator", *words, *more]


def named(case: str) -> str:
    return case.replace(" ", "-")


def home_of(asked: argparse.Namespace, case: str) -> Path:
    return Path(asked.homes) / named(case)


def follow(words: list[str], kill_at: tuple[str, int] | None = None) -> tuple[int, list[dict[str, Any]]]:
    """Runs the program and returns its exit code and events; prints what a person wants to see meanwhile."""
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    events, pid = [], 0
    for line in process.stdout:
        event = json.loads(line)
        events.append(event)
        if event["event"] == "stage_started":
            pid = event["pid"]
        if event["event"] in ("stage_started", "stage_done", "video_done", "error", "warning", "retry"):
            print({key: value for key, value in event.items() if key not in ("run", "weights", "time")}, flush=True)
        if kill_at and (event.get("stage"), event.get("index")) == kill_at and event["event"] == "step":
            os.kill(pid, signal.SIGKILL)
            kill_at = None
    return process.wait(), events


def share(asked: argparse.Namespace, case: str) -> None:
    """What other cases made and this one may use: their keys do not depend on the budget."""
    home = home_of(asked, case)
    if home.exists():
        return
    for other in CASES:
        for stage in SHARES.get(case, ("text",)):
            for path in map(Path, artifacts(asked, other).get(stage, []) if other != case else []):
                copy = home / "objects" / path.parent.name / path.name
                if path.exists() and not copy.exists():
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, copy)


def artifacts(asked: argparse.Namespace, case: str) -> dict[str, list[str]]:
    result = asked.out / f"{named(case)}.json"
    return dict(json.loads(result.read_text())["artifacts"]) if result.exists() else {}


def run(asked: argparse.Namespace) -> None:
    share(asked, asked.case)
    began = time.monotonic()
    code, events = follow(command(asked, asked.case))
    seconds = time.monotonic() - began
    report, shown = ask(asked, "report"), ask(asked, "show")
    stages = shown["stages"]
    result = {
        "case": asked.case,
        "code": code,
        "seconds": seconds,
        "done": [event for event in events if event["event"] in ("stage_done", "video_done", "error", "retry")],
        "steps": [event for event in events if event["event"] == "step" and event["stage"] in ("stage1", "stage2")],
        "report": report,
        "artifacts": {stage["name"]: stage["artifacts"] for stage in stages},
        "sha256": {stage["name"]: [tensor_hash(path) for path in stage["artifacts"]] for stage in stages},
    }
    (asked.out / f"{named(asked.case)}.json").write_text(json.dumps(result))
    print(f"{asked.case}: exit {code} after {seconds:.1f} s")
    sys.exit(code)


def ask(asked: argparse.Namespace, what: str) -> dict[str, Any]:
    """`ltx-relay runs show|report last --json` of the case's home."""
    words = ["runs", what, "last", "--json", "--home", str(home_of(asked, asked.case))]
    done = subprocess.run([sys.executable, "-m", "orchestrator", *words], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def tensor_hash(path: str) -> str:
    """The hash in an artifact's metadata; of a video, nothing."""
    if not path.endswith(".safetensors"):
        return ""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return str(json.loads(file.read(size))["__metadata__"]["sha256"])


def kill(asked: argparse.Namespace) -> None:
    """Stage 2 is made again from the case's text and stage 1, killed after its second step, and resumed."""
    first = json.loads((asked.out / f"{named(asked.case)}.json").read_text())
    home = home_of(asked, asked.case)
    for path in first["artifacts"]["stage2"]:
        Path(path).unlink()
    for path in home.glob("objects/*/*.video.json"):
        path.unlink()
    words = command(asked, asked.case, "--stop-after", "stage2")
    code, _ = follow(words, kill_at=("stage2", 2))
    print("killed: exit", code)
    again, events = follow(words)
    steps = [event["index"] for event in events if event["event"] == "step" and event["stage"] == "stage2"]
    same = [tensor_hash(path) for path in first["artifacts"]["stage2"]] == first["sha256"]["stage2"]
    result = {"case": asked.case, "killed": code, "resumed": again, "steps": steps, "same_bits": same}
    (asked.out / "kill.json").write_text(json.dumps(result))
    print(result)


def table(asked: argparse.Namespace) -> None:
    paths = [asked.out / f"{named(case)}.json" for case in CASES]
    results = [json.loads(path.read_text()) for path in paths if path.exists()]
    heads = ["budget", "worker", "how", "predicted", "measured", "ratio", "host's peak", "seconds", "a step", "between"]
    print(tables.table(heads, (cells for result in results for cells in rows(result))))
    exact = [result for result in results if result["case"] in ("resident", "22GB", "12GB", "8GB")]
    for stage in STAGES[1:4]:
        hashes = {tuple(result["sha256"].get(stage, [])) for result in exact}
        print(f"\n{stage}: {'the same bits' if len(hashes) == 1 else 'NOT the same bits'} in {len(exact)} cases")


def rows(result: dict[str, Any]) -> Iterator[list[str]]:
    """A line for each worker that ran."""
    for stage in result["report"]["stages"]:
        if stage["predicted"] is None or stage["measured"] is None:
            continue
        how = stage["holding"] if stage["blocks"] else f"{stage['tile_count']} tiles" if stage["tile_count"] else ""
        steps = [step for step in result["steps"] if step["stage"] == stage["name"]]
        seconds = [step["seconds"] for step in steps[1:]]
        waits = [after["time"] - one["time"] - after["seconds"] for one, after in pairwise(steps)]
        yield [
            result["case"],
            stage["name"],
            how,
            gigabytes(stage["predicted"]),
            gigabytes(stage["measured"]),
            f"{stage['predicted'] / stage['measured']:.3f}",
            gigabytes(stage["process_peak"]),
            f"{stage['seconds']:.1f}",
            f"{statistics.median(seconds):.3f} s" if seconds else "",
            f"{1000 * statistics.median(waits):.1f} ms" if waits else "",
        ]


def gigabytes(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "kill", "table"))
    parser.add_argument("case", nargs="?", choices=tuple(CASES), default="resident")
    parser.add_argument("--model", type=Path, help="folder of the weights")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--size", choices=tuple(SIZES), default="full", help="small: a rehearsal with the tiny model")
    parser.add_argument("--homes", type=Path, default=Path("homes"), help="where each case keeps its home")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    {"run": run, "kill": kill, "table": table}[asked.what](asked)


if __name__ == "__main__":
    main()
