"""The `max` flow at full size through the real workers, under several memory budgets: predicted and measured.

    uv run python -m benchmarks.random_weights FOLDER                  (or real weights in FOLDER)
    uv run python -m benchmarks.full_size run CASE --model FOLDER --out RESULTS
    uv run python -m benchmarks.full_size kill --model FOLDER --out RESULTS
    uv run python -m benchmarks.full_size table --out RESULTS

Each case has a home of its own; the text of the first is copied to the others (a budget does not change it). `kill`
ends the worker of stage 2 with -9 after its second step, resumes, and compares the bits. `table` prints Markdown: per
worker the predicted and the measured peak, and seconds; and whether the cases agree bit by bit where they must.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

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
    "8GB-4bit": ("--memory", "8GB", "--quantize", "4"),
}
STAGES = ("text", "stage1", "stage2", "temporal", "decode")


def command(asked: argparse.Namespace, case: str, *more: str) -> list[str]:
    video = asked.out / f"{case}.mp4"
    words = ["generate", PROMPT, *SIZES[asked.size], *CASES[case], "--model", str(asked.model), "--output", str(video)]
    return [sys.executable, "-m", "orchestrator", *words, "--home", str(home_of(asked, case)), "--json", *more]


def home_of(asked: argparse.Namespace, case: str) -> Path:
    return Path(asked.homes) / case


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


def share_text(asked: argparse.Namespace, case: str) -> None:
    """The text of another case is this one's too: its key does not depend on the budget."""
    home = home_of(asked, case)
    if home.exists():
        return
    for other in CASES:
        result = asked.out / f"{other}.json"
        if other != case and result.exists():
            for path in json.loads(result.read_text())["artifacts"].get("text", []):
                copy = home / "objects" / Path(path).parent.name / Path(path).name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)
            return


def run(asked: argparse.Namespace) -> None:
    share_text(asked, asked.case)
    began = time.monotonic()
    code, events = follow(command(asked, asked.case))
    seconds = time.monotonic() - began
    report = ask(asked, "report")
    stages = json.loads(ask(asked, "show").stdout)["stages"]
    result = {
        "case": asked.case,
        "code": code,
        "seconds": seconds,
        "done": [event for event in events if event["event"] in ("stage_done", "video_done", "error", "retry")],
        "steps": [event for event in events if event["event"] == "step" and event["stage"] in ("stage1", "stage2")],
        "report": json.loads(report.stdout) if report.returncode == 0 else report.stderr,
        "artifacts": {stage["name"]: stage["artifacts"] for stage in stages},
        "sha256": {stage["name"]: [tensor_hash(path) for path in stage["artifacts"]] for stage in stages},
    }
    (asked.out / f"{asked.case}.json").write_text(json.dumps(result))
    print(f"{asked.case}: exit {code} after {seconds:.1f} s")
    sys.exit(code)


def ask(asked: argparse.Namespace, what: str) -> subprocess.CompletedProcess[str]:
    """`ltx-relay runs show|report last --json` of the case's home."""
    words = ["runs", what, "last", "--json", "--home", str(home_of(asked, asked.case))]
    return subprocess.run([sys.executable, "-m", "orchestrator", *words], capture_output=True, text=True, check=False)


def tensor_hash(path: str) -> str:
    """The hash in an artifact's metadata; of a video, nothing."""
    if not path.endswith(".safetensors"):
        return ""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return str(json.loads(file.read(size))["__metadata__"]["sha256"])


def kill(asked: argparse.Namespace) -> None:
    """Stage 2 is made again from the first case's text and stage 1, killed after its second step, and resumed."""
    first = json.loads((asked.out / f"{asked.case}.json").read_text())
    home = home_of(asked, asked.case)
    for stage in ("stage2", "temporal", "decode"):
        for path in first["artifacts"][stage]:
            Path(path).unlink()
    for path in home.glob("objects/*/*.video.json"):
        path.unlink()
    (asked.out / f"{asked.case}.mp4").unlink()
    code, _ = follow(command(asked, asked.case), kill_at=("stage2", 2))
    print("killed: exit", code)
    again, events = follow(command(asked, asked.case))
    steps = [event["index"] for event in events if event["event"] == "step" and event["stage"] == "stage2"]
    same = [tensor_hash(path) for path in first["artifacts"]["stage2"]] == first["sha256"]["stage2"]
    result = {"killed": code, "resumed": again, "steps": steps, "same_bits": same}
    (asked.out / "kill.json").write_text(json.dumps(result))
    print(result)


def table(asked: argparse.Namespace) -> None:
    results = [
        json.loads((asked.out / f"{case}.json").read_text()) for case in CASES if (asked.out / f"{case}.json").exists()
    ]
    print("| budget | worker | predicted | MLX peak | host peak | seconds |")
    print("|---|---|---|---|---|---|")
    for result in results:
        report = result["report"]
        predicted = {}
        if isinstance(report, dict):
            predicted = {stage["name"]: stage.get("predicted_peak") for stage in report["stages"]}
        for event in result["done"]:
            if event["event"] == "stage_done":
                name = event["stage"]
                cells = [gigabytes(predicted.get(name)), gigabytes(event["mlx_peak"]), gigabytes(event["process_peak"])]
                print(f"| {result['case']} | {name} | {' | '.join(cells)} | {event['seconds']:.1f} |")
    exact = [result for result in results if "bit" not in result["case"]]
    for stage in STAGES[1:4]:
        hashes = {tuple(result["sha256"].get(stage, [])) for result in exact}
        print(f"\n{stage}: {'the same bits' if len(hashes) == 1 else 'NOT the same bits'} in {len(exact)} cases")


def gigabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 2**30:.2f} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
