"""What is disturbed: a command, its undisturbed result, and homes in which it is about to begin each of its stages."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.relay import INSPECT, PROMPT, ROOT, UNSTEADY, Hit, Place, hits
from tests.workers.video.films import drawn, write

SMALL = ("--model", "tiny", "--height", "64", "--width", "96", "--frames", "9", "--json")
GENERATE = ("generate", PROMPT, *SMALL)
FILM = "film.mp4"
"""The video that an upscaling run begins with, in the folder where the new one goes."""
UPSCALE = (FILM, "--model", "tiny", "--chunk", "41", "--json")
SCENARIOS = {
    "max": (*GENERATE, "--steps-stage1", "3", "--output", "ball.mp4"),
    "sweep": (
        *GENERATE, "--preset", "two-stage", "--steps-stage1", "2", "--steps-stage2", "2", "--seed", "1,2",
        "--output", "ball.mp4",
    ),
    "draft": (*GENERATE, "--preset", "draft", "--steps", "4", "--codec", "ffv1", "--output", "ball.mkv"),
    "pieces": (
        *GENERATE[:-2], "49", "--json", "--preset", "draft", "--steps", "1", "--tiles", "64x16", "--codec", "ffv1",
        "--output", "ball.mkv",
    ),
    "smooth": ("upscale-temporal", *UPSCALE, "--output", "smooth.mp4"),
    "jumping": ("upscale-temporal", *UPSCALE, "--no-sound", "--output", "smooth.mp4"),
    "large": ("upscale-spatial", *UPSCALE, "--codec", "ffv1", "--output", "large.mkv"),
}  # fmt: skip
FRAMES = {"smooth": 73, "jumping": 44, "large": 44}
"""Of the video that is upscaled: three chunks, or two."""
ONLY = {"pieces": ("decode",), "large": ("spatial", "decode"), "jumping": ("decode",)}
"""Stages that are disturbed, where not all are: of "pieces", each of which is kept, and what "smooth" does not have."""


def with_changed(name: str) -> dict[str, str]:
    """The environment in which every process of the program is changed by that `sitecustomize`."""
    return {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "faults" / name), str(ROOT)])}


ENVIRONMENT = {"pieces": with_changed("every_piece"), "jumping": with_changed("jumping_clock")}


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
        return SCENARIOS[self.name]

    @property
    def film(self) -> Path | None:
        """The video that it begins with, where it does."""
        return self.folder / FILM if self.name in FRAMES else None

    def place(self, folder: Path, home: Path | None = None) -> Place:
        """A place for the command, with a copy of that home and of what it reads."""
        place = Place(folder).make(home)
        if self.film is not None:
            shutil.copyfile(self.film, place.videos / FILM)
        return place

    @property
    def environment(self) -> dict[str, str]:
        return dict(ENVIRONMENT.get(self.name, {}))

    @property
    def disturbed(self) -> tuple[str, ...]:
        """The stages that faults are injected into."""
        return tuple(stage for stage in self.stages if stage in ONLY.get(self.name, self.stages))

    def prepare(self) -> Scenario:
        """Runs the command undisturbed, and makes a home for each stage from what it left."""
        if self.film is not None:
            self.film.parent.mkdir(parents=True, exist_ok=True)
            write(self.film, drawn(FRAMES[self.name], 32, 32), sound="aac")
        place = self.place(self.folder / "reference")
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
                    for file in path.parent.glob(f"{path.stem}.*"):  # a piece of a video has a record
                        shutil.copyfile(file, target.parent / file.name)
        return self

    def home(self, stage: str) -> Path:
        """A home in which that stage comes next. A preview is made only when stage 1 was computed just before."""
        return self.folder / "homes" / ("stage1" if stage == "preview" else stage)

    def hits(self, stage: str) -> list[Hit]:
        """The steady points that an undisturbed run from that home reaches, in order."""
        if stage not in self._hits:
            place = self.place(self.folder / f"record-{stage}", self.home(stage))
            record = self.folder / f"hits-{stage}"
            ended = place.run(*self.command, LTX_RELAY_FAILPOINTS=f"record={record}", **self.environment)
            assert ended.code == 0, ended.err
            assert place.made() == self.reference
            self._hits[stage] = [hit for hit in hits(record) if hit.name not in UNSTEADY]
        return self._hits[stage]

    def worker_points(self, stage: str) -> list[Point]:
        """All points of that stage's worker; of the process that looks at a video too, where the stage is the first."""
        start = "stage1" if stage == "preview" else stage
        scopes = (stage, INSPECT) if stage == self.stages[0] else (stage,)
        return [Point(stage, hit.scope, hit.name, hit.n) for hit in self.hits(start) if hit.scope in scopes]

    def orchestrator_points(self, stage: str) -> list[Point]:
        """Those of the orchestrator while it is at that stage: up to it for the first, to the end for the last."""
        reached = self.hits("stage1" if stage == "preview" else stage)
        workers = [hit.scope for hit in reached]
        first = 0 if stage == self.stages[0] else workers.index(stage)
        behind = [index for index, scope in enumerate(workers) if scope not in ("run", INSPECT, stage)]
        later = [index for index in behind if index > first]
        last = later[0] if later else len(reached)
        return [Point(stage, hit.scope, hit.name, hit.n) for hit in reached[first:last] if hit.scope == "run"]
