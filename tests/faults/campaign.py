"""The fault campaign: the program is killed at every point that it reaches, and must finish with the same bits.

    python -m tests.faults.campaign --work FOLDER --result FILE.json [--scenario max] [--part 2/5] [--jobs 2]
    python -m tests.faults.campaign --work FOLDER --sample 12 --seed 1
    python -m tests.faults.campaign --merge FILE.json ...

A small run with the tiny model is recorded: every event that a worker or the orchestrator sends, each denoising step
before and after it is saved, each file before it is written, before it gets its name and after. At each of these points

    kill              of a worker or of the orchestrator: SIGKILL to the process that is there
    kill-parent       of a worker: SIGKILL to the orchestrator, while the worker goes on
    orphan            at each event of a worker: the same, while the worker does not move from where it is
    enospc            at each file that is written: the system says that the disk is full
    full-disk         the same on a small disk of its own that is really full from then on (needs the right to mount)
    interrupt-parent  at each event of a worker: Ctrl-C in the orchestrator

and in the runs that upscale a video, while a process stands still at a point

    full-disk                       also where a worker begins an item: its encoder's file is no point
    sleep                           both processes stand still for a second
    lose, spoil                     the newest result is deleted, or a bit of it flips
    film-gone, film-exchanged, film-rewritten    the same for the video that they are made from

is injected in a run that begins from a copy of a home that holds the earlier stages. Then the same command is run
again. What must hold: the exit code; no process left after two seconds; the second run succeeds with videos that are
identical to the undisturbed run's, byte for byte, and so is a disturbed run that succeeds; no saved step and no
finished result is computed again; no temporary file, no unfinished state and no damaged file is left.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.faults import disk
from tests.faults.injection import Fault, Outcome, inject
from tests.faults.relay import INSPECT, hear_signals
from tests.faults.scenario import SCENARIOS, Point, Scenario


def faults_of(scenario: Scenario, stages: Sequence[str] | None = None) -> list[Fault]:
    """Every fault of a scenario."""
    found = []
    for stage in stages or scenario.disturbed:
        for point in (*scenario.worker_points(stage), *scenario.orchestrator_points(stage)):
            chosen = actions(point) + (meddling(point) if scenario.film is not None else [])
            found += [Fault(scenario.name, point, action) for action in chosen]
    return found


def actions(point: Point) -> list[str]:
    """What is done at a point."""
    full = ["enospc", *(["full-disk"] if disk.allowed() else [])] if point.name == "write.opened" else []
    if point.scope == "run":
        return ["kill", *full]
    waits = point.name.startswith("event.") or point.scope == INSPECT
    chosen = ["kill", "orphan" if waits else "kill-parent", *full]
    if point.name in ("event.step", "event.loaded"):
        chosen.append("interrupt-parent")
    return chosen


def meddling(point: Point) -> list[str]:
    """What happens to files and to time there, in a run that upscales a video."""
    if point.name == "event.step":
        return ["sleep"]
    if point.name == "event.item":
        return ["full-disk"] if disk.allowed() else []
    film = ["film-gone", "film-exchanged", "film-rewritten"]
    if point.name == "looking":
        return film[:1]  # what it is exchanged for then is what is upscaled
    if point.name in ("event.run_started", "looked") or point.rule == "encode.event.started:1":
        return film
    return [*film, "lose", "spoil"] if point.name in ("event.started", "event.stage_done") else []


def sample(faults: list[Fault], count: int, seed: int) -> list[Fault]:
    """So many of them, of each action as many as there are rounds."""
    generator = random.Random(seed)
    by_action: dict[str, list[Fault]] = {}
    for fault in faults:
        by_action.setdefault(f"{fault.action} {fault.point.scope == 'run'}", []).append(fault)
    piles = [generator.sample(pile, len(pile)) for _, pile in sorted(by_action.items())]
    chosen = [pile[turn] for turn in range(max(map(len, piles))) for pile in piles if turn < len(pile)]
    return chosen[:count]


def carry_out(
    scenarios: Iterable[Scenario],
    faults: Sequence[Fault],
    work: Path,
    jobs: int,
    say: bool = True,
    seconds: float = float("inf"),
) -> list[Outcome]:
    """Injects them, `jobs` at a time; none is begun after so many seconds."""
    end = time.monotonic() + seconds
    named = {scenario.name: scenario for scenario in scenarios}
    done = 0

    def one(numbered: tuple[int, Fault]) -> Outcome | None:
        nonlocal done
        if time.monotonic() > end:
            return None
        number, fault = numbered
        folder = work / f"case-{number}"
        outcome = inject(named[fault.scenario], fault, folder)
        if not outcome.problems:
            shutil.rmtree(folder, ignore_errors=True)
        done += 1
        if say:
            words = "; ".join(outcome.problems) or "as it must be"
            print(f"{done}/{len(faults)} {fault.text}, {outcome.seconds:.1f} s: {words}", flush=True)
        return outcome

    with ThreadPoolExecutor(jobs) as pool:
        return list(filter(None, pool.map(one, enumerate(faults))))


def report(outcomes: Sequence[Outcome], seconds: float) -> dict[str, object]:
    """Counts, and every problem."""
    counts = Counter((o.fault.scenario, o.fault.point.stage, victim(o.fault)) for o in outcomes)
    rows = [{"scenario": s, "stage": t, "fault": v, "count": n} for (s, t, v), n in sorted(counts.items())]
    problems = [{"fault": o.fault.text, "problems": o.problems} for o in outcomes if o.problems]
    return {
        "faults": len(outcomes),
        "as_they_must_be": sum(not o.problems for o in outcomes),
        "seconds": round(seconds),
        "counts": rows,
        "problems": problems,
    }


MEDDLED = {
    "sleep": "asleep",
    "lose": "result deleted",
    "spoil": "result damaged",
    "film-gone": "video gone",
    "film-exchanged": "video exchanged",
    "film-rewritten": "video rewritten",
}


def victim(fault: Fault) -> str:
    """The fault as the tables name it."""
    if fault.action in MEDDLED:
        return MEDDLED[fault.action]
    where = "orchestrator" if fault.point.scope == "run" or fault.action.endswith(("parent", "orphan")) else "worker"
    kind = {
        "kill-parent": "kill -9",
        "orphan": "kill -9",
        "kill": "kill -9",
        "enospc": "no space",
        "full-disk": "disk full",
        "interrupt-parent": "Ctrl-C",
    }
    return f"{kind[fault.action]}, {where}"


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: what was done to which stage of which run, and how many ended as they must."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for result in results:
        for row in result["counts"]:
            counts[row["scenario"], row["stage"], row["fault"]] += row["count"]
    faults = sorted({fault for _, _, fault in counts})
    lines = ["| run | stage | " + " | ".join(faults) + " |", "|---" * (2 + len(faults)) + "|"]
    for scenario, stage in sorted({(scenario, stage) for scenario, stage, _ in counts}):
        cells = [str(counts[scenario, stage, fault] or "") for fault in faults]
        lines.append(f"| {scenario} | {stage} | " + " | ".join(cells) + " |")
    sums = [str(sum(count for (_, _, name), count in counts.items() if name == fault)) for fault in faults]
    lines.append("| all | | " + " | ".join(sums) + " |")
    total = sum(result["faults"] for result in results)
    good = sum(result["as_they_must_be"] for result in results)
    lines += ["", f"{total} faults, {good} of them with everything as it must be."]
    lines += [f"- {problem}" for result in results for problem in result["problems"]]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Injects faults into runs of the tiny model.")
    parser.add_argument("--work", type=Path, help="a folder for homes; cases with problems stay in it")
    parser.add_argument("--result", type=Path, help="where the counts go, as JSON")
    parser.add_argument("--scenario", action="append", choices=sorted(SCENARIOS))
    parser.add_argument("--part", default="1/1", metavar="K/N", help="every N-th fault, beginning with the K-th")
    parser.add_argument("--sample", type=int, help="so many faults only")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no fault after so many")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--list", action="store_true", help="name the faults, and inject none")
    parser.add_argument("--merge", type=Path, nargs="+", help="print the results in these files as one table")
    options = parser.parse_args()
    if options.merge:
        print(table([json.loads(path.read_text()) for path in options.merge]))
        return 0
    if options.work is None:
        parser.error("--work is needed")
    hear_signals()
    began = time.monotonic()
    names = options.scenario or sorted(SCENARIOS)
    folders = [options.work.resolve() / name for name in names]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    scenarios = [Scenario(name, folder).prepare() for name, folder in zip(names, folders, strict=True)]
    faults = [fault for scenario in scenarios for fault in faults_of(scenario)]
    which, of = map(int, options.part.split("/"))
    faults = faults[which - 1 :: of]
    if options.sample is not None:
        faults = sample(faults, options.sample, options.seed)
    if options.list:
        print("\n".join(fault.text for fault in faults))
        print(len(faults))
        return 0
    outcomes = carry_out(scenarios, faults, options.work.resolve(), options.jobs, seconds=60 * options.minutes)
    found = report(outcomes, time.monotonic() - began)
    if options.result:
        options.result.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{found['faults']} faults, {found['as_they_must_be']} as they must be, {found['seconds']} s")
    return 1 if found["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
