"""What a video file is: asked of a process of its own, which decodes it once (`workers.inspect`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

from orchestrator.environment import WorkerEnvironment
from weights.errors import UsageError, WorkerFailed


@dataclass(frozen=True)
class SoundTrack:
    """A sound track or a subtitle (`kind`). fits: whether the new file's container can hold it."""

    index: int
    kind: str
    codec: str
    language: str
    fits: bool

    @property
    def words(self) -> str:
        what = "sound track" if self.kind == "audio" else "subtitle"
        return f"{what} {self.index} ({self.codec}{', ' + self.language if self.language else ''})"


@dataclass(frozen=True)
class Facts:
    """Sizes in pixels, upright. `ticks`: when each frame is shown, in units of `time_base` seconds; `origin`: the
    second at which the file begins; `last`: seconds that the last frame is shown. rate: None where it is not steady.

    damaged: packets that could not be decoded; other_sizes: frames of another size than the first; missing: frames that
    the file promises and does not have; both are left out of `frames`. others: streams that are neither.
    """

    format: str
    codec: str
    frames: int
    ticks: tuple[int, ...]
    time_base: Fraction
    origin: Fraction
    rate: Fraction | None
    usual_rate: Fraction
    last: Fraction
    width: int
    height: int
    rotation: int
    aspect: Fraction
    pixel_format: str
    depth: int
    alpha: bool
    transfer: int
    primaries: int
    interlaced: bool
    damaged: int
    other_sizes: int
    missing: int
    broken_off: bool
    tracks: tuple[SoundTrack, ...]
    others: int
    bytes: int
    sha256: str

    @property
    def seconds(self) -> Fraction:
        """How long the pictures take."""
        return (self.ticks[-1] - self.ticks[0]) * self.time_base + self.last

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> Facts:
        """KeyError, TypeError, ValueError for what is none."""
        values = {field.name: raw[field.name] for field in fields(Facts)}
        for name in ("time_base", "origin", "usual_rate", "last", "aspect"):
            values[name] = Fraction(values[name])
        values["rate"] = None if values["rate"] is None else Fraction(values["rate"])
        values["ticks"] = tuple(values["ticks"])
        values["tracks"] = tuple(SoundTrack(**track) for track in values["tracks"])
        return Facts(**values)


def look(path: Path, container: str, environment: WorkerEnvironment) -> Facts:
    """UsageError when the file is no video that can be read. container: FFmpeg's name of the new file's format."""
    words = [sys.executable, "-P", "-m", "workers.inspect", str(path), container, "watched"]
    answer = _run(words, environment.variables)
    lines = answer.stdout.strip().splitlines()
    try:
        raw = json.loads(lines[-1]) if lines else {}
        if "problem" in raw:
            raise UsageError(str(raw["problem"]), advice=str(raw.get("advice", "")))
        return Facts.from_json(raw)
    except (ValueError, KeyError, TypeError) as error:
        reason = (answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"])[-1]
        raise WorkerFailed(f"{path} could not be looked at: {reason:.300}") from error


def _run(words: Sequence[str], variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Its stdin is a pipe that is never written: it ends when this process does, however that goes."""
    try:
        ours, held = os.pipe()
        try:
            return subprocess.run(
                words, env=dict(variables), stdin=ours, capture_output=True, text=True, errors="replace"
            )
        finally:
            os.close(ours)
            os.close(held)
    except OSError as error:
        raise WorkerFailed(f"No process could be started: {error}.") from error
