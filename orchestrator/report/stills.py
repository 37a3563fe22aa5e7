"""A few frames of each finished video as JPEG files, for the contact sheets of reports.

They are kept in the previews of the run that read them first; a later run that finds its video in the cache finds them
there. Reading them needs PyAV, which is imported only then. Whatever fails, there are no stills, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

from cache.durable import publish_bytes
from cache.home import Home
from weights.errors import RelayError

COUNT = 8
LONG_SIDE = 480
"""Pixels of a still."""
LIMIT = 1 << 20
"""Bytes of one; what is larger is none of ours."""
RUNS = 50
"""So many of the newest runs are looked into for stills of the same video."""
MOST_IN_ORDER = 2000
"""Frames of a video that is read from beginning to end; an hour of them would take minutes."""


def kept(home: Home, own: Path, key: str) -> tuple[bytes, ...]:
    """The stills of the video with that key: from this run's previews, else from another's."""
    found = _read(own, key)
    if found:
        return found
    with suppress(OSError):
        for run in sorted(home.runs.iterdir(), reverse=True)[:RUNS]:
            found = _read(run / "previews", key)
            if found:
                return found
    return ()


def make(previews: Path, key: str, video: Path, frames: int, count: int = COUNT) -> tuple[bytes, ...]:
    """Reads frames, spread evenly, first and last among them, and keeps them. Empty when that cannot be done."""
    wanted = chosen(frames, count)
    try:
        made = tuple(_pictures(video, wanted) if frames <= MOST_IN_ORDER else _sought(video, wanted))
        for index, picture in enumerate(made):
            publish_bytes(_place(previews, key, index), picture)
    except (ImportError, OSError, ValueError, RuntimeError, MemoryError, RelayError):  # FFmpeg's errors are OSErrors
        return ()
    return made


def chosen(frames: int, count: int) -> tuple[int, ...]:
    """Numbers of the frames, from 0."""
    if frames <= count:
        return tuple(range(frames))
    return tuple(index * (frames - 1) // (count - 1) for index in range(count))


def _pictures(video: Path, wanted: Sequence[int]) -> Iterator[bytes]:
    import av

    with av.open(f"file:{video}") as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        left = list(wanted)
        for index, frame in enumerate(container.decode(stream)):
            if left and index == left[0]:
                left.pop(0)
                yield _jpeg(frame)
            if not left:
                return


def _sought(video: Path, wanted: Sequence[int]) -> Iterator[bytes]:
    """The same of a long video: at these shares of its time, each from the keyframe before it."""
    import av

    with av.open(f"file:{video}") as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        assert stream.time_base is not None
        seconds = Fraction(container.duration or 0, av.time_base)
        for index in wanted:
            moment = int((stream.start_time or 0) + seconds * index / (wanted[-1] + 1) / stream.time_base)
            container.seek(moment, stream=stream)
            frame = None
            for frame in container.decode(stream):
                if frame.pts is not None and frame.pts >= moment:
                    break
            if frame is not None:
                yield _jpeg(frame)


def _jpeg(frame: object) -> bytes:
    import av

    assert isinstance(frame, av.VideoFrame)
    scale = min(1.0, LONG_SIDE / max(frame.width, frame.height))
    width, height = (max(2, round(side * scale / 2) * 2) for side in (frame.width, frame.height))
    small = frame.reformat(width=width, height=height, format="yuvj420p", interpolation="AREA")
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    encoder.options = {"qmin": "3", "qmax": "3"}
    small.pts = None
    return b"".join(bytes(packet) for packet in [*encoder.encode(small), *encoder.encode(None)])


def _read(previews: Path, key: str) -> tuple[bytes, ...]:
    found = []
    for index in range(COUNT):
        try:
            with open(_place(previews, key, index), "rb") as file:
                picture = file.read(LIMIT + 1)
        except OSError:
            break
        if len(picture) > LIMIT or not picture.startswith(b"\xff\xd8"):
            break
        found.append(picture)
    return tuple(found)


def _place(previews: Path, key: str, index: int) -> Path:
    return previews / f"still-{key[:32]}-{index}.jpg"
