"""What a video file is: `python -P -m workers.inspect FILE [FORMAT [watched]]` prints one line of JSON and ends.

A process of its own, because the orchestrator imports no av, and because a damaged file may take its reader with it.
Every frame is decoded once: only so are their count and their times certain. The fields are those of
`orchestrator.upscaling.facts.Facts`; with FORMAT (FFmpeg's name of a container) each sound track and subtitle says
whether such a file can hold it. A file that is no video gives `{"problem": ..., "advice": ...}` and exit status 2.
`watched`: it ends as soon as stdin does, which is when the orchestrator is gone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
import traceback
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
from av.stream import Disposition

from cache import failpoints
from cache.failpoints import failpoint
from weights.errors import RelayError
from workers.channel import end_with_parent
from workers.video.source import VideoSource
from workers.video.times import steady_rate

_UNKNOWN_ASPECT = Fraction(1)
_LONGEST_LAST = Fraction(2)
"""Seconds. A stream that claims to go on for longer after its last frame has lost some."""


def main(arguments: list[str]) -> int:
    failpoints.enter("inspect")
    if arguments[2:] == ["watched"]:
        end_with_parent()
    failpoint("looking")
    try:
        print(json.dumps(inspect(Path(arguments[0]), arguments[1] if len(arguments) > 1 else None)), flush=True)
    except RelayError as error:
        print(json.dumps({"problem": error.message, "advice": error.advice}), flush=True)
        return 2
    except Exception:
        traceback.print_exc()
        return 1
    failpoint("looked")
    return 0


def inspect(path: Path, container: str | None = None) -> dict[str, Any]:
    """See `orchestrator.upscaling.facts`. UsageError when it is no video that can be read."""
    with VideoSource(path) as video:
        ticks: list[int] = []
        first = last = None
        interlaced = 0
        for tick, frame in video:
            ticks.append(tick)
            first, last = first or frame, frame
            interlaced += bool(frame.interlaced_frame)
        if first is None or last is None:
            return {
                "problem": f"{path} has no frame that can be decoded.",
                "advice": "It may be cut off or damaged; a video player would show nothing either.",
            }
        stream, opened = video.stream, video.container
        base = video.time_base
        turned = round(first.rotation / 90) % 2 == 1
        width, height = (first.height, first.width) if turned else (first.width, first.height)
        aspect = stream.sample_aspect_ratio or _UNKNOWN_ASPECT
        usual = stream.guessed_rate or stream.average_rate or Fraction(25)
        rate = steady_rate(ticks, base, [r for r in (stream.guessed_rate, stream.average_rate, stream.base_rate) if r])
        length = _last_seconds(video, ticks[-1], last, 1 / usual)
        origin = Fraction(max(0, opened.start_time or 0), av.time_base)
        promised = stream.frames or 0
        seen = (ticks[-1] - ticks[0]) * base + length
        cut_off = _stated_seconds(video) - seen > 2 / usual
        names = _holds(container) if container else None
        kept, others = [], 0
        for other in opened.streams:
            if other is stream or other.disposition & Disposition.attached_pic:
                continue
            if other.type not in ("audio", "subtitle"):
                others += 1
                continue
            codec = other.codec_context.name if other.codec_context is not None else "unknown"
            kept.append(
                {
                    "index": other.index,
                    "kind": other.type,
                    "codec": codec,
                    "language": other.language or "",
                    "fits": names is None or codec in names,
                }
            )
        return {
            "format": opened.format.name,
            "codec": stream.codec_context.name,
            "frames": len(ticks),
            "ticks": ticks,
            "time_base": str(base),
            "origin": str(min(origin, ticks[0] * base)),
            "rate": None if rate is None else str(rate),
            "usual_rate": str(usual),
            "last": str(length),
            "width": width,
            "height": height,
            "rotation": round(first.rotation) % 360,
            "aspect": str(1 / aspect if turned else aspect),
            "pixel_format": first.format.name,
            "depth": max(component.bits for component in first.format.components),
            "alpha": _has_alpha(first) or stream.metadata.get("alpha_mode") == "1",
            "transfer": int(first.color_trc),
            "primaries": int(first.color_primaries),
            "interlaced": 2 * interlaced > len(ticks),
            "damaged": video.damage.packets,
            "other_sizes": video.damage.sizes,
            "missing": max(0, promised - len(ticks)) if cut_off or video.damage.any else 0,
            "broken_off": video.damage.broken_off or cut_off,
            "tracks": kept,
            "others": others,
            "bytes": os.path.getsize(path),
            "sha256": _sha256(path),
        }


def _stated_seconds(video: VideoSource) -> Fraction:
    """How long the file says that its pictures are; 0 where it does not say. A sound that goes on is no word on it."""
    stated = video.stream.metadata.get("DURATION", "")  # Matroska: 00:00:01.960000000
    if found := re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stated.strip("\0 ")):
        hours, minutes, seconds = found.groups()
        return 3600 * int(hours) + 60 * int(minutes) + Fraction(seconds)
    if video.stream.duration:
        return video.stream.duration * video.time_base
    alone = len(video.container.streams) == 1
    return Fraction(video.container.duration or 0, av.time_base) if alone else Fraction(0)


def _last_seconds(video: VideoSource, tick: int, last: av.VideoFrame, usual: Fraction) -> Fraction:
    """How long the last frame is shown: to the end of the stream, where that is known and can be right. (A packet's own
    duration is that of its place in the order of decoding, and says little where the rate varies.)"""
    stream = video.stream
    if stream.duration and not video.damage.any:
        until = ((stream.start_time or 0) + stream.duration - tick) * video.time_base
        if 0 < until <= max(_LONGEST_LAST, 2 * usual):
            return until
    return last.duration * video.time_base if last.duration else usual


def _has_alpha(frame: av.VideoFrame) -> bool:
    """PAL8 has it too by FFmpeg's flags, but most such pictures are opaque: only real planes count."""
    name = frame.format.name
    return name.startswith(("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya"))


def _holds(container: str) -> frozenset[str]:
    """Names of the codecs that a file of that format can hold."""
    with tempfile.TemporaryDirectory() as folder:
        output = av.open(os.path.join(folder, "empty"), "w", format=container)
        try:
            return frozenset(output.supported_codecs)
        finally:
            output.close()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
