"""What is disturbed: a command, its undisturbed result, and homes in which it is about to begin each of its stages."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.relay import PROMPT, ROOT, UNSTEADY, Hit, Place, hits

SMALL = ("--model", "tiny", "--height", "64", "--width", "96", "--frames", "9", "--json")
SCENARIOS = {
    "max": (*SMALL, "--steps-stage1", "3", "--output", "ball.mp4"),
    "sweep": (
        *SMALL, "--preset", "two-stage", "--steps-stage1", "2", "--steps-stage2", "2", "--seed", "1,2",
        "--output", "ball.mp4",
    ),
    "draft": (*SMALL, "--preset", "draft", "--steps", "4", "--codec", "ffv1", "--output", "ball.mkv"),
    "pieces": (
        *SMALL[:-2], "49", "--json", "--preset", "draft", "--steps", "1", "--tiles", "64x16", "--codec", "ffv1",
        "--output", "ball.mkv",
    ),
}  # fmt: skip
ONLY = {"pieces": ("decode",)}
"""Stages that are disturbed, where not all are: here the frames come in pieces, each of which is kept."""
ENVIRONMENT = {"pieces": {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "faults" / "every_piece"), str(ROOT)])}}


@dataclass(frozen=True)
class Point:
    """Where a fault is injected, in a run that begins with `stage` (everything before it is in the cache)."""

    stage: str
    scope: str
    name: str
    n: int

    @property
    def rule(self) -> str:
        return f"{self.scope}.{self.name}:{self.n}"


@dataclass
class Scenario:
    """One command. `reference`: its videos; made by `prepare`, like the homes."""

    name: str
    folder: Path
    reference: dict[str, bytes] = field(default_factory=dict)
    stages: tuple[str, ...] = ()
    _hits: dict[str, list[Hit]] = field(default_factory=dict)

    @property
    def command(self) -> tuple[str, ...]:
        return ("generate", PROMPT, *SCENARIOS[self.name])

    @property
    def environment(self) -> dict[str, str]:
        return dict(ENVIRONMENT.get(self.name, {}))

    @property
    def disturbed(self) -> tuple[str, ...]:
        """The stages that faults are injected into."""
        return tuple(stage for stage in self.stages if stage in ONLY.get(self.name, self.stages))

    def prepare(self) -> Scenario:
        """Runs the command undisturbed, and makes a home for each stage from what it left."""
        place = Place(self.folder / "reference").make()
        # The probe's answer is there in every home, so that all of them reach the same points.
        assert place.run("plan", PROMPT, *SMALL, "--output", "plan.mp4", **self.environment).code == 0
        shutil.copytree(place.home, self.folder / "homes" / "empty")
        ended = place.run(*self.command, **self.environment)
        assert ended.code == 0, ended.err
        self.reference = place.made()
        self.stages = tuple(event["stage"] for event in ended.of("stage_started"))
        shown = place.run("runs", "show", "last", "--json")
        stages = {stage["name"]: stage for stage in json.loads(shown.out)["stages"]}
        for index, stage in enumerate(self.stages):
            home = self.folder / "homes" / stage
            shutil.copytree(self.folder / "homes" / "empty", home)
            for earlier in self.stages[:index]:
                for path in map(Path, stages[earlier]["artifacts"]):
                    target = home / path.relative_to(place.home)
                    target.parent.mkdir(exist_ok=True)
                    shutil.copyfile(path, target)
        return self

    def home(self, stage: str) -> Path:
        """A home in which that stage comes next. A preview is made only when stage 1 was computed just before."""
        return self.folder / "homes" / ("stage1" if stage == "preview" else stage)

    def hits(self, stage: str) -> list[Hit]:
        """The steady points that an undisturbed run from that home reaches, in order."""
        if stage not in self._hits:
            place = Place(self.folder / f"record-{stage}").make(self.home(stage))
            record = self.folder / f"hits-{stage}"
            ended = place.run(*self.command, LTX_RELAY_FAILPOINTS=f"record={record}", **self.environment)
            assert ended.code == 0, ended.err
            assert place.made() == self.reference
            self._hits[stage] = [hit for hit in hits(record) if hit.name not in UNSTEADY]
        return self._hits[stage]

    def worker_points(self, stage: str) -> list[Point]:
        """All points of that stage's worker."""
        start = "stage1" if stage == "preview" else stage
        return [Point(stage, hit.scope, hit.name, hit.n) for hit in self.hits(start) if hit.scope == stage]

    def orchestrator_points(self, stage: str) -> list[Point]:
        """Those of the orchestrator while it is at that stage: up to it for the first, to the end for the last."""
        reached = self.hits("stage1" if stage == "preview" else stage)
        workers = [hit.scope for hit in reached]
        first = 0 if stage == self.stages[0] else workers.index(stage)
        behind = [index for index, scope in enumerate(workers) if scope not in ("run", stage)]
        later = [index for index in behind if index > first]
        last = later[0] if later else len(reached)
        return [Point(stage, hit.scope, hit.name, hit.n) for hit in reached[first:last] if hit.scope == "run"]
