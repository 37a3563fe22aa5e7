"""Facts of a video that is plain in every way, to be changed in one."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from orchestrator.upscaling.facts import Facts


def plain(**changes: Any) -> Facts:
    frames = changes.get("frames", 9)
    values: dict[str, Any] = {
        "format": "mov,mp4",
        "codec": "h264",
        "frames": frames,
        "ticks": tuple(512 * index for index in range(frames)),
        "time_base": Fraction(1, 12800),
        "origin": Fraction(0),
        "rate": Fraction(25),
        "usual_rate": Fraction(25),
        "last": Fraction(1, 25),
        "width": 96,
        "height": 64,
        "rotation": 0,
        "aspect": Fraction(1),
        "pixel_format": "yuv420p",
        "depth": 8,
        "alpha": False,
        "transfer": 1,
        "primaries": 1,
        "interlaced": False,
        "damaged": 0,
        "other_sizes": 0,
        "missing": 0,
        "broken_off": False,
        "tracks": (),
        "others": 0,
        "bytes": 1000,
        "sha256": "a" * 64,
    }
    return Facts(**{**values, **changes})
