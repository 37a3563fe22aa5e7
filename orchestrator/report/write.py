"""Writes `report.html` into a run's folder."""

from __future__ import annotations

import re
from pathlib import Path

from cache.durable import publish_text
from cache.home import Home
from cache.runs import Run
from orchestrator.report import stills
from orchestrator.report.facts import Facts, Video, facts_of
from orchestrator.report.page import Pictures, page
from orchestrator.run_record import run_record

MANY = 4
"""Of more videos than that each shows fewer stills, and of more than `MOST` the rest shows none."""
MOST = 24
QUICK = 30_000_000
"""Pixels of a video that are read in the blink of an eye: so much may be decoded at the end of a cached run."""
PICTURE_LIMIT = 4 << 20
_KEY = re.compile(r"[0-9a-f]{64}")


def write_report(home: Home, run: Run, *, quickly: bool = False) -> Path:
    """Makes the report from the run's records and returns its path. quickly: leaves out what takes long to read.

    RelayError when the records cannot be read, or the report cannot be written.
    """
    facts = facts_of(run_record(run), run.read_events())
    publish_text(run.report_path, page(facts, pictures(home, run, facts, quickly)))
    return run.report_path


def pictures(home: Home, run: Run, facts: Facts, quickly: bool) -> Pictures:
    found = {}
    for video in facts.videos[:MOST]:
        shown = stills_of(home, run, video, quickly)
        found[video.path] = shown[:: -(-len(shown) // 4)] if len(facts.videos) > MANY and shown else shown
    if facts.videos:
        return Pictures(found)
    sheet = read(run.previews / "stage1.png")
    return Pictures(sheet=sheet, previews=() if sheet else under_way(run))


def stills_of(home: Home, run: Run, video: Video, quickly: bool) -> tuple[bytes, ...]:
    if not _KEY.fullmatch(video.key):
        return ()
    found = stills.kept(home, run.previews, video.key)
    if found or (quickly and video.width * video.height * video.frames > QUICK):
        return found
    return stills.make(run.previews, video.key, Path(video.path), video.frames)


def under_way(run: Run) -> tuple[tuple[str, bytes], ...]:
    """The last previews of denoising, of a run that has no video."""
    found = []
    for path in sorted(run.previews.glob("stage?-*.png"))[-MANY:]:
        picture = read(path)
        if picture:
            found.append((path.stem.replace("stage", "stage ").replace("-", ", seed "), picture))
    return tuple(found)


def read(path: Path) -> bytes | None:
    try:
        with open(path, "rb") as file:
            data = file.read(PICTURE_LIMIT + 1)
    except OSError:
        return None
    return data if len(data) <= PICTURE_LIMIT else None
