"""Pieces become one file: every picture once, at its time; sound byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from tests.workers.video.films import drawn, packets, write
from weights.errors import WorkerFailed
from workers.video.codecs import CODECS
from workers.video.joining import Track, join
from workers.video.writer import VideoWriter

RATE = Fraction(50)


def pieces(
    folder: Path, counts: tuple[int, ...] = (20, 7, 1), codec: str = "h264", crf: int | None = None
) -> list[Path]:
    frames, made, done = drawn(sum(counts)), [], 0
    for index, count in enumerate(counts):
        path = folder / f"piece{index}{next(iter(CODECS[codec].containers))}"
        with VideoWriter(path, width=64, height=64, fps=RATE, codec=codec, crf=crf) as video:
            video.write(frames[done : done + count])
        made.append(path)
        done += count
    return made


def steady(count: int) -> Track:
    return Track(range(count), 1 / RATE, 1, RATE)


@pytest.mark.parametrize(
    ("codec", "container", "suffix"),
    [
        ("h264", "mp4", ".mp4"),
        ("h264", "matroska", ".mkv"),
        ("hevc", "mov", ".mov"),
        ("prores", "mov", ".mov"),
        ("ffv1", "matroska", ".mkv"),
    ],
)
def test_all_codecs(tmp_path: Path, codec: str, container: str, suffix: str, read_video: Callable[[Path], Any]) -> None:
    path = tmp_path / f"whole{suffix}"
    join(path, pieces(tmp_path, codec=codec), steady(28), container=container, title="a", comment="b")
    found = read_video(path)
    assert len(found.frames) == 28
    assert found.rate == RATE
    assert all(abs(time - index / RATE) < Fraction(1, 999) for index, time in enumerate(found.times))
    assert found.metadata["comment"] == "b"
    squares = found.frames[:, 4, 4].mean(axis=1)
    assert list(squares) == sorted(squares), "in their order"
    assert abs(float(squares[27] - squares[0]) - 6 * 27) < 8
    if codec == "hevc":
        assert found.codec_tag == "hvc1"
    with av.open(str(path)) as opened:
        times = [p.dts for p in opened.demux(opened.streams.video[0]) if p.dts is not None]
    assert all(before < after for before, after in pairwise(times)), "decoding times rise"


def test_every_picture_has_its_own_time(tmp_path: Path, read_video: Callable[[Path], Any]) -> None:
    times, now = [], 40
    for index in range(28):
        times.append(now)
        now += 7 + 31 * (index % 3)
    path = tmp_path / "whole.mp4"
    join(path, pieces(tmp_path), Track(times, Fraction(1, 2000), 100, RATE), container="mp4")
    found = read_video(path)
    assert [time * 2000 for time in found.times] == times
    with av.open(str(path)) as opened:
        stream = opened.streams.video[0]
        assert stream.duration is not None
        end = stream.duration * (stream.time_base or 0)
    assert end * 2000 >= times[-1] - times[0], "no player stops before the last frame"


def test_sound_is_copied(tmp_path: Path) -> None:
    source = write(tmp_path / "film.mp4", drawn(14), sound="aac")
    path = tmp_path / "whole.mp4"
    join(path, pieces(tmp_path), steady(28), container="mp4", sound=source, tracks=[1])
    assert packets(path) == packets(source)


def test_sound_is_shifted_with_a_file_that_begins_late(tmp_path: Path) -> None:
    source = write(tmp_path / "film.ts", drawn(14), codec="mpeg2video", sound="mp2")
    with av.open(str(source)) as opened:
        origin = Fraction(opened.start_time or 0, av.time_base)
    assert origin > Fraction(1, 100), "as MPEG-TS does"
    path = tmp_path / "whole.mkv"
    join(path, pieces(tmp_path), steady(28), container="matroska", sound=source, tracks=[1], origin=origin)
    before, after = packets(source), packets(path)
    assert [data for _, data in before] == [data for _, data in after]
    assert all(abs(a[0] - origin - b[0]) < Fraction(1, 500) for a, b in zip(before, after, strict=True))


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    source = write(tmp_path / "film.mp4", drawn(14), sound="aac")
    made = pieces(tmp_path)
    for name in ("one", "two"):
        join(tmp_path / name, made, steady(28), container="mp4", sound=source, tracks=[1])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_pieces_that_do_not_match_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    mixed = [pieces(tmp_path / "a", (9,))[0], pieces(tmp_path / "b", (9,), codec="hevc")[0]]
    with pytest.raises(WorkerFailed, match="same settings"):
        join(tmp_path / "whole.mp4", mixed, steady(18), container="mp4")
    assert not (tmp_path / "whole.mp4").exists()


def test_a_missing_frame_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(WorkerFailed, match="28 frames, and 29"):
        join(tmp_path / "whole.mp4", pieces(tmp_path), steady(29), container="mp4")
    assert not (tmp_path / "whole.mp4").exists()
