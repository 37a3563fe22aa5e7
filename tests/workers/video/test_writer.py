"""The video writer: real encodes of small clips, decoded again."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from weights.errors import DoesNotFit, RelayError, UsageError
from workers.video import codecs, writer
from workers.video.writer import VideoWriter

FILES = [
    ("h264", "mp4"),
    ("h264", "mov"),
    ("h264", "matroska"),
    ("hevc", "mp4"),
    ("hevc", "mov"),
    ("hevc", "matroska"),
    ("prores", "mov"),
    ("ffv1", "matroska"),
]
NTSC = Fraction(24000, 1001)
NOISE = np.random.default_rng(0).integers(0, 256, (30, 128, 192, 3), dtype=np.uint8)


def pattern(frames: int, height: int = 64, width: int = 96) -> np.ndarray:
    """Slow gradients that move: every frame differs from its neighbours, and compresses like a picture."""
    t, y, x = np.ogrid[:frames, :height, :width]
    wave = [np.sin((y + 2 * t) / 17) + 0 * x, np.cos((x - 3 * t) / 23) + 0 * y, np.sin((x + y + 5 * t) / 31)]
    return (127.5 + 110 * np.stack(np.broadcast_arrays(*wave), -1)).astype(np.uint8)


def write(path, frames, codec="h264", fps=Fraction(24), **settings):
    with VideoWriter(path, width=frames.shape[2], height=frames.shape[1], fps=fps, codec=codec, **settings) as video:
        video.write(frames)
    return path


@pytest.mark.parametrize(("codec", "container"), FILES)
@pytest.mark.parametrize("fps", [Fraction(24), NTSC, Fraction(50), Fraction(8)])
@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_every_frame_comes_back_at_its_time(tmp_path, read_video, codec, container, fps, count):
    frames = pattern(count)
    video = read_video(write(tmp_path / "clip", frames, codec, fps, container=container))

    assert video.rate == fps
    assert video.codec == codec
    tolerance = Fraction(1, 1000) if container == "matroska" else 0
    assert len(video.times) == count
    assert all(abs(time - n / fps) <= tolerance for n, time in enumerate(video.times))
    assert abs(video.duration - count / fps) <= Fraction(1, 1000)
    # In the right order: each decoded frame is nearer to its own source than to any other.
    errors = np.abs(video.frames[:, None].astype(float) - frames[None]).mean((2, 3, 4))
    assert (errors.argmin(1) == np.arange(count)).all()
    assert errors.diagonal().max() < 3


@pytest.mark.parametrize(("codec", "container"), FILES)
def test_colours_are_converted_as_the_tags_say(tmp_path, read_video, codec, container):
    """Flat colours: the planes hold what BT.709 prescribes, and a player sees the colours again."""
    for colour in [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (230, 132, 13), (92, 145, 39)]:
        frames = np.tile(np.array(colour, np.uint8), (3, 32, 64, 1))
        video = read_video(write(tmp_path / "flat", frames, codec, container=container))

        error = np.abs(video.frames.astype(float) - frames).max()
        if codec == "ffv1":
            assert error == 0
            continue
        assert error <= 2
        assert video.tags == (1, 1, 1, 1)
        scale = 1 if codec == "h264" else 4
        red, green, blue = (value / 255 for value in colour)
        luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        expected = (
            16 + 219 * luma,
            128 + 224 * (blue - luma) / 1.8556,
            128 + 224 * (red - luma) / 1.5748,
        )
        for plane, value in zip(video.planes, expected, strict=True):
            assert abs(float(plane.mean()) - scale * value) < scale


def test_ffv1_is_lossless_even_for_noise_at_odd_sizes(tmp_path, read_video):
    frames = np.random.default_rng(0).integers(0, 256, (5, 63, 95, 3), dtype=np.uint8)
    video = read_video(write(tmp_path / "noise", frames, "ffv1"))

    np.testing.assert_array_equal(video.frames, frames)
    assert video.tags[:3] == (1, 1, 0)


def test_the_stream_is_of_the_kind_that_players_expect(tmp_path, read_video):
    expected = {
        ("h264", "mp4"): ("avc1", "yuv420p"),
        ("hevc", "mp4"): ("hvc1", "yuv420p10le"),
        ("hevc", "mov"): ("hvc1", "yuv420p10le"),
        ("prores", "mov"): ("apch", "yuv422p10le"),
    }
    for (codec, container), kind in expected.items():
        video = read_video(write(tmp_path / "clip", pattern(2), codec, container=container))
        assert (video.codec_tag, video.pixel_format) == kind


@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_the_index_comes_before_the_frames(tmp_path, container):
    data = write(tmp_path / "clip", pattern(2), container=container).read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(("codec", "container"), FILES)
def test_metadata_comes_back(tmp_path, read_video, codec, container):
    prompt = 'A "red" ball\nbouncing; on \\grass\\ = #1\t— 赤い玉 🎈 Zoë\'s ' + "very " * 12_000 + "long"
    metadata = {"title": 'Ball "1"', "comment": json.dumps({"prompt": prompt}, ensure_ascii=False)}
    assert len(metadata["comment"]) > 60_000
    video = read_video(write(tmp_path / "clip", pattern(1), codec, container=container, metadata=metadata))

    assert {key: video.metadata[key] for key in metadata} == metadata


def test_unknown_metadata_is_refused_rather_than_lost(tmp_path):
    with pytest.raises(ValueError, match="mood"):
        write(tmp_path / "clip", pattern(1), metadata={"mood": "happy"})


def test_frames_written_one_by_one_give_the_same_file(tmp_path):
    frames = pattern(9)
    whole = write(tmp_path / "whole", frames).read_bytes()
    with VideoWriter(tmp_path / "parts", width=96, height=64, fps=Fraction(24)) as video:
        for frame in frames:
            video.write(frame[None])
        video.write(frames[:0])
        assert video.frames == 9

    assert (tmp_path / "parts").read_bytes() == whole


ENCODE_ALL = """
import hashlib, sys
from fractions import Fraction
import numpy as np
from workers.video.codecs import CODECS
from workers.video.writer import VideoWriter
t, y, x = np.ogrid[:12, :128, :192]
rng = np.random.default_rng(0)
frames = np.stack(np.broadcast_arrays(x * 3 + t * 4, y * 5 + t * 2, x + y + t), -1).astype(np.uint8)
frames[:, 32:64, 48:96] = rng.integers(0, 256, (32, 48, 3))
for codec in CODECS:
    for size, count in ((64, 12), (128, 12), (64, 1)):
        with VideoWriter(sys.argv[1], width=96, height=size, fps=Fraction(24), codec=codec) as video:
            video.write(frames[:count, :size, :96])
        print(codec, size, count, hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())
"""


def test_the_same_frames_give_the_same_bytes_whatever_was_in_memory(tmp_path):
    """glibc fills fresh memory with the given byte: an encoder that reads what it never wrote gives itself away."""
    results = [
        subprocess.run(
            [sys.executable, "-c", ENCODE_ALL, str(tmp_path / "clip")],
            env={"PYTHONPATH": str(Path(codecs.__file__).parents[2]), "MALLOC_PERTURB_": perturb},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for perturb in ("0", "85", "170")
    ]
    assert results[0].count("\n") == 3 * len(codecs.CODECS)
    assert results[1:] == results[:1] * 2


def test_the_stream_names_no_property_of_the_machine(tmp_path):
    """The encoders note their settings in the stream: threads are ours, the CPU is not there."""
    assert f"threads={codecs.THREADS} ".encode() in write(tmp_path / "clip", pattern(1), "h264").read_bytes()
    assert b"cpuid" not in write(tmp_path / "clip", pattern(1), "hevc").read_bytes()


def test_frames_reach_the_file_as_they_come(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (1, 256, 384, 3), dtype=np.uint8)
    sizes = []
    with VideoWriter(tmp_path / "clip", width=384, height=256, fps=Fraction(24), codec="prores") as video:
        for _ in range(60):
            video.write(frames)
            sizes.append((tmp_path / "clip").stat().st_size)
    assert 0 < sizes[20] < sizes[40] < sizes[59]


def test_a_lower_crf_is_nearer_to_the_source(tmp_path, read_video):
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8).repeat(2, 1)
    for codec in ("h264", "hevc"):
        errors = [
            np.abs(read_video(write(tmp_path / "clip", frames, codec, crf=crf)).frames.astype(int) - frames).mean()
            for crf in (5, 40)
        ]
        assert errors[0] < errors[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"codec": "vp9"}, "--codec vp9"),
        ({"container": "avi"}, "avi"),
        ({"codec": "prores", "container": "mp4"}, "prores"),
        ({"width": 95}, "95x64"),
        ({"height": 63}, "96x63"),
        ({"codec": "hevc", "width": 16, "height": 16}, "16x16"),
        ({"width": 0}, "0x64"),
        ({"fps": Fraction(0)}, "frame rate"),
        ({"crf": 0}, "CRF"),
        ({"crf": 52}, "CRF"),
        ({"codec": "ffv1", "crf": 10}, "CRF"),
    ],
)
def test_what_cannot_be_encoded_is_refused_before_a_file_exists(tmp_path, settings, message):
    path = tmp_path / "clip"
    with pytest.raises(UsageError, match=message):
        VideoWriter(path, **{"width": 96, "height": 64, "fps": Fraction(24), **settings})
    assert not path.exists()


def test_a_missing_encoder_is_named_with_the_flag(tmp_path, monkeypatch):
    lacking = dataclasses.replace(codecs.codec("hevc"), encoders=(codecs.Encoder("libnothing", "yuv420p"),))
    monkeypatch.setattr(writer, "codec", lambda name: lacking)
    with pytest.raises(UsageError, match="--codec hevc needs the encoder libnothing"):
        VideoWriter(tmp_path / "clip", width=96, height=64, fps=Fraction(24), codec="hevc")


def test_the_first_encoder_that_exists_is_used(tmp_path, monkeypatch, read_video):
    h264 = codecs.codec("h264")
    monkeypatch.setattr(
        writer,
        "codec",
        lambda name: dataclasses.replace(h264, encoders=(codecs.Encoder("libnothing", "yuv420p"), *h264.encoders)),
    )
    assert read_video(write(tmp_path / "clip", pattern(2))).codec == "h264"


@pytest.mark.parametrize("codec", list(codecs.CODECS))
def test_no_partial_file_is_left_when_the_caller_fails(tmp_path, codec):
    path = tmp_path / "clip"

    def fail_after_three_frames():
        with VideoWriter(path, width=96, height=64, fps=Fraction(24), codec=codec) as video:
            video.write(pattern(3))
            assert path.exists()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_three_frames()
    assert not path.exists()


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((1, 64, 96, 3), np.float32),
        np.zeros((64, 96, 3), np.uint8),
        np.zeros((1, 96, 64, 3), np.uint8),
        np.zeros((1, 64, 96, 4), np.uint8),
    ],
)
def test_frames_of_another_kind_are_refused(tmp_path, frames):
    path = tmp_path / "clip"
    with (
        pytest.raises(ValueError, match="uint8"),
        VideoWriter(path, width=96, height=64, fps=Fraction(24)) as video,
    ):
        video.write(frames)
    assert not path.exists()


def test_a_video_without_frames_is_an_error(tmp_path):
    path = tmp_path / "clip"
    with pytest.raises(RelayError, match="No frame"), VideoWriter(path, width=96, height=64, fps=Fraction(24)):
        pass
    assert not path.exists()


def test_a_path_that_cannot_be_written_is_a_usage_error(tmp_path):
    for path in (tmp_path / "missing" / "clip.mp4", tmp_path):
        with pytest.raises(UsageError, match="cannot be written"):
            write(path, pattern(1))
    assert tmp_path.is_dir()


def test_a_file_that_cannot_be_opened_is_left_alone(tmp_path, monkeypatch):
    path = tmp_path / "clip"
    path.write_text("somebody's")

    def refuse(self, *arguments):
        raise PermissionError(13, "Permission denied", str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refuse)
        with pytest.raises(UsageError, match="Permission denied"):
            write(path, pattern(1))
    assert path.read_text() == "somebody's"


@pytest.mark.parametrize("name", ["http:clip 1.mp4", "clip-%03d.mp4", "Zoë's 猫.mp4", "clip"])
def test_any_file_name_is_a_file_name(tmp_path, monkeypatch, read_video, name):
    monkeypatch.chdir(tmp_path)
    write(name, pattern(1))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(read_video(Path(name)).frames) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize("codec", list(codecs.CODECS))
@pytest.mark.parametrize("frames", [pattern(2), NOISE], ids=["noticed at the end", "noticed on the way"])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, codec, frames):
    path = tmp_path / "clip"
    path.symlink_to("/dev/full")
    with pytest.raises(DoesNotFit, match="disk is full"):
        write(path, frames, codec)
    assert not path.is_symlink()
    assert Path("/dev/full").is_char_device()


def test_the_table_knows_which_file_takes_which_codec():
    assert codecs.codec("h264").container(".MP4") == "mp4"
    assert codecs.codec("ffv1").container(".mkv") == "matroska"
    for name, suffix in [("prores", ".mp4"), ("ffv1", ".mov"), ("h264", ".avi"), ("h264", "")]:
        with pytest.raises(UsageError, match=f"--codec {name}"):
            codecs.codec(name).container(suffix)


def test_the_table_loads_no_ffmpeg():
    code = "import sys, workers.video.codecs; sys.exit('av' in sys.modules or 'mlx' in sys.modules)"
    root = Path(codecs.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def test_pixels_need_not_be_square(tmp_path):
    import av

    path = tmp_path / "wide.mp4"
    with VideoWriter(path, width=64, height=32, fps=Fraction(25), aspect=Fraction(4, 3)) as video:
        video.write(np.zeros((2, 32, 64, 3), np.uint8))
    with av.open(str(path)) as opened:
        assert opened.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
