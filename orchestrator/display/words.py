"""How figures are written for people: seconds, bytes, sizes, names. Pure text, ASCII only.

Files are counted in decimal units (as Finder and `ls --si` do), memory in binary ones that are written "GB" (as Apple
and the makers of memory do): a 32 GB Mac has 32 x 2^30 bytes.
"""

from __future__ import annotations

import unicodedata
from fractions import Fraction

STAGE_LABELS = {"stage1": "stage 1", "stage2": "stage 2"}
STEP_UNITS = {"text": "layer", "stage1": "step", "stage2": "step"}
"""What one `step` event of a stage is; the rest work in tiles or chunks of frames, which are called parts."""


def stage_label(name: str) -> str:
    return STAGE_LABELS.get(name, name)


def step_unit(stage: str) -> str:
    return STEP_UNITS.get(stage, "part")


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3m 12s`, `1h 04m`; never longer than seven characters below 100 hours."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def pace(seconds: float) -> str:
    """Seconds per step: three digits that count, so that a fast step does not read `0.0 s`."""
    if seconds >= 99.5:
        return duration(seconds)
    return f"{seconds:.3f} s" if seconds < 0.0995 else f"{seconds:.2f} s" if seconds < 9.95 else f"{seconds:.1f} s"


def file_size(size: int) -> str:
    """Bytes on disk, decimal: `26.1 GB`, `250 MB`, `12 kB`, `7 bytes`."""
    return _scaled(size, 1000, ("bytes", "kB", "MB", "GB", "TB"))


def memory_size(size: int) -> str:
    """Bytes of memory, binary: 24 x 2^30 is `24.0 GB`."""
    return _scaled(size, 1024, ("bytes", "kB", "MB", "GB", "TB"))


def _scaled(size: int, base: int, units: tuple[str, ...]) -> str:
    value, unit = float(max(0, size)), 0
    while round(value, 0 if unit < 3 else 1) >= base and unit < len(units) - 1:
        value, unit = value / base, unit + 1
    return f"{value:.1f} {units[unit]}" if unit >= 3 else f"{value:.0f} {units[unit]}"


def frame_rate(fps: object) -> str:
    """`48`, or `47.952` for 48000/1001; what is no rate comes back as it is."""
    try:
        value = Fraction(str(fps))
    except (ValueError, ZeroDivisionError):
        return str(fps)
    return f"{float(value):.3f}".rstrip("0").rstrip(".")


def video_words(width: object, height: object, frames: object, fps: object) -> str:
    """`1408x960, 193 frames at 48 fps (4.0 s)`."""
    words = f"{width}x{height}, {count(frames, 'frame')} at {frame_rate(fps)} fps"
    try:
        return f"{words} ({duration(float(Fraction(str(frames)) / Fraction(str(fps))))})"
    except (ValueError, ZeroDivisionError):
        return words


def count(number: object, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def printable(text: str) -> str:
    """One line without control characters: a prompt or a path must not move the cursor or colour the terminal."""
    spaced = " ".join(text.split())
    return "".join("?" if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\u200d" else c for c in spaced)
