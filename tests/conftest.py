"""Fixtures that several folders of tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.video.reformatter import Interpolation

ACCURATE = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""swscale's default is two levels off."""


@dataclass(frozen=True)
class DecodedVideo:
    """What a player would find in a video file.

    frames: `[n, height, width, 3]` RGB; planes: of the first frame, as coded.
    times: when each frame is shown, in seconds. tags: primaries, transfer, matrix, range (ITU-T H.273 code points).
    """

    frames: npt.NDArray[np.uint8]
    times: tuple[Fraction, ...]
    rate: Fraction
    duration: Fraction
    codec: str
    codec_tag: str
    pixel_format: str
    tags: tuple[int, int, int, int]
    metadata: dict[str, str]
    planes: tuple[npt.NDArray[np.uint16], ...]


def _plane(plane: av.video.plane.VideoPlane, depth: int) -> npt.NDArray[np.uint16]:
    dtype = np.uint8 if depth == 8 else np.uint16
    rows = np.frombuffer(bytes(plane), dtype).reshape(plane.height, -1)
    return rows[:, : plane.width].astype(np.uint16)


def _read_video(path: Path) -> DecodedVideo:
    with av.open(f"file:{path}") as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        pictures = list(container.decode(stream))
        first = pictures[0]
        components = first.format.components
        planes: tuple[npt.NDArray[np.uint16], ...] = ()
        if first.format.is_planar:
            planes = tuple(_plane(plane, components[0].bits) for plane in first.planes)
        assert stream.time_base is not None
        assert stream.average_rate is not None
        assert container.duration is not None
        return DecodedVideo(
            frames=np.stack([picture.to_ndarray(format="rgb24", interpolation=ACCURATE) for picture in pictures]),
            times=tuple((picture.pts or 0) * stream.time_base for picture in pictures),
            rate=stream.average_rate,
            duration=Fraction(container.duration, av.time_base),
            codec=context.name,
            codec_tag=context.codec_tag,
            pixel_format=first.format.name,
            tags=(context.color_primaries, context.color_trc, context.colorspace, context.color_range),
            metadata={key.lower(): value for key, value in container.metadata.items()},
            planes=planes,
        )


@pytest.fixture
def read_video() -> Callable[[Path], DecodedVideo]:
    """Decodes a whole (small) video file."""
    return _read_video


@pytest.fixture(scope="module")
def on_the_cpu() -> Iterator[None]:
    """MLX computes on the CPU, where numbers are the same on every machine."""
    import mlx.core as mx

    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(before)
