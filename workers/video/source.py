"""A video from outside: what it is, and its frames as a player would show them.

Guarantees: frames are upright (the display matrix is applied), 8-bit RGB with the matrix and range that the stream
states (without a word of it: BT.601 below 720 lines, BT.709 from there on, as players do), in the order of showing,
with strictly rising times. What cannot be decoded is left out and counted. Files are opened as files: no network, no
playlist that leads elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import av
import numpy as np
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from weights.errors import UsageError

Picture = NDArray[np.uint8]

REFUSED_FORMATS = frozenset({"hls", "dash", "concat", "tty", "lavfi", "sdp", "rtsp", "imf"})
"""FFmpeg's readers of what is no video file itself: lists of other files, text drawn as a picture, devices."""
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
"""By the code point of ITU-T H.273."""
_HD_LINES = 720
_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_ACCESS = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)


class Shown(NamedTuple):
    """A frame, and when it is shown, in ticks of the stream's time base."""

    tick: int
    frame: VideoFrame


@dataclass
class Damage:
    """What could not be read. `sizes`: frames of another size than the first, which are left out too."""

    packets: int = 0
    sizes: int = 0
    broken_off: bool = False

    @property
    def any(self) -> bool:
        return bool(self.packets or self.broken_off)


class VideoSource:
    """`with VideoSource(path) as video: for shown in video: picture = video.picture(shown.frame)`.

    UsageError when the file is no video that can be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.damage = Damage()
        self._reformatter = VideoReformatter()
        self.container: av.container.InputContainer
        self.stream: VideoStream

    def __enter__(self) -> Self:
        check_file(self.path)
        try:
            # The prefix keeps FFmpeg from reading a colon in a name as a protocol.
            self.container = av.open(f"file:{self.path}", options={"protocol_whitelist": "file"})
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise _unreadable(self.path, error) from error
        try:
            if set(self.container.format.name.split(",")) & REFUSED_FORMATS:
                raise UsageError(f"{self.path} is a {self.container.format.name} file and no video itself.")
            streams = [s for s in self.container.streams.video if not s.disposition & Disposition.attached_pic]
            if not streams:
                raise UsageError(f"{self.path} has no video in it.", advice="Name a video file.")
            self.stream = streams[0]
            if self.stream.codec_context is None:
                raise UsageError(f"{self.path} has a video whose codec this build of FFmpeg cannot decode.")
        except BaseException:
            self.container.close()
            raise
        self.stream.thread_type = "AUTO"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        with contextlib.suppress(av.error.FFmpegError, OSError):
            self.container.close()
        return False

    @property
    def time_base(self) -> Fraction:
        return self.stream.time_base or Fraction(1, 90_000)

    def __iter__(self) -> Iterator[Shown]:
        """Every frame that can be decoded and has the first one's size."""
        last: int | None = None
        size: tuple[int, int] | None = None
        usual = self._ticks_per_frame()
        for frame in self._decoded():
            size = size or (frame.width, frame.height)
            if (frame.width, frame.height) != size:
                self.damage.sizes += 1
                continue
            tick = frame.pts if frame.pts is not None else (0 if last is None else last + usual)
            if last is not None and tick <= last:  # clocks that stand still or jump back: showing goes on
                tick = last + 1
            last = tick
            yield Shown(tick, frame)

    def picture(self, frame: VideoFrame) -> Picture:
        """RGB [height, width, 3], upright."""
        full = frame.color_range == 2 or frame.format.name.startswith("yuvj")
        matrix = _MATRICES.get(int(frame.colorspace))
        if matrix is None:
            matrix = Colorspace.ITU709 if frame.height >= _HD_LINES else Colorspace.ITU601
        rgb = self._reformatter.reformat(
            frame,
            format="rgb24",
            src_colorspace=matrix,
            src_color_range=ColorRange.JPEG if full or frame.format.is_rgb else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=_EXACT,
            threads=1,
        )
        pixels: Any = rgb.to_ndarray()
        return upright(pixels, frame.rotation)

    def _decoded(self) -> Iterator[VideoFrame]:
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.error.FFmpegError, OSError):
                self.damage.broken_off = True
                return
            if packet.is_corrupt:
                self.damage.packets += 1
            try:
                for frame in packet.decode():
                    if isinstance(frame, VideoFrame):
                        yield frame
            except av.error.FFmpegError:
                self.damage.packets += 1

    def _ticks_per_frame(self) -> int:
        rate = self.stream.guessed_rate or self.stream.average_rate or Fraction(25)
        return max(1, round(1 / (rate * self.time_base)))


def upright(picture: Picture, rotation: float) -> Picture:
    """The picture as it is to be shown. rotation: degrees that it has to be turned, counterclockwise."""
    return np.rot90(picture, round(rotation / 90) % 4)


def check_file(path: Path) -> None:
    """UsageError unless there is a file of some content: a named pipe would hang, a folder says little."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not path.is_file():
        raise UsageError(f"{path} is not a file.", advice="Name a video file.")
    if status.st_size == 0:
        raise UsageError(f"{path} is empty.", advice="Name a video file.")


def unchanged(path: Path, seen: Sequence[int]) -> None:
    """UsageError unless the file is as it was when it was looked at. seen: its size, and when it changed in ns."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    if [status.st_size, status.st_mtime_ns] != list(seen):
        raise UsageError(f"{path} changed while the run was under way.", advice="Run the same command again.")


def _unreadable(path: Path, error: BaseException) -> UsageError:
    number = getattr(error, "errno", None)
    reason = getattr(error, "strerror", None) or str(error)
    if number in _ACCESS or not isinstance(error, av.error.FFmpegError):
        return UsageError(f"{path} cannot be read: {reason}.")
    return UsageError(
        f"{path} is not a video that can be read: {reason}.",
        advice="It may be cut off (the index of an mp4 is at its end), or no video at all.",
    )
