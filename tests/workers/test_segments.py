"""A video in chunks: what is read of the file, and how one chunk fades into the next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import weights
from cache.artifacts import Tensor, publish
from cache.home import open_home
from cache.videos import publish_video
from tests.workers.video.films import drawn, write
from weights.errors import ArtifactError, UsageError
from weights.fingerprint import fingerprint
from workers.channel import EventChannel
from workers.context import Context
from workers.protocol import Item, Job, WeightsUse
from workers.stages import segments
from workers.stages.encode import chunks
from workers.stages.join import whole
from workers.stages.segments import fade, mixed
from workers.video.source import VideoSource

DEV = Path(weights.__path__[0]) / "tiny" / "ltx-2-tiny-dev.safetensors"


def encode_job(path: Path, items: Sequence[tuple[int, int, int]], padding: tuple[int, int, int, int]) -> Job:
    made = tuple(
        Item(str(start), "", {}, {"start": start, "frames": count, "padded": padded}) for start, count, padded in items
    )
    status = path.stat()
    params: dict[str, Any] = {"video": str(path), "seen": [status.st_size, status.st_mtime_ns], "padding": padding}
    return Job("encode", made, (), "", params=params)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = drawn(40, width=50, height=30)
    return write(
        tmp_path_factory.mktemp("film") / "film.mkv", frames, codec="ffv1", pixel_format="bgr0", tags=(1, 1, 0)
    )


@pytest.mark.parametrize(
    "items",
    [
        [(0, 25, 25), (8, 25, 25), (16, 24, 25)],
        [(16, 24, 25)],
        [(0, 25, 25), (16, 24, 25)],
        [(3, 5, 9), (30, 10, 17)],
    ],
)
def test_each_chunk_has_its_frames(film: Path, items: list[tuple[int, int, int]]) -> None:
    """All of them, and any that are left after an interruption; the last frame is repeated, the border too."""
    frames = drawn(40, width=50, height=30)
    job = encode_job(film, items, (1, 1, 7, 7))
    context = Context(job, EventChannel(None))
    found = [(item.key, np.array(chunk)) for item, chunk in chunks(job, context)]
    assert [key for key, _ in found] == [str(start) for start, _, _ in items]
    for (_, chunk), (start, count, padded) in zip(found, items, strict=True):
        assert chunk.shape == (padded, 32, 64, 3)
        assert np.array_equal(chunk[:count, 1:-1, 7:-7], frames[start : start + count])
        assert (chunk[count:] == chunk[count - 1]).all()
        assert (chunk[:, 0] == chunk[:, 1]).all()
        assert (chunk[:, :, :7] == chunk[:, :, 7:8]).all()


def test_a_file_that_changed_is_refused(film: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.mp4", drawn(5))
    job = encode_job(other, [(0, 9, 9)], (0, 0, 0, 0))
    with pytest.raises(UsageError, match="only 5 frames"):
        list(chunks(job, Context(job, EventChannel(None))))
    job = encode_job(other, [(0, 5, 9)], (0, 0, 0, 0))
    content = other.read_bytes()
    for changed in (content[::-1], content + b"more"):
        other.write_bytes(changed)
        with pytest.raises(UsageError, match="changed"):
            list(chunks(job, Context(job, EventChannel(None))))


def test_pieces_are_verified_before_they_are_joined(tmp_path: Path) -> None:
    home, keys = open_home(tmp_path / "home"), ("a" * 64, "b" * 64)
    for key in keys:
        made = home.tmp / key
        made.write_bytes(key.encode() * 10)
        publish_video(home, key, made, ".mp4")
    pieces = [home.object_path(key, ".mp4") for key in keys]
    assert list(whole(home, pieces)) == pieces
    pieces[1].write_bytes(pieces[1].read_bytes().upper())
    found = whole(home, pieces)
    assert next(found) == pieces[0]
    with pytest.raises(ArtifactError, match=r"damaged.* set aside"):
        next(found)
    with pytest.raises(ArtifactError, match="gone"):
        list(whole(home, pieces))


@given(shared=st.integers(0, 80), margin=st.integers(0, 40))
def test_a_fade_goes_from_the_earlier_chunk_to_the_later_one(shared: int, margin: int) -> None:
    share = fade(shared, margin)
    assert len(share) == shared
    assert (np.diff(share) >= 0).all()
    assert np.allclose(share + share[::-1], 1, atol=1e-6), "as slowly out as in"
    assert not shared or 0 <= share[0] <= share[-1] <= 1


def test_mixing_two_pictures() -> None:
    dark, bright = np.full((2, 2, 3), 10, np.uint8), np.full((2, 2, 3), 250, np.uint8)
    assert mixed(dark, bright, np.float32(0)) is dark
    assert mixed(dark, bright, np.float32(1)) is bright
    assert (mixed(dark, bright, np.float32(0.25)) == 70).all()
    assert (mixed(bright, dark, np.float32(0.25)) == 190).all()


@pytest.mark.usefixtures("on_the_cpu")
def test_pieces_do_not_depend_on_what_was_decoded_before(tmp_path: Path) -> None:
    """Three pieces in one process, and each of them in a process of its own: the same bytes."""
    home, use = open_home(tmp_path / "home"), fingerprint(DEV)
    random = np.random.default_rng(0)
    for index in range(3):
        values = random.standard_normal((1, 128, 3, 1, 1)).astype(np.float32)
        tensors = {"video": Tensor("F32", values.shape, values.tobytes())}
        publish(tmp_path / f"{index}.safetensors", tensors, {"key": str(index), "stage": "temporal"})
    items = []
    for index, (start, write_, keep, shared) in enumerate([(0, 12, 5, 0), (12, 12, 5, 5), (24, 15, 0, 5)]):
        inputs = {"latent": str(tmp_path / f"{index}.safetensors")}
        own = {"start": start, "write": write_, "keep": keep, "shared": shared}
        if index:
            inputs["before"] = str(tmp_path / f"{index - 1}.safetensors")
            own["before_start"] = start - 12
        key = f"{index:064d}"
        items.append(Item(key, str(home.object_path(key, ".mkv")), inputs, own))

    def make(*chosen: Item) -> None:
        job = Job(
            "decode",
            chosen,
            (WeightsUse("statistics", str(DEV), use), WeightsUse("vae_decoder", str(DEV), use)),
            str(home.root),
            params={
                "codec": "ffv1", "container": ".mkv", "crop": [1, 3, 30, 28], "margin": 1, "fps": "50", "aspect": "1",
                "tiles": {"spatial": None, "spatial_overlap": 64, "temporal": 16, "temporal_overlap": 8},
            },
        )  # fmt: skip
        segments.run(job, Context(job, EventChannel(None)))

    make(*items)
    together = [Path(item.output).read_bytes() for item in items]
    for item in reversed(items):
        make(item)
    assert [Path(item.output).read_bytes() for item in items] == together
    with VideoSource(items[2].output) as video:
        assert len(list(video)) == 15
