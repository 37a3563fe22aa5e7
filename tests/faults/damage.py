"""Damaged files: every kind of file in a home, cut at 10 places or with a flipped bit at 100.

    python -m tests.faults.damage --work FOLDER --result FILE.json [--runs 20] [--scenario smooth]

Results, states and videos: each damaged copy is read as the program reads it: it must be found out every time, and set
aside. With so many of each kind the whole program is run on it, too: the damaged result is computed again, and the
video is that of the undisturbed run, byte for byte.

Records: a run that was killed (in stage 1; one that upscales in decode) is resumed with so many damages of each file
that says something about the run, about the home or about the machine. The video is the undisturbed one, or the program
refuses in a sentence; never another video.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cache.artifacts import find
from cache.home import Home
from cache.partial import load_partial
from cache.videos import find_video
from tests.faults.relay import Place
from tests.faults.scenario import Scenario

CUTS, FLIPS = 10, 100


@dataclass(frozen=True)
class Damage:
    """`cut`: the length that is left; else a bit is flipped: `bit` of the byte at `place`."""

    place: int
    bit: int | None

    def apply(self, content: bytes) -> bytes:
        if self.bit is None:
            return content[: self.place]
        changed = bytearray(content)
        changed[self.place] ^= 1 << self.bit
        return bytes(changed)


FILES_OF_VIDEOS = ("video", "record", "piece", "record of a piece")


@dataclass(frozen=True)
class Target:
    """A file of a home, the stage that made it, its key, and how it is read."""

    kind: str
    key: str
    path: Path

    def whole(self, home: Home) -> bool:
        """As the program asks; a damaged one is set aside by that."""
        if self.kind == "partial":
            return load_partial(home, self.key) is not None
        if self.kind in FILES_OF_VIDEOS:
            return find_video(home, self.key) is not None
        return find(self.path, key=self.key, stage=self.kind) is not None


def damages(size: int, seed: int) -> Iterator[Damage]:
    """Ten cuts, the empty file and the last byte among them; bits over the whole file, the first and last bytes too."""
    generator = random.Random(seed)
    cuts = {0, 7, 8, 9, size - 1, *generator.sample(range(size), min(size, CUTS))}
    yield from (Damage(place, None) for place in sorted(cuts)[:CUTS] if place < size)
    places = [0, 7, 8, size - 1, *(generator.randrange(size) for _ in range(FLIPS - 4))]
    yield from (Damage(place, generator.randrange(8)) for place in places if place < size)


def targets(home: Home, stages: dict[str, str]) -> list[Target]:
    """Of each kind a file: artifacts, the video, a piece of it, their records, and the state of an unfinished stage.

    stages: key -> stage.
    """
    found: list[Target] = []
    pieces = "join" in stages.values()
    for path in sorted((home.root / "objects").glob("*/*")):
        key = path.name.split(".")[0]
        if key not in stages:  # another run's
            continue
        kind = stages[key]
        if kind in ("decode", "join"):
            whole = "piece" if kind == "decode" and pieces else "video"
            kind = whole if path.suffix != ".json" else "record" if whole == "video" else "record of a piece"
        if kind not in [target.kind for target in found]:
            found.append(Target(kind, key, path))
    found += [Target("partial", path.stem, path) for path in sorted(home.partial.iterdir())]
    return found


def read_all(target: Target, home: Home) -> tuple[int, list[str]]:
    """(damages, those that were not found out). The file is as it was afterwards."""
    content, missed, count = target.path.read_bytes(), [], 0
    siblings = {path: path.read_bytes() for path in target.path.parent.iterdir()}
    for damage in damages(len(content), seed=len(content)):
        count += 1
        target.path.write_bytes(damage.apply(content))
        if target.whole(home):
            missed.append(f"{target.kind}: {damage}")
        for path in target.path.parent.iterdir():
            path.unlink()
        for path, before in siblings.items():
            path.write_bytes(before)
    assert target.whole(home), "undamaged it must be whole"
    return count, missed


def run_on(scenario: Scenario, target: Target, damage: Damage, source: Place, folder: Path) -> list[str]:
    """The whole program on a home with that one damage, and nothing after the damaged stage; what went wrong."""
    place = scenario.place(folder, source.home)
    path = place.home / target.path.relative_to(source.home)
    path.write_bytes(damage.apply(path.read_bytes()))
    if target.kind not in ("video", "record"):  # so that something needs the damaged one
        for later in (place.home / "objects").glob("*/*"):
            own = later.name.split(".")[0] == target.key
            if not own and later.stat().st_mtime_ns > target.path.stat().st_mtime_ns:
                later.unlink()
        for video in (place.home / "objects").glob("*/*.video.json"):
            if video.name.split(".")[0] != target.key:
                video.unlink()
    ended = place.run(*scenario.command)
    problems = []
    if ended.code != 0 or "Traceback" in ended.err:
        problems.append(f"ended with {ended.code}: {ended.err.strip()[-300:]}")
    elif place.made() != scenario.reference:
        problems.append("another video")
    elif not any("aside" in str(event.get("message")) for event in ended.of("warning")):
        problems.append("nothing was said about the damaged file")
    shutil.rmtree(folder)
    return problems


@dataclass(frozen=True)
class Killed:
    """A run that was killed. `home` is as that left it; `stage`: where it was."""

    place: Place
    home: Path
    run: str
    stage: str
    video: bytes

    def records(self) -> dict[str, Path]:
        """What can be damaged, relative to the home."""
        run = Path("runs") / self.run
        names = ["machine.json", "fingerprints.json", "history.json", "format"]
        inside = ("recipe.json", "state.json", "events.jsonl", f"jobs/{self.stage}.json", f"logs/{self.stage}.log")
        found: dict[str, Path] = {}
        for state in (self.home / "partial").iterdir():  # an upscaling has none
            found["partial"] = state.relative_to(self.home)
            names.append(f"locks/{state.stem}.lock")
        found |= {Path(name).name: Path(name) for name in names}
        found |= {f"{Path(name).name} of the run": run / name for name in inside}
        there = {name: path for name, path in found.items() if (self.home / path).exists()}
        return {name: path for name, path in there.items() if (self.home / path).stat().st_size}

    def resume(self, path: Path, damage: Damage) -> str:
        """With one damage: "same", "refused", or what went wrong."""
        shutil.rmtree(self.place.home)
        shutil.copytree(self.home, self.place.home)
        (self.place.videos / "other.mp4").unlink(missing_ok=True)
        damaged = self.place.home / path
        damaged.write_bytes(damage.apply(damaged.read_bytes()))
        ended = self.place.run("resume", self.run, "--json")
        if "Traceback" in ended.err or len(ended.err.strip().splitlines()) > 3:
            return f"more than a sentence: {ended.err.strip()[-300:]}"
        made = self.place.made()
        if ended.code != 0:
            return "refused" if ended.code in (2, 7) and "other.mp4" not in made else f"ended with {ended.code}"
        return "same" if made.get("other.mp4") == self.video else "another video"


def kill_another(scenario: Scenario, place: Place, work: Path) -> Killed:
    undisturbed = scenario.place(work / "other", place.home)
    assert undisturbed.run(*other(scenario)).code == 0
    stage = leave_a_state(scenario, place)
    shutil.copytree(place.home, work / "killed")
    run = json.loads(place.run("runs", "show", "last", "--json").out)["run"]
    return Killed(place, work / "killed", run, stage, undisturbed.made()["other.mp4"])


def other(scenario: Scenario) -> tuple[str, ...]:
    """A command of the same home whose video is another."""
    change = ("--seed", "9") if scenario.film is None else ("--no-sound", "--tiles", "64x16")
    return (*scenario.command[:-1], "other.mp4", *change)


MAY_REFUSE = ("recipe.json of the run", "state.json of the run", "format")
"""What decides the video, or who may read the home, is sealed or plain; what else is damaged costs time only."""


def resume_all(killed: Killed, runs: int) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Per record how the resumed runs ended, and the problems."""
    counts: dict[str, dict[str, int]] = {}
    problems = []
    for name, path in killed.records().items():
        possible = list(damages((killed.home / path).stat().st_size, seed=2))
        ends: Counter[str] = Counter()
        for damage in random.Random(3).sample(possible, min(runs, len(possible))):
            end = killed.resume(path, damage)
            ends[end] += 1
            if end not in ("same", *(["refused"] if name in MAY_REFUSE else [])):
                problems.append(f"{name} {damage}: {end}")
        counts[name] = dict(ends)
        print(f"{name}: {dict(ends)}", flush=True)
    return counts, problems


def prepare(work: Path, name: str = "max") -> tuple[Scenario, Place, dict[str, str]]:
    """A finished run's home."""
    scenario = Scenario(name, work / name).prepare()
    place = scenario.place(work / "whole", scenario.home(scenario.stages[0]))
    assert place.run(*scenario.command).code == 0
    shown = json.loads(place.run("runs", "show", "last", "--json").out)
    stages = {key: stage["name"] for stage in shown["stages"] for key in stage["keys"]}
    return scenario, place, stages


def leave_a_state(scenario: Scenario, place: Place) -> str:
    """Stage 1 of another seed, killed after its second step; or a decode in other tiles, at its second piece."""
    point = "stage1.step.saved:2" if scenario.film is None else "decode.event.item:2"
    killed = place.run(*other(scenario), LTX_RELAY_FAILPOINTS=f"{point}=kill")
    assert killed.code == 7, killed.err
    return point.split(".")[0]


def main() -> int:
    parser = argparse.ArgumentParser(description="Damages files of a home and looks whether it is noticed.")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--result", type=Path)
    parser.add_argument("--runs", type=int, default=20, help="whole runs for each kind of file")
    parser.add_argument("--scenario", choices=("max", "smooth"), default="max")
    options = parser.parse_args()
    shutil.rmtree(options.work, ignore_errors=True)
    scenario, place, stages = prepare(options.work.resolve(), options.scenario)
    home = Home(place.home)
    found = targets(home, stages)
    problems: list[str] = []
    runs = 0
    for target in found:
        chosen = random.Random(1).sample(list(damages(target.path.stat().st_size, seed=1)), options.runs)
        for number, damage in enumerate(chosen):
            what = run_on(scenario, target, damage, place, options.work.resolve() / f"run-{number}")
            problems += [f"{target.kind} {damage}: {problem}" for problem in what]
            runs += 1
        print(f"{target.kind}: {len(chosen)} runs", flush=True)
    killed = kill_another(scenario, place, options.work.resolve())
    counts = {}
    for target in targets(home, stages):
        count, missed = read_all(target, home)
        counts[target.kind] = count
        problems += missed
    resumed, wrong = resume_all(killed, options.runs)
    problems += wrong
    result = {"reads": counts, "runs": runs, "resumed": resumed, "problems": problems}
    print(json.dumps(result, indent=1))
    if options.result:
        options.result.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
