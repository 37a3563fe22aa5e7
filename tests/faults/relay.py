"""The program as the fault tests run it: real processes, a home of its own, every point that it reaches recorded."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "A red ball bouncing on green grass"
STAGES = ("text", "stage1", "stage2", "temporal", "decode")
INSPECT = "inspect"
"""What the process that looks at a video calls itself; it is no stage."""
UNSTEADY = frozenset({"event.memory", "event.sample", "event.heartbeat", "event.preview"})
"""Points whose number depends on time."""


KEPT = re.compile(
    r"home/(format|machine\.json|fingerprints\.json|history\.json"
    r"|objects/[0-9a-f]{2}/[0-9a-f]{64}\.(safetensors|video\.json|mp4|mkv|mov)"
    r"|runs/[a-z0-9-]+/((recipe|state)\.json|events\.jsonl|report\.html|logs/[a-z0-9]+\.log|jobs/[a-z0-9]+\.json"
    r"|previews/(\w+|stage[12]-[0-9]+)\.png|previews/still-[0-9a-f]{32}-[0-9]\.jpg)"
    r"|colours/[0-9a-f]{64}\.safetensors"
    r"|locks/[a-z0-9]+\.lock)"
)
"""What a home may hold when nothing is under way."""


@dataclass(frozen=True)
class Hit:
    """A point that a process reached, for the n-th time; see `cache.failpoints`."""

    pid: int
    scope: str
    name: str
    n: int
    details: tuple[Any, ...]


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def events(self) -> list[dict[str, Any]]:
        found = []
        for line in self.out.splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:  # a killed process leaves half a line
                continue
        return found

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]


def hits(path: Path) -> list[Hit]:
    """What was recorded there."""
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [Hit(pid, scope, point, n, tuple(details)) for pid, scope, point, n, *details in lines]


def wait_for_a_stop(process: subprocess.Popen[str]) -> int:
    """The id of the program, or of its worker, that stands still. LookupError when it ends without."""
    family = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            for member in (family, *family.children(recursive=True)):
                if member.status() == psutil.STATUS_STOPPED:
                    return int(member.pid)
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.01)
    raise LookupError("nothing stopped")


def hear_signals() -> None:
    """Under nohup, or in the background of a script, Ctrl-C would be ignored here and in everything started."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@dataclass(frozen=True)
class Place:
    """A folder with a home, a folder for videos, and one for what the system keeps."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def videos(self) -> Path:
        return self.folder / "videos"

    def make(self, template: Path | None = None) -> Place:
        """Empty, or with a copy of a home."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.videos.mkdir(parents=True)
        (self.folder / "tmp").mkdir()
        if template is not None:
            shutil.copytree(template, self.home)
        return self

    def environment(self, **changes: str) -> dict[str, str]:
        """Nothing of the caller's settings; the machine's lock is this place's own, so that places do not wait."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LTX_RELAY_")}
        path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH", "")]))
        own = {"LTX_RELAY_HOME": str(self.home), "LTX_RELAY_THREADS": "1", "TMPDIR": str(self.folder / "tmp")}
        return {**kept, "PYTHONPATH": path, "NO_COLOR": "1", **own, **changes}

    def start(self, arguments: Sequence[str], changes: Mapping[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "orchestrator", *arguments],
            cwd=self.videos,
            env=self.environment(**changes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, timeout: float = 180.0, **changes: str) -> Ended:
        began = time.monotonic()
        process = self.start(arguments, changes)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            err += "\n(killed by the test: it did not end)"
        return Ended(process.returncode, out, err, time.monotonic() - began)

    def processes(self) -> list[psutil.Process]:
        """What still runs for this place: workers have the job's path on their command line, or a video's."""
        mine = []
        for process in psutil.process_iter(["cmdline", "status"]):
            words = process.info["cmdline"] or []
            dead = process.info["status"] == psutil.STATUS_ZOMBIE
            if not dead and any(word.startswith(f"{self.folder}{os.sep}") for word in words):
                mine.append(process)
        return mine

    def wait_for_silence(self, seconds: float) -> list[psutil.Process]:
        """The processes that are left after so long; empty as soon as there is none."""
        end = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < end:
            time.sleep(0.02)
        return left

    def finished_keys(self) -> set[str]:
        """Keys of whole results: artifacts, and videos that have their record."""
        objects = self.home / "objects"
        artifacts = {path.stem for path in objects.glob("*/*.safetensors")}
        return artifacts | {path.name.split(".")[0] for path in objects.glob("*/*.video.json")}

    def litter(self) -> list[str]:
        """Whatever a finished run has no use for: temporaries, states of unfinished stages, damaged files."""
        files = [path.relative_to(self.folder).as_posix() for path in self.home.rglob("*") if path.is_file()]
        hidden = [path.relative_to(self.folder).as_posix() for path in self.videos.rglob(".*")]
        return sorted(hidden + [path for path in files if not KEPT.fullmatch(path)])

    def made(self) -> dict[str, bytes]:
        """Everything in the videos' folder but the records beside them, which tell times."""
        return {path.name: path.read_bytes() for path in sorted(self.videos.iterdir()) if path.suffix != ".json"}
