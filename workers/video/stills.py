"""Stills and contact sheets: which few frames stand for a video, pictures side by side with a number, PNG files.

Pure numpy. PNG as in the W3C's specification (third edition): 8-bit RGB, no filter.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""[height, width, 3], RGB."""

MAX_WIDTH = 1920
_GAP = 4
_DIGIT_ROWS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711",
    "5": "74717", "6": "74757", "7": "71111", "8": "75757", "9": "75717",
}  # fmt: skip
"""Five rows of three pixels each, a row as the number whose bits are its pixels."""


@dataclass(frozen=True)
class Window:
    """Latent frames [start, stop) that are decoded together, and which of their frames is the still."""

    start: int
    stop: int
    frame: int


def windows(latent_frames: int) -> tuple[Window, ...]:
    """The first frame, one from the middle, the last one: three short pieces, however long the video is.

    The first latent frame of a piece becomes one frame and each other eight; a neighbour on each side gives the
    decoder what it sees of a whole video nearby.
    """
    if latent_frames == 1:
        return (Window(0, 1, 0),)
    last = Window(latent_frames - 2, latent_frames, 8)
    if latent_frames == 2:
        return (Window(0, 2, 0), Window(0, 2, 4), last)
    middle = latent_frames // 2
    return (Window(0, 2, 0), Window(middle - 1, min(middle + 2, latent_frames), 5), last)


def contact_sheet(rows: Sequence[tuple[int, Sequence[Picture]]]) -> Picture:
    """A row of stills for each (number, stills), the number in its corner; at most `MAX_WIDTH` wide."""
    strips = [_strip(number, stills) for number, stills in rows]
    columns = max(1, MAX_WIDTH // 2 // strips[0].shape[1]) if len(strips) > 3 else 1
    height, width, _ = strips[0].shape
    lines = -(-len(strips) // columns)
    sheet = np.full((lines * (height + _GAP) - _GAP, columns * (width + 2 * _GAP) - 2 * _GAP, 3), 255, np.uint8)
    for index, strip in enumerate(strips):
        top, left = index // columns * (height + _GAP), index % columns * (width + 2 * _GAP)
        sheet[top : top + height, left : left + width] = strip
    return sheet


def _strip(number: int, stills: Sequence[Picture]) -> Picture:
    width = sum(still.shape[1] for still in stills)
    pictures = [shrink(still, -(-width // MAX_WIDTH)) for still in stills]
    strip = np.concatenate(pictures, axis=1)
    label = digits(number, scale=max(1, strip.shape[0] // 60))
    fits = label[: strip.shape[0], : strip.shape[1]]
    strip[: fits.shape[0], : fits.shape[1]] = fits
    return strip


def shrink(picture: Picture, factor: int) -> Picture:
    """Smaller by a whole factor: the mean of each square."""
    height, width = picture.shape[0] // factor, picture.shape[1] // factor
    if factor == 1 or not height or not width:
        return picture
    squares = picture[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    small: Picture = squares.mean(axis=(1, 3)).astype(np.uint8)
    return small


def digits(number: int, scale: int) -> Picture:
    """The number in white on black."""
    glyphs = [_glyph(letter) for letter in str(number) if letter in _DIGIT_ROWS]
    bits = np.pad(np.concatenate(glyphs, axis=1), ((1, 1), (1, 0)))
    pixels = bits.repeat(scale, axis=0).repeat(scale, axis=1)
    return np.repeat((pixels * 255).astype(np.uint8)[:, :, None], 3, axis=2)


def _glyph(letter: str) -> NDArray[np.uint8]:
    rows = [[int(row) >> 2 & 1, int(row) >> 1 & 1, int(row) & 1, 0] for row in _DIGIT_ROWS[letter]]
    return np.array(rows, np.uint8)


def png(picture: Picture) -> bytes:
    """The picture as a PNG file."""
    height, width, _ = picture.shape
    lines = np.zeros((height, 1 + width * 3), np.uint8)  # each line begins with its filter, 0
    lines[:, 1:] = picture.reshape(height, width * 3)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    body = zlib.compress(lines.tobytes(), 6)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
