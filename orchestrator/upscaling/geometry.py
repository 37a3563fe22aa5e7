"""Sizes and times of an upscaled video, from what the old one is. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from types import MappingProxyType

from orchestrator.sizes import FRAME_GRID, GRID, LatentShape
from orchestrator.upscaling.chunks import Chunk, result_frames
from orchestrator.upscaling.facts import Facts
from weights.errors import UsageError

SIDES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"h264": (2, 2), "hevc": (2, 2), "prores": (2, 1), "ffv1": (1, 1)}
)
"""What width and height must be multiples of, by codec; a test compares it with workers.video.codecs."""
LEAST_SIDE: Mapping[str, int] = MappingProxyType({"hevc": 32})
MOST_PIECE_RATE = 240
"""Frames a second of a piece. Only its encoder sees it."""


@dataclass(frozen=True)
class Sizes:
    """Pixels. padding: (top, bottom, left, right) of a frame on the grid. crop: (top, left, height, width) of a decoded
    frame. decoded: (height, width) of one."""

    padding: tuple[int, int, int, int]
    crop: tuple[int, int, int, int]
    grid: tuple[int, int]
    decoded: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the new video."""
        return self.crop[3], self.crop[2]

    def before(self, frames: int) -> LatentShape:
        """The latent of so many frames, 8k + 1."""
        return LatentShape((frames - 1) // FRAME_GRID + 1, self.grid[0] // GRID, self.grid[1] // GRID)

    def after(self, frames: int, factor: int) -> LatentShape:
        latent = self.before(frames)
        return LatentShape(factor * (latent.frames - 1) + 1, self.decoded[0] // GRID, self.decoded[1] // GRID)


@dataclass(frozen=True)
class Times:
    """When frames of the new video are shown, in ticks of `base` seconds from its beginning; a number stands for the
    times 0, 1, 2 and so on. rate: frames a second, None where they vary."""

    times: int | tuple[int, ...]
    base: Fraction
    last: int
    rate: Fraction | None

    @property
    def count(self) -> int:
        return self.times if isinstance(self.times, int) else len(self.times)

    @property
    def seconds(self) -> Fraction:
        span = self.times - 1 if isinstance(self.times, int) else self.times[-1] - self.times[0]
        return (span + self.last) * self.base

    @property
    def mean_rate(self) -> Fraction:
        """Frames a second, on the whole."""
        return self.rate or self.count / self.seconds


def sizes(width: int, height: int, scale: Fraction, codec: str) -> Sizes:
    """Of a video of that size. UsageError when the codec cannot store what comes out."""
    across, down = SIDES[codec]
    rows, top = _side(height, scale)
    columns, left = _side(width, scale)
    out_height, out_width = _even(height, scale, down), _even(width, scale, across)
    least = LEAST_SIDE.get(codec, 1)
    if min(out_height, out_width) < least:
        raise UsageError(
            f"--codec {codec} cannot store {out_width}x{out_height} pixels: {least} is the least width and height.",
            advice="Use another --codec.",
        )
    return Sizes(
        padding=(top, rows - height - top, left, columns - width - left),
        crop=(int(top * scale), int(left * scale), out_height, out_width),
        grid=(rows, columns),
        decoded=(int(rows * scale), int(columns * scale)),
    )


def times(facts: Facts, factor: int, with_sound: bool) -> Times:
    """A steady rate stays one; other frames keep their times, and what is put between two is shown halfway.

    Without sound the video begins with its first frame; with it, as much later as before.
    """
    count = result_frames(facts.frames, factor)
    begins = facts.ticks[0] * facts.time_base - (facts.origin if with_sound else facts.ticks[0] * facts.time_base)
    if facts.rate is not None and begins == 0:
        return Times(count, 1 / (facts.rate * factor), 1, facts.rate * factor)
    base = facts.time_base / factor
    shift = round((facts.ticks[0] * facts.time_base - begins) / facts.time_base)
    ticks = [tick - shift for tick in facts.ticks]
    found = [factor * ticks[0]]
    for before, after in pairwise(ticks):
        found += [before + after, 2 * after] if factor == 2 else [after]
    steady = None if facts.rate is None else facts.rate * factor
    last = facts.last if steady is None else 1 / steady
    return Times(tuple(found), base, max(1, round(last / base)), steady)


def piece_rate(facts: Facts, factor: int) -> Fraction:
    rate = (facts.rate or facts.usual_rate) * factor
    return rate if 1 <= rate <= MOST_PIECE_RATE else Fraction(25 * factor)


def latent_of(sizes: Sizes, chunk: Chunk) -> LatentShape:
    return sizes.before(chunk.padded)


def _side(length: int, scale: Fraction) -> tuple[int, int]:
    """The side on the grid, and how much of its padding comes first: so much that it can be scaled to whole pixels."""
    grid = GRID * scale.denominator
    whole = -(-length // grid) * grid
    return whole, (whole - length) // 2 // scale.denominator * scale.denominator


def _even(length: int, scale: Fraction, multiple: int) -> int:
    return -(-int(length * scale) // multiple) * multiple
