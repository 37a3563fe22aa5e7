"""Sizes of a video on its way through the relay: pixels, frames, latents. Pure arithmetic.

The latent grid of LTX-2: 32 x 32 pixels to a latent position; one latent frame for the first frame and one for every
8 that follow. `height` and `width` name the base size (stage 1); the spatial upscaler multiplies it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from weights.errors import UsageError

GRID = 32
FRAME_GRID = 8
LATENT_CHANNELS = 128
MAX_SIDE = 16_384
MAX_FRAMES = 8 * 1_000 + 1
MAX_FPS = 240
_FRACTION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?|[0-9]{1,9}/[0-9]{1,9}")


@dataclass(frozen=True)
class LatentShape:
    """Latent frames, rows and columns; the tensor is [1, 128, frames, height, width]."""

    frames: int
    height: int
    width: int

    @property
    def tokens(self) -> int:
        return self.frames * self.height * self.width

    def as_list(self) -> list[int]:
        return [self.frames, self.height, self.width]


@dataclass(frozen=True)
class Geometry:
    """What is computed at which size. `scale` is 1 (one stage), 2 or 3/2 (two stages)."""

    base_height: int
    base_width: int
    frames: int
    fps: Fraction
    scale: Fraction
    temporal: bool
    crop: tuple[int, int] | None = None
    """(width, height) of the finished video, cut from the middle; None when it is the decoded size."""

    @property
    def stage1(self) -> LatentShape:
        return latent_shape(self.base_height, self.base_width, self.frames)

    @property
    def stage2(self) -> LatentShape:
        return latent_shape(int(self.base_height * self.scale), int(self.base_width * self.scale), self.frames)

    @property
    def temporal_latent(self) -> LatentShape:
        """n latent frames become 2n - 1."""
        return LatentShape(2 * self.stage2.frames - 1, self.stage2.height, self.stage2.width)

    @property
    def decoded(self) -> tuple[int, int]:
        """(width, height) of the decoder's frames, before any crop."""
        return self.stage2.width * GRID, self.stage2.height * GRID

    @property
    def output_size(self) -> tuple[int, int]:
        return self.crop or self.decoded

    @property
    def output_frames(self) -> int:
        return 2 * self.frames - 1 if self.temporal else self.frames

    @property
    def output_fps(self) -> Fraction:
        return self.fps * 2 if self.temporal else self.fps


def latent_shape(height: int, width: int, frames: int) -> LatentShape:
    return LatentShape((frames - 1) // FRAME_GRID + 1, height // GRID, width // GRID)


def check_base(height: int, width: int, scale: Fraction) -> None:
    """UsageError when the base size is off the grid, naming the flag and the nearest sizes that work."""
    grid = GRID * scale.denominator  # x1.5 has to land on the grid again
    for flag, value in (("--height", height), ("--width", width)):
        if not grid <= value <= MAX_SIDE:
            raise UsageError(f"{flag} {value} is out of range: it must be between {grid} and {MAX_SIDE}.")
        if value % grid:
            low = max(value // grid * grid, grid)
            raise UsageError(
                f"{flag} {value} is not a multiple of {grid}; the nearest sizes that work are {low} and {low + grid}."
            )


def check_frames(frames: int) -> None:
    if not 1 <= frames <= MAX_FRAMES:
        raise UsageError(f"--frames {frames} is out of range: it must be between 1 and {MAX_FRAMES}.")
    if frames % FRAME_GRID != 1:
        low = (frames - 1) // FRAME_GRID * FRAME_GRID + 1
        raise UsageError(
            f"--frames {frames} is not of the form 8k+1; the nearest counts that work are {low} and {low + FRAME_GRID}."
        )


def check_fps(fps: Fraction, flag: str = "--fps") -> None:
    if not 1 <= fps <= MAX_FPS:
        raise UsageError(f"{flag} {float(fps):g} is out of range: it must be between 1 and {MAX_FPS}.")


def base_for(size: tuple[int, int], scale: Fraction) -> tuple[int, int]:
    """(height, width) of the smallest base whose decoded video covers `size` (width, height).

    UsageError when the size is odd (4:2:0 video has even sides) or out of range.
    """
    width, height = size
    if width % 2 or height % 2 or not (2 <= width <= MAX_SIDE and 2 <= height <= MAX_SIDE):
        raise UsageError(
            f"--size {width}x{height} cannot be made: both sides must be even and between 2 and {MAX_SIDE}."
        )
    grid = GRID * scale.denominator

    def up(length: int) -> int:
        return ceil(Fraction(length) / (scale * grid)) * grid

    return up(height), up(width)


def parse_size(text: str) -> tuple[int, int]:
    """`1408x960` -> (1408, 960): WIDTHxHEIGHT."""
    width, separator, height = text.lower().partition("x")
    if not separator or not width.strip().isdecimal() or not height.strip().isdecimal():
        raise UsageError(f"--size {text!r} is not a size; write WIDTHxHEIGHT, for example 1408x960.")
    return int(width), int(height)


def parse_fps(text: str, flag: str = "--fps") -> Fraction:
    """`24`, `23.976` (read as 24000/1001, as the NTSC rates are), `30000/1001`."""
    try:
        value = fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{flag} {text!r:.60} is not a frame rate; write 24, 23.976 or 24000/1001.") from None
    ntsc = Fraction(round(value) * 1000, 1001)
    if value.denominator != 1 and abs(value - ntsc) < Fraction(1, 200):
        value = ntsc
    check_fps(value, flag)
    return value


def fraction(text: str) -> Fraction:
    """A short decimal number or fraction. ValueError, ZeroDivisionError; `Fraction` alone would expand 1e999999999."""
    if not _FRACTION.fullmatch(text):
        raise ValueError(f"{text!r:.60} is no fraction")
    return Fraction(text)
