"""`upscale-temporal` and `upscale-spatial` as a user runs them: real processes, real files, the tiny model."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.workers.video.films import drawn, packets, turn, write

UPSCALE = ("upscale-temporal", "--model", "tiny", "--json")
IN_CHUNKS = ("--chunk", "41")
COMPILING = 8 << 20
"""What the first worker after an installation may take besides, because Python compiles its modules."""


def upscaled(program: Any, film: Path, output: str, *more: str) -> Any:
    result = program(*UPSCALE, str(film), "-o", output, *more)
    assert result.code == 0, result.err
    return result


@pytest.fixture(scope="module")
def film(shared: Any) -> Path:
    return write(shared.folder / "film.mp4", drawn(12), sound="aac")


@pytest.fixture(scope="module")
def smooth(shared: Any, film: Path) -> Any:
    return upscaled(shared, film, "smooth.mp4")


def test_n_frames_become_2n_minus_1_at_twice_the_rate(
    smooth: Any, shared: Any, film: Path, read_video: Callable[[Path], Any]
) -> None:
    found = read_video(shared.folder / "smooth.mp4")
    assert found.frames.shape == (23, 64, 64, 3)
    assert (found.rate, found.codec) == (50, "h264")
    assert list(found.times) == [Fraction(index, 50) for index in range(23)]
    assert packets(shared.folder / "smooth.mp4") == packets(film), "the sound's bytes, and their times"
    (done,) = smooth.of("video_done")
    assert (done["frames"], done["fps"], done["cached"]) == (23, "50", False)
    assert done["summary"] == "64x64, 12 frames at 25 fps, 0.480 s -> 64x64, 23 frames at 50 fps, 0.460 s"
    made = json.loads(found.metadata["comment"])
    assert made["kind"] == "upscale-temporal"
    assert str(shared.folder) not in found.metadata["comment"], "no word of this machine"


def test_every_network_is_read_by_its_own_process(smooth: Any) -> None:
    done = smooth.of("stage_done")
    assert [event["stage"] for event in done] == ["encode", "temporal", "decode", "join"]
    assert len({event["pid"] for event in done}) == 4
    roles = [(event["stage"], event["role"]) for event in smooth.of("loading")]
    assert roles == [
        ("encode", "statistics"), ("encode", "vae_encoder"), ("temporal", "statistics"), ("temporal", "upsampler"),
        ("decode", "statistics"), ("decode", "vae_decoder"),
    ]  # fmt: skip
    for event in done:
        memory = next(e["memory"] for e in smooth.of("stage_started") if e["stage"] == event["stage"])
        assert event["process_peak"] <= memory["predicted"] * 1.05 + COMPILING, event["stage"]


def test_the_same_again_computes_nothing(smooth: Any, shared: Any, film: Path) -> None:
    again = upscaled(shared, film, "smooth.mp4")
    assert not again.of("stage_started")
    assert again.of("video_done")[0]["cached"]
    other = write(shared.folder / "other.mp4", drawn(12)[::-1].copy())
    refused = shared(*UPSCALE, str(other), "-o", "smooth.mp4")
    assert refused.code == 2
    assert "--overwrite" in refused.of("error")[0]["advice"]


def test_a_copy_elsewhere_is_the_same_video(smooth: Any, shared: Any, film: Path) -> None:
    copy = shared.folder / "a copy: of it.mp4"
    copy.write_bytes(film.read_bytes())
    assert not upscaled(shared, copy, "copied.mp4").of("stage_started")


def test_another_codec_starts_at_decoding(smooth: Any, shared: Any, film: Path) -> None:
    result = upscaled(shared, film, "smooth.mkv", "--codec", "ffv1", "--no-sound")
    assert [event["stage"] for event in result.of("stage_started")] == ["decode", "join"]
    assert any("left out, as asked" in event["message"] for event in result.of("warning"))


def test_the_records_know_it(smooth: Any, shared: Any) -> None:
    listed = [json.loads(line) for line in shared("runs", "list", "--json").out.splitlines()]
    assert "upscale-temporal film.mp4" in [record["prompt"] for record in listed]
    run = next(record["id"] for record in listed if record["prompt"] == "upscale-temporal film.mp4")
    assert shared("runs", "show", run).code == 0
    assert shared("runs", "report", run).code == 0
    for command in (("promote", run), ("decode", run)):
        refused = shared(*command)
        assert refused.code == 2
        assert f"The run {run} made a video from a video" in refused.err


def test_a_turned_video_of_odd_size_and_varying_rate(program: Any, read_video: Callable[[Path], Any]) -> None:
    ticks = [0, 40, 120, 160, 300]
    film = write(program.folder / "film.mp4", drawn(5, 62, 34), ticks=ticks, base=Fraction(1, 1000))
    result = upscaled(program, turn(film), "smooth.mp4")
    found = read_video(program.folder / "smooth.mp4")
    assert found.frames.shape == (9, 62, 34, 3), "upright"
    assert [time * 1000 for time in found.times] == [0, 20, 40, 80, 120, 140, 160, 230, 300]
    words = " ".join(event["message"] for event in result.of("warning"))
    assert "stored upright" in words
    assert "keeps its own time" in words


def test_spatial_upscaling_doubles_the_sides(program: Any, read_video: Callable[[Path], Any]) -> None:
    film = write(program.folder / "film.mkv", drawn(3, 33, 47), codec="ffv1", pixel_format="bgr0", tags=(1, 1, 0))
    result = program("upscale-spatial", str(film), "--model", "tiny", "--json")
    assert result.code == 0, result.err
    found = read_video(program.folder / "film-spatial.mp4")
    assert found.frames.shape == (3, 94, 66, 3)
    assert found.rate == 25
    assert [event["stage"] for event in result.of("stage_started")] == ["encode", "spatial", "decode", "join"]


def test_a_video_of_ours_is_taken_from_its_latent(program: Any, read_video: Callable[[Path], Any]) -> None:
    assert program.generate("--preset", "two-stage", "-o", "ball.mp4").code == 0
    (program.folder / "ball.mp4").rename(program.folder / "renamed.mp4")
    result = upscaled(program, program.folder / "renamed.mp4", "smooth.mp4")
    assert [event["stage"] for event in result.of("stage_started")] == ["temporal", "decode", "join"]
    run = program.runs()[0].name
    assert any(run in event["message"] and "latent is used" in event["message"] for event in result.of("warning"))
    whole = program.generate("-o", "whole.mp4")
    assert "temporal" in [event["stage"] for event in whole.of("stage_cached")], "the very same work as generate's own"
    frames = read_video(program.folder / "smooth.mp4").frames
    assert np.array_equal(frames, read_video(program.folder / "whole.mp4").frames)


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(program: Any, tmp_path: Path) -> None:
    """Chunk by chunk: what was encoded and decoded before stays."""
    film = write(program.folder / "film.mp4", drawn(44, 32, 32), sound="aac")
    undisturbed = upscaled(program, film, "one.mp4", *IN_CHUNKS)
    encoded = [event for event in undisturbed.of("item") if event["stage"] == "encode"]
    assert len(encoded) == 2
    disturbed = type(program)(tmp_path / "other")
    disturbed.folder.mkdir()
    process = disturbed.start(*UPSCALE, str(film), "-o", "two.mp4", *IN_CHUNKS)
    assert process.stdout is not None
    pid = None
    for line in process.stdout:
        event = json.loads(line)
        pid = event["pid"] if event["event"] == "stage_started" else pid
        if event["event"] == "item" and event["stage"] == "decode" and event["index"] == 2:
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            break
    process.communicate(timeout=60)
    assert process.returncode == 7
    resumed = disturbed("resume", "--json")
    assert resumed.code == 0, resumed.err
    assert [event["stage"] for event in resumed.of("stage_started")] == ["decode", "join"]
    items = [event["total"] for event in resumed.of("item") if event["stage"] == "decode"]
    assert items == [1], "the first piece was there"
    assert (disturbed.folder / "two.mp4").read_bytes() == (program.folder / "one.mp4").read_bytes()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_text("no video"), "not a video that can be read"),
        (lambda path: path.touch(), "is empty"),
        (lambda path: path.mkdir(), "not a file"),
        (lambda path: None, "No such file"),
        (lambda path: write(path, drawn(2), codec="libx265", tags=(9, 16, 9)), "HDR"),
    ],
)
def test_what_cannot_be_upscaled_is_refused(program: Any, make: Callable[[Path], object], words: str) -> None:
    film = program.folder / "film.mp4"
    make(film)
    refused = program(*UPSCALE, str(film), "-o", "smooth.mp4")
    assert refused.code == 2
    assert words in refused.of("error")[0]["message"]
    assert not program.runs()
    assert not (program.folder / "smooth.mp4").exists()


def test_the_video_itself_is_no_output(program: Any) -> None:
    film = write(program.folder / "film.mp4", drawn(2))
    before = film.read_bytes()
    (program.folder / "link.mp4").symlink_to(film)
    os.link(film, program.folder / "hard.mp4")
    for name in ("film.mp4", "link.mp4", "hard.mp4"):
        refused = program(*UPSCALE, str(film), "-o", name, "--overwrite")
        assert refused.code == 2
        assert "the video itself" in refused.of("error")[0]["message"]
    assert film.read_bytes() == before


def test_flags_that_cannot_be(program: Any) -> None:
    film = write(program.folder / "film.mkv", drawn(2), sound="pcm_u8")
    for more, words in (
        (("--codec", "ffv1"), "ffv1"),
        (("--codec", "divx"), "divx"),
        (("--dtype", "int8"), "int8"),
        (("--memory", "much"), "--memory"),
        (("--chunk", "40"), "--chunk 40"),
        (("--tiles", "64x8"), "--tiles cannot be used"),
        ((), "pcm_u8"),
        (("-o", "none/out.mp4"), "does not exist"),
    ):
        arguments = more if "-o" in more else ("-o", "out.mp4", *more)
        refused = program(*UPSCALE, str(film), *arguments)
        assert refused.code == 2
        assert words in refused.of("error")[0]["message"]


def test_a_budget_that_nothing_fits(program: Any) -> None:
    film = write(program.folder / "film.mp4", drawn(2))
    refused = program(*UPSCALE, str(film), "-o", "out.mp4", "--memory", "64MB")
    assert refused.code == 4
    assert "--memory" in refused.of("error")[0]["advice"]
