"""Small video files of many kinds, made with PyAV's own encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
_IDENTITY = (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_TURNED = (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
"""QuickTime's matrices: as it is, and turned clockwise by a quarter."""


def drawn(frames: int, width: int = 64, height: int = 64) -> Frames:
    """Smooth pictures, each with its number as a grey square in a corner. `[frames, height, width, 3]`."""
    rows, columns = np.mgrid[0:height, 0:width]
    made = np.zeros((frames, height, width, 3), np.uint8)
    for index in range(frames):
        made[index, ..., 0] = 60 + 120 * rows / height
        made[index, ..., 1] = 60 + 120 * columns / width
        made[index, ..., 2] = 128
        made[index, : height // 4, : width // 4] = 40 + (index * 6) % 180
    return made


def write(
    path: Path,
    frames: Frames,
    *,
    codec: str = "libx264",
    rate: Fraction = Fraction(25),
    pixel_format: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    ticks: Sequence[int] | None = None,
    base: Fraction | None = None,
    sound: str | None = None,
    offset: int = 0,
    tags: tuple[int, int, int] = (1, 1, 1),
) -> Path:
    """ticks: of each frame, in units of `base`; by default at the rate. offset: ticks before the first one."""
    default = {"crf": "8", "preset": "ultrafast"} if codec == "libx264" else {}
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=rate, options={**default, **(options or {})})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixel_format
        clock = base or 1 / rate
        stream.codec_context.time_base = stream.time_base = clock
        stream.color_primaries, stream.color_trc, stream.colorspace = tags
        heard: Any = output.add_stream(sound, rate=48000) if sound else None
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format=pixel_format, dst_colorspace="ITU709", src_color_range="JPEG", dst_color_range="MPEG"
            )
            frame.pts, frame.time_base = offset + (index if ticks is None else ticks[index]), clock
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if heard is not None:
            tone(output, heard, float(len(frames) / rate))
    return path


def tone(output: Any, stream: Any, seconds: float) -> None:
    count = 1024
    values: NDArray[Any]
    layout, form = "mono", stream.codec_context.format.name
    for start in range(0, int(48000 * seconds), count):
        wave = np.sin(2 * np.pi * 440 * np.arange(start, start + count) / 48000)
        values = wave.astype(np.float32)
        if form.startswith("s16"):
            values = (wave * 20000).astype(np.int16)
        elif form.startswith("u8"):
            values = (128 + wave * 100).astype(np.uint8)
        frame = av.AudioFrame.from_ndarray(values[None], format=form, layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def turn(path: Path) -> Path:
    """The mp4, changed so that it is to be shown turned clockwise by a quarter."""
    raw = path.read_bytes()
    before, after = (b"".join(n.to_bytes(4, "big", signed=True) for n in one) for one in (_IDENTITY, _TURNED))
    place = raw.index(b"tkhd")
    at = raw.index(before, place)
    path.write_bytes(raw[:at] + after + raw[at + len(after) :])
    return path


def packets(path: Path, kind: str = "audio") -> list[tuple[Fraction, bytes]]:
    """Times in seconds, and bytes."""
    with av.open(str(path)) as opened:
        stream = next(s for s in opened.streams if s.type == kind)
        return [(p.pts * p.time_base, bytes(p)) for p in opened.demux(stream) if p.size]
