"""Frames of a finished video for a report: which ones, and that a long video is not read from beginning to end."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from orchestrator.report import stills
from workers.video.writer import VideoWriter

FRAMES = 90


@pytest.fixture(scope="module", params=["h264", "ffv1"])
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frame n is grey, 2n + 30 bright."""
    path = tmp_path_factory.mktemp("stills") / "video"
    with VideoWriter(path, width=64, height=32, fps=Fraction(24), codec=request.param) as writer:
        for index in range(FRAMES):
            writer.write(np.full((1, 32, 64, 3), 2 * index + 30, np.uint8))
    return path


def numbers(pictures: tuple[bytes, ...]) -> list[int]:
    """Which frame each picture shows."""
    found = []
    for picture in pictures:
        with av.open(io.BytesIO(picture)) as container:
            frame = next(container.decode(video=0))
        found.append(round((float(frame.to_ndarray(format="gray").mean()) - 30) / 2))
    return found


def test_spread_evenly_with_the_first_and_the_last(video: Path, tmp_path: Path) -> None:
    found = numbers(stills.make(tmp_path, "k" * 64, video, FRAMES))
    assert np.abs(np.subtract(found, stills.chosen(FRAMES, stills.COUNT))).max() <= 1


def test_a_long_video_is_sought(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stills, "MOST_IN_ORDER", FRAMES - 1)
    found = numbers(stills.make(tmp_path, "k" * 64, video, FRAMES))
    assert np.abs(np.subtract(found, stills.chosen(FRAMES, stills.COUNT))).max() <= 2


def test_a_file_that_is_no_video_has_none(tmp_path: Path) -> None:
    (tmp_path / "video").write_bytes(b"no video")
    assert stills.make(tmp_path, "k" * 64, tmp_path / "video", FRAMES) == ()
