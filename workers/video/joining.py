"""Encoded pieces of a video to one file, with sound from another: packets are copied, nothing is encoded.

Guaranteed: every piece's pictures in order, each shown when the plan says so; sound and subtitles byte for byte, at
their own times, shifted only as much as the pictures; the same input gives the same bytes. Pieces must be of one codec
with the same settings, or it is a WorkerFailed: their file has room for one description.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.packet import Packet
from av.stream import Stream

from cache.durable import write_error
from weights.errors import RelayError, WorkerFailed
from workers.video.source import VideoSource
from workers.video.times import at
from workers.video.writer import COMMENT, TITLE

_KEPT_METADATA = ("language", "title", "handler_name")


@dataclass(frozen=True)
class Track:
    """When pictures are shown: one time for each, in ticks of `base` from the file's beginning.

    last: how many ticks the last one is shown. fps: of the pieces, where frame n is shown at n / fps.
    """

    times: Sequence[int]
    base: Fraction
    last: int
    fps: Fraction


def join(
    path: Path,
    pieces: Iterable[Path],
    track: Track,
    *,
    container: str,
    sound: Path | None = None,
    tracks: Sequence[int] = (),
    origin: Fraction = Fraction(0),
    title: str = "",
    comment: str = "",
    progress: Callable[[int], None] = lambda done: None,
    beat: Callable[[], None] = lambda: None,
) -> None:
    """Writes the file `path`. tracks: numbers of the streams of `sound` that come along; origin: the second of `sound`
    at which the new file begins. progress: called with the number of pieces that are in.

    UsageError, RelayError; DoesNotFit when the disk is full. After an error there is no file.
    """
    try:
        with contextlib.ExitStack() as held:
            options = {"fflags": "+bitexact"} | ({} if container == "matroska" else {"movflags": "+faststart"})
            output = held.enter_context(av.open(f"file:{path}", "w", format=container, container_options=options))
            output.metadata.update({TITLE: title, COMMENT: comment})
            joiner = _Joiner(output, track, beat)
            if sound is not None:
                joiner.add_sound(held.enter_context(VideoSource(sound)), tracks, origin)
            for index, piece in enumerate(pieces, 1):
                joiner.add(piece)
                progress(index)
            joiner.finish()
    except (av.error.FFmpegError, OSError) as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise write_error(error, path, 0) from error
        raise RelayError(f"The video {path} could not be put together: {error}.") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


class _Joiner:
    def __init__(self, output: Any, track: Track, beat: Callable[[], None]) -> None:
        self.output, self.track, self.beat = output, track, beat
        self.stream: Any = None
        self.description: bytes | None = None
        self.frames = 0
        self.ahead: int | None = None
        self.sound: Iterator[Packet[Any]] = iter(())
        self.waiting: Packet[Any] | None = None
        self.copies: dict[int, Stream] = {}
        self.shifts: dict[int, int] = {}
        self.templates: list[Any] = []

    def add_sound(self, source: VideoSource, tracks: Sequence[int], origin: Fraction) -> None:
        """To be called before the first piece."""
        self.templates = [source.container.streams[index] for index in tracks]
        self.shifts = {s.index: round(origin / s.time_base) for s in self.templates}
        self.sound = iter(source.container.demux(self.templates))

    def add(self, piece: Path) -> None:
        with av.open(f"file:{piece}") as source:
            stream = source.streams.video[0]
            description = bytes(stream.codec_context.extradata or b"")
            if self.stream is None:
                self._begin(stream)
                self.description = description
            if description != self.description:
                raise WorkerFailed(
                    "The pieces of the video do not have the same settings; they cannot be put together."
                )
            base = stream.time_base or 1 / self.track.fps
            count = 0
            for packet in source.demux(stream):
                if packet.size == 0 or packet.pts is None:
                    continue
                shown = round(packet.pts * base * self.track.fps)
                if self.ahead is None:  # encoders that reorder say by how much with their first packet
                    self.ahead = max(0, -round((packet.dts or 0) * base * self.track.fps))
                self._write(packet, self.frames + shown, self.frames + count - self.ahead)
                count += 1
            self.frames += count

    def finish(self) -> None:
        if self.frames != len(self.track.times):
            raise WorkerFailed(f"The pieces have {self.frames} frames, and {len(self.track.times)} were to be made.")
        self._copy_sound(None)

    def _begin(self, template: Any) -> None:
        self.stream = self.output.add_stream_from_template(template)
        self.stream.time_base = self.track.base
        if template.codec_context.name == "hevc" and self.output.format.name != "matroska":
            self.stream.codec_context.codec_tag = "hvc1"  # QuickTime does not play FFmpeg's default, hev1
        for one in self.templates:
            copy = self.output.add_stream_from_template(one)
            copy.time_base = one.time_base
            copy.metadata.update({key: one.metadata[key] for key in _KEPT_METADATA if key in one.metadata})
            self.copies[one.index] = copy
        self.output.start_encoding()

    def _write(self, packet: Packet[Any], shown: int, read: int) -> None:
        times, base = self.track.times, self.track.base
        if not 0 <= shown < len(times):
            raise WorkerFailed(f"A piece has a frame {shown} of {len(times)}.")
        end = times[-1] + self.track.last
        packet.time_base = base
        packet.pts, packet.dts = times[shown], at(times, read)
        packet.duration = (times[shown + 1] if shown + 1 < len(times) else end) - times[shown]
        if read + (self.ahead or 0) == len(times) - 1:
            # The last one to be decoded: MP4 adds up durations in that order, and the sum is to be the whole.
            rest = end - times[0] - (packet.dts - at(times, -(self.ahead or 0)))
            packet.duration = max(packet.duration, min(rest, end - packet.pts))
        packet.stream = self.stream
        self._copy_sound(packet.dts * base)
        self.output.mux_one(packet)
        self.beat()

    def _copy_sound(self, until: Fraction | None) -> None:
        """What is heard before that second; None: all that is left."""
        while True:
            packet = self.waiting or self._next_sound()
            if packet is None:
                return
            moment = packet.dts if packet.dts is not None else packet.pts
            if until is not None and moment is not None and moment * packet.time_base > until:
                self.waiting = packet
                return
            self.waiting = None
            packet.stream = self.copies[packet.stream_index]
            self.output.mux_one(packet)
            self.beat()

    def _next_sound(self) -> Packet[Any] | None:
        for packet in self.sound:
            if packet.size == 0 or (packet.pts is None and packet.dts is None):
                continue
            shift = self.shifts[packet.stream_index]
            if packet.pts is not None:
                packet.pts -= shift
            if packet.dts is not None:
                packet.dts -= shift
            return packet
        return None
