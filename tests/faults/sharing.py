"""Several runs at once on one home, and a sweep against single runs: what was computed, and what was loaded how often.

    python -m tests.faults.sharing --work FOLDER --result FILE.json

With the tiny model and real processes:

    one recipe     four processes at once: each stage is computed once, and four identical videos come out
    one is killed  the same, but the process that computes stage 1 gets a SIGKILL after its second step: another one
                   goes on with the third, and three identical videos come out
    four seeds     four processes at once: the text is computed once
    eight seeds    a sweep, against eight single commands on one home, and on a home each: workers, loads of networks,
                   and bytes read of weights
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.faults.relay import PROMPT, STAGES, Ended, Place, hear_signals
from tests.faults.scenario import SMALL

COMMAND = ("generate", PROMPT, *SMALL, "--steps-stage1", "3")
SEEDS = 8
PREVIEW_LOADS = 2
"""A sweep makes a contact sheet of stage 1: the VAE decoder and its statistics."""


def at_once(place: Place, commands: Iterable[Sequence[str]], **changes: str) -> list[Ended]:
    """Runs them all at the same time, and returns when all have ended."""
    began = time.monotonic()
    processes = [place.start(command, changes) for command in commands]
    said = [process.communicate(timeout=600) for process in processes]
    seconds = time.monotonic() - began
    return [Ended(one.returncode, out, err, seconds) for one, (out, err) in zip(processes, said, strict=True)]


def counts(ended: Iterable[Ended]) -> dict[str, Any]:
    """Of all commands together. `steps`: of denoising. `bytes`: read of weights files, by the workers' own count."""
    ended = list(ended)
    started = Counter(event["stage"] for one in ended for event in one.of("stage_started"))
    read = [event.get("bytes_read", {}) for one in ended for event in one.of("stage_done")]
    steps = [event for one in ended for event in one.of("step") if event["stage"] in ("stage1", "stage2")]
    return {
        "workers": {stage: started[stage] for stage in STAGES},
        "loads": sum(len(one.of("loading")) for one in ended),
        "bytes": sum(size for files in read for size in files.values()),
        "steps": len(steps),
        "codes": sorted(one.code for one in ended),
        "seconds": round(sum({one.seconds for one in ended}), 1),
    }


def made(place: Place) -> tuple[int, int]:
    """(videos, different ones)."""
    videos = place.made()
    return len(videos), len(set(videos.values()))


def one_recipe(work: Path, **changes: str) -> dict[str, Any]:
    place = Place(work).make()
    ended = at_once(place, [(*COMMAND, "--output", f"{number}.mp4") for number in range(4)], **changes)
    left = [*place.litter(), *map(str, place.wait_for_silence(2))]
    return {**counts(ended), "videos": made(place), "left": left}


def four_seeds(work: Path) -> dict[str, Any]:
    place = Place(work).make()
    ended = at_once(place, [(*COMMAND, "--seed", str(seed), "--output", f"{seed}.mp4") for seed in range(4)])
    return {**counts(ended), "videos": made(place), "left": place.litter()}


def single(place: Place, seed: int) -> Ended:
    return place.run(*COMMAND, "--seed", str(seed), "--output", f"{seed}.mp4")


def eight_seeds(work: Path) -> dict[str, Any]:
    sweep, shared = Place(work / "sweep").make(), Place(work / "shared").make()
    ended = sweep.run(*COMMAND, "--seeds", str(SEEDS), "--output", "sweep.mp4")
    on_one = [single(shared, seed) for seed in range(SEEDS)]
    alone = [Place(work / f"alone-{seed}").make() for seed in range(SEEDS)]
    on_its_own = [single(place, seed) for seed, place in enumerate(alone)]
    videos = [
        sorted(sweep.made().values()),
        sorted(shared.made().values()),
        sorted(video for place in alone for video in place.made().values()),
    ]
    return {
        "sweep": counts([ended]),
        "on one home": counts(on_one),
        "on a home each": counts(on_its_own),
        "same videos": videos[0] == videos[1] == videos[2] and len(videos[0]) == SEEDS,
    }


def problems(found: dict[str, Any]) -> list[str]:
    """What is not as it must be."""
    once, wrong = dict.fromkeys(STAGES, 1), []

    def check(what: str, right: bool) -> None:
        wrong.extend([] if right else [what])

    one, killed, four, eight = (found[name] for name in ("one recipe", "one is killed", "four seeds", "eight seeds"))
    check("one recipe: workers", one["workers"] == once and one["codes"] == [0] * 4)
    check("one recipe: videos", one["videos"] == (4, 1) and not one["left"])
    check("one is killed: who", killed["codes"] == [-signal.SIGKILL, 0, 0, 0])
    check("one is killed: workers", killed["workers"] == {**once, "stage1": 2})
    check("one is killed: videos", killed["videos"] == (3, 1) and not killed["left"])
    check("four seeds: text", four["workers"]["text"] == 1 and four["videos"] == (4, 4) and not four["left"])
    check("eight seeds: videos", eight["same videos"])
    loads = eight["sweep"]["loads"] - PREVIEW_LOADS
    check("eight seeds: loads", SEEDS * loads == eight["on a home each"]["loads"])
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs that share a home, and a sweep against single runs.")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--result", type=Path)
    options = parser.parse_args()
    work = options.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    hear_signals()
    found = {
        "one recipe": one_recipe(work / "one"),
        "one is killed": one_recipe(work / "killed", LTX_RELAY_FAILPOINTS="stage1.step.saved:2=kill-parent"),
        "four seeds": four_seeds(work / "four"),
        "eight seeds": eight_seeds(work / "eight"),
    }
    wrong = problems(found)
    print(json.dumps({**found, "problems": wrong}, indent=1))
    if options.result:
        options.result.write_text(json.dumps({**found, "problems": wrong}, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
