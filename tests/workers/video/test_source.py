"""Reading a video from outside: the right frames, upright, in their colours and at their times; or a sentence."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.workers.video.films import drawn, turn, write
from weights.errors import UsageError
from workers.inspect import inspect
from workers.video.source import VideoSource
from workers.video.times import at, steady_rate


def read(path: Path) -> np.ndarray:
    with VideoSource(path) as video:
        return np.stack([video.picture(shown.frame) for shown in video])


def error(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other).mean())


@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format", "rate"),
    [
        (".mp4", "libx264", "yuv420p", "25"),
        (".mkv", "libx264", "yuv444p", "24000/1001"),
        (".mp4", "libx265", "yuv420p10le", "30"),
        (".webm", "libvpx-vp9", "yuv420p", "30000/1001"),
        (".mkv", "libsvtav1", "yuv420p", "60"),
        (".mov", "prores_ks", "yuv422p10le", "50"),
        (".mkv", "ffv1", "bgr0", "25"),
        (".ts", "mpeg2video", "yuv420p", "25"),
        (".avi", "mpeg4", "yuv420p", "24"),
    ],
)
def test_every_usual_kind(tmp_path: Path, suffix: str, codec: str, pixel_format: str, rate: str) -> None:
    frames = drawn(9)
    rgb = pixel_format == "bgr0"
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    options |= {"b": "4000000"} if codec in ("mpeg2video", "mpeg4", "libvpx-vp9", "libsvtav1") else {}
    path = write(
        tmp_path / f"film{suffix}", frames, codec=codec, rate=Fraction(rate), pixel_format=pixel_format,
        options=options, tags=(1, 1, 0) if rgb else (1, 1, 1),
    )  # fmt: skip
    facts = inspect(path)
    assert (facts["frames"], facts["rate"], facts["width"], facts["height"]) == (9, rate, 64, 64)
    assert facts["depth"] == (10 if "10" in pixel_format else 8)
    assert not facts["damaged"]
    assert error(read(path), frames) < 4, "colours are right"


def test_a_turned_video_is_read_upright(tmp_path: Path) -> None:
    frames = drawn(3, width=96, height=64)
    path = turn(write(tmp_path / "film.mp4", frames))
    facts = inspect(path)
    assert (facts["width"], facts["height"], facts["rotation"]) == (64, 96, 270)
    assert error(read(path), np.rot90(frames, -1, axes=(1, 2))) < 4, "clockwise by a quarter"


def test_odd_sides(tmp_path: Path) -> None:
    frames = drawn(3, width=65, height=47)
    path = write(tmp_path / "film.mkv", frames, codec="ffv1", pixel_format="bgr0", tags=(1, 1, 0))
    assert np.array_equal(read(path), frames)


def test_a_rate_that_varies_has_none(tmp_path: Path) -> None:
    ticks = [0, 40, 80, 200, 210, 400, 440]
    path = write(tmp_path / "film.mkv", drawn(7), ticks=ticks, base=Fraction(1, 1000))
    facts = inspect(path)
    assert facts["rate"] is None
    assert facts["ticks"] == ticks


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".txt"])
def test_a_text_is_no_video(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"film{suffix}"
    path.write_text("This is no video, whatever its name says.\n" * 20)
    with pytest.raises(UsageError, match=f"film{suffix}"):
        inspect(path)


def test_a_list_of_other_files_is_not_followed(tmp_path: Path) -> None:
    film = write(tmp_path / "film.ts", drawn(3), codec="mpeg2video")
    path = tmp_path / "list.m3u8"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{film.name}\n#EXT-X-ENDLIST\n")
    with pytest.raises(UsageError, match=r"list\.m3u8 is not a video|no video itself"):
        inspect(path)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    for name, words in (("none.mp4", "No such file"), ("empty.mp4", "is empty"), (".", "is not a file")):
        with pytest.raises(UsageError, match=words):
            inspect(tmp_path / name)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    import av

    from tests.workers.video.films import tone

    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as output:
        tone(output, output.add_stream("aac", rate=48000), 0.2)
    with pytest.raises(UsageError, match="has no video"):
        inspect(path)


def test_a_file_that_breaks_off_gives_what_it_has(tmp_path: Path) -> None:
    path = write(tmp_path / "film.mkv", drawn(40), options={"g": "5"})
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * 6 // 10])
    facts = inspect(path)
    assert 5 < facts["frames"] < 40
    assert facts["broken_off"]


def test_an_mp4_without_its_index_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "film.mp4", drawn(20))
    path.write_bytes(path.read_bytes()[:-1500])
    with pytest.raises(UsageError, match="not a video that can be read"):
        inspect(path)


def test_a_flipped_byte_loses_frames_not_the_reader(tmp_path: Path) -> None:
    path = write(tmp_path / "film.mkv", drawn(20), options={"g": "5"})
    raw = bytearray(path.read_bytes())
    for place in range(len(raw) // 3, len(raw) // 3 + 200):
        raw[place] ^= 0x5A
    path.write_bytes(bytes(raw))
    facts = inspect(path)
    assert 0 < facts["frames"] <= 20
    assert facts["ticks"] == sorted(set(facts["ticks"])), "times rise"


def test_tracks_say_whether_the_new_file_can_hold_them(tmp_path: Path) -> None:
    path = write(tmp_path / "film.mkv", drawn(5), sound="pcm_s16le")
    (fits,) = inspect(path, "mov")["tracks"]
    assert (fits["kind"], fits["codec"], fits["fits"]) == ("audio", "pcm_s16le", True)
    coarse = write(tmp_path / "coarse.mkv", drawn(5), sound="pcm_u8")
    assert [track["fits"] for track in inspect(coarse, "mp4")["tracks"]] == [False]
    assert [track["fits"] for track in inspect(coarse, "matroska")["tracks"]] == [True]


def test_a_steady_rate_is_found_through_a_clock_of_milliseconds() -> None:
    ntsc = Fraction(24000, 1001)
    ticks = [round(1000 * index / ntsc) for index in range(5000)]
    assert steady_rate(ticks, Fraction(1, 1000), [Fraction(24), ntsc]) == ntsc
    ticks[3000] += 3
    assert steady_rate(ticks, Fraction(1, 1000), [ntsc]) is None
    assert steady_rate([0, 1, 3], Fraction(1, 25), [Fraction(25)]) is None, "a coarse clock has no slack"
    assert steady_rate([0, 1], Fraction(1, 25), [Fraction(100)]) is None


def test_times_go_on_before_the_first_and_after_the_last() -> None:
    assert [at([10, 20, 50], index) for index in (-2, -1, 0, 2, 3)] == [-10, 0, 10, 50, 80]
    assert at([7], -1) == 6
