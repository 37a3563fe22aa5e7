"""Scenes and their rendering: attributes to antialiased RGB video, at any size, length and frame rate.

Lengths are in units of the frame's shorter side and times in seconds, so that one scene can be rendered at 128x192 and
at 256x384, at 24 and at 48 frames a second: the pairs that the latent upsamplers learn from.

An `Array` is a NumPy array or a PyTorch tensor; what comes out is of the kind, and on the device, of what went in. Both
libraries know the functions used here by the names of the array API standard.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.world.captions import COLOURS, PLAIN_BACKGROUNDS

Array = Any

CIRCLE, SQUARE, TRIANGLE, STAR = range(4)
STILL, LEFT, RIGHT, UP, DOWN, BOUNCING, SPINNING, GROWING = range(8)
_RADII = ((0.13, 0.155), (0.185, 0.215), (0.25, 0.285))  # small, medium, large: from, to
_NEIGHBOURHOOD = 0.035  # how far around the object the mask of a rendering reaches


def namespace(array: Array) -> Any:
    """The library that an array belongs to."""
    return np if isinstance(array, np.ndarray | np.generic) else sys.modules["torch"]


@dataclass(frozen=True)
class Scenes:
    """A batch of n scenes: every field is `[n, ...]`."""

    combination: Array
    """[n, 5], integers: see `captions.Combination`."""
    x: Array
    y: Array
    """The object's centre at time 0, from the left and from the top."""
    radius: Array
    velocity_x: Array
    velocity_y: Array
    hop_height: Array
    hop_seconds: Array
    hop_phase: Array
    floor: Array
    """Where a bouncing object lands."""
    spin: Array
    """Radians a second."""
    first_scale: Array
    growth: Array
    """A growing object's radius is `radius * (first_scale + growth * seconds)`."""
    tint: Array
    """[n, 3], what the object's colour differs from the name's."""
    background_tint: Array
    """[n, 1]"""

    def __len__(self) -> int:
        return len(self.combination)

    def __getitem__(self, rows: Any) -> Scenes:
        """The scenes of some rows, a slice or an index array."""
        return Scenes(**{field.name: getattr(self, field.name)[rows] for field in dataclasses.fields(self)})


def sample_scenes(combinations: Array, size: tuple[int, int], uniform: Callable[[int, int], Array]) -> Scenes:
    """Random scenes of those combinations `[n, 5]`, for frames of that aspect (`size`: height, width).

    uniform(n, k) gives `[n, k]` float32 numbers in [0, 1) of the library and on the device that the scenes shall have.
    """
    height, width = size[0] / min(size), size[1] / min(size)
    draws = iter(uniform(len(combinations), 19).T)
    xp = namespace(combinations)
    motion = combinations[:, 2]

    def between(low: Array, high: Array) -> Array:
        return low + (high - low) * next(draws)

    radii = xp.asarray(_RADII, dtype=xp.float32, device=combinations.device)[combinations[:, 4]]
    radius = between(radii[:, 0], radii[:, 1])
    x, y = between(0.28, 0.72) * width, between(0.36, 0.66) * height
    # What crosses the frame starts near the side that it comes from.
    x = xp.where(motion == LEFT, between(0.68, 0.84) * width, x)
    x = xp.where(motion == RIGHT, between(0.16, 0.32) * width, x)
    y = xp.where(motion == UP, between(0.66, 0.80) * height, y)
    y = xp.where(motion == DOWN, between(0.20, 0.34) * height, y)
    speed = between(0.40, 0.60)
    zero = xp.zeros_like(speed)
    velocity_x = xp.where(motion == LEFT, -speed, xp.where(motion == RIGHT, speed, zero))
    velocity_y = xp.where(motion == UP, -0.85 * speed, xp.where(motion == DOWN, 0.85 * speed, zero))
    return Scenes(
        combination=combinations,
        x=x,
        y=y,
        radius=radius,
        velocity_x=velocity_x,
        velocity_y=velocity_y,
        hop_height=between(0.30, 0.40),
        hop_seconds=between(0.75, 1.0),
        hop_phase=between(0.0, 1.0),
        floor=between(0.84, 0.90) * height,
        spin=between(2.0, 3.0),
        first_scale=between(0.40, 0.55),
        growth=between(0.8, 1.1),
        tint=xp.stack([between(-0.03, 0.03) for _ in range(3)], -1),
        background_tint=between(-0.03, 0.03)[:, None],
    )


@dataclass(frozen=True)
class Windows:
    """The part of each frame that is drawn: `height` x `width` pixels from `top` and `left`, `[n]` integers each."""

    top: Array
    left: Array
    height: int
    width: int


def render(scenes: Scenes, height: int, width: int, frames: int, fps: float | Array) -> Array:
    """The videos `[n, 3, frames, height, width]`, RGB in [-1, 1]. fps: one rate for all, or `[n]`."""
    return _render(scenes, height, width, frames, fps, None, with_mask=False)[0]


def render_with_mask(
    scenes: Scenes, height: int, width: int, frames: int, fps: float | Array, windows: Windows | None = None
) -> tuple[Array, Array]:
    """The videos, and `[n, 1, frames, height, width]` with 1 on the object and closely around it.

    windows: only that part of videos of `height` x `width`, the very pixels that it has there.
    """
    return _render(scenes, height, width, frames, fps, windows, with_mask=True)


def windows_on_objects(
    scenes: Scenes, size: tuple[int, int], window: tuple[int, int], seconds: float, uniform: Callable[[int, int], Array]
) -> Windows:
    """Windows about where each object is at some time in [0, seconds], off by up to its radius, within the frame."""
    xp = namespace(scenes.x)
    draws = uniform(len(scenes), 3)
    x, y, radius, _ = _motion(scenes, draws[:, :1] * seconds)

    def start(centre: Array, shift: Array, whole: int, part: int) -> Array:
        middle = (centre + radius * (2 * shift - 1))[:, 0] * min(size)
        return xp.asarray(xp.clip(xp.round(middle - part / 2), 0, whole - part), dtype=xp.int64)

    return Windows(
        start(y, draws[:, 1:2], size[0], window[0]), start(x, draws[:, 2:3], size[1], window[1]), window[0], window[1]
    )


def _render(
    scenes: Scenes,
    height: int,
    width: int,
    frames: int,
    fps: float | Array,
    windows: Windows | None,
    *,
    with_mask: bool,
) -> tuple[Array, Array]:
    xp, device, n = namespace(scenes.x), scenes.x.device, len(scenes)
    unit = float(min(height, width))
    times = xp.arange(frames, dtype=xp.float32, device=device) / xp.reshape(
        xp.asarray(fps, dtype=xp.float32, device=device), (-1, 1)
    )
    x, y, radius, angle = _motion(scenes, xp.broadcast_to(times, (n, frames)))
    empty = background_images(height, width, scenes.x)
    if windows is None:
        empty = empty[scenes.combination[:, 3]]
        rows, columns = xp.arange(height, device=device)[None], xp.arange(width, device=device)[None]
    else:
        height, width = windows.height, windows.width
        rows = windows.top[:, None] + xp.arange(height, device=device)
        columns = windows.left[:, None] + xp.arange(width, device=device)
        channels = xp.arange(3, device=device)[:, None, None]
        scene = scenes.combination[:, 3][:, None, None, None]
        empty = empty[scene, channels, rows[:, None, :, None], columns[:, None, None, :]]
    empty = empty + scenes.background_tint[:, :, None, None]

    def centres(pixels: Array) -> Array:
        """Of pixels `[n or 1, k]`, for every scene."""
        return xp.broadcast_to((xp.asarray(pixels, dtype=xp.float32) + 0.5) / unit, (n, pixels.shape[1]))

    down, across = centres(rows)[:, None, :, None], centres(columns)[:, None, None, :]
    palette = xp.asarray(list(COLOURS.values()), dtype=xp.float32, device=device)
    colour = palette[scenes.combination[:, 1]] + scenes.tint

    video = xp.zeros((n, 3, frames, height, width), dtype=xp.float32, device=device)
    mask = xp.zeros((n, 1, frames, height, width) if with_mask else (0,), dtype=xp.float32, device=device)
    for shape in (CIRCLE, SQUARE, TRIANGLE, STAR):
        chosen = scenes.combination[:, 0] == shape
        if not bool(chosen.any()):
            continue
        centre_x, centre_y, size, turn = (value[chosen][:, :, None, None] for value in (x, y, radius, angle))
        dx, dy = across[chosen] - centre_x, down[chosen] - centre_y
        cosine, sine = xp.cos(turn), xp.sin(turn)
        local_x, local_y = dx * cosine + dy * sine, -dx * sine + dy * cosine
        distance = signed_distance(shape, local_x, local_y, size)
        cover = xp.clip(0.5 - distance * unit, 0, 1)
        outline = xp.clip(0.5 + (distance + 0.018) * unit, 0, 1)
        painted = colour[chosen][:, :, None, None, None] * (1 - 0.45 * outline)[:, None]
        if shape == CIRCLE:  # a highlight, without which nobody could see it spin
            offset = xp.sqrt((local_x + 0.38 * size) ** 2 + (local_y + 0.38 * size) ** 2 + 1e-9)
            light = (0.45 * xp.clip(0.5 - (offset - 0.24 * size) * unit, 0, 1))[:, None]
            painted = painted * (1 - light) + light
        behind = empty[chosen][:, :, None]
        video[chosen] = xp.clip((behind + (painted - behind) * cover[:, None]) * 2 - 1, -1, 1)
        if with_mask:
            mask[chosen] = xp.clip((_NEIGHBOURHOOD - distance) * unit, 0, 1)[:, None]
    return video, mask


def _motion(scenes: Scenes, seconds: Array) -> tuple[Array, Array, Array, Array]:
    """Centre x and y, radius and angle at those times `[n, frames]`, each of the same shape."""
    xp = namespace(seconds)
    motion = scenes.combination[:, 2:3]
    x = scenes.x[:, None] + scenes.velocity_x[:, None] * seconds
    y = scenes.y[:, None] + scenes.velocity_y[:, None] * seconds
    radius = xp.broadcast_to(scenes.radius[:, None], seconds.shape)
    swing = xp.abs(xp.sin(math.pi * (seconds / scenes.hop_seconds[:, None] + scenes.hop_phase[:, None])))
    hopping = scenes.floor[:, None] - 0.9 * radius - scenes.hop_height[:, None] * swing
    y = xp.where(motion == BOUNCING, hopping, y)
    angle = xp.where(motion == SPINNING, scenes.spin[:, None] * seconds, xp.zeros_like(seconds))
    scale = xp.clip(scenes.first_scale[:, None] + scenes.growth[:, None] * seconds, None, 1.7)
    return x, y, xp.where(motion == GROWING, radius * scale, radius), angle


def signed_distance(shape: int, x: Array, y: Array, radius: Array) -> Array:
    """How far a point is outside (positive) or inside (negative) the outline of a shape around the origin."""
    xp = namespace(x)
    if shape == CIRCLE:
        return xp.sqrt(x * x + y * y + 1e-9) - radius
    if shape == SQUARE:
        beyond_x, beyond_y = xp.abs(x) - 0.88 * radius, xp.abs(y) - 0.88 * radius
        outside = xp.sqrt(xp.clip(beyond_x, 0, None) ** 2 + xp.clip(beyond_y, 0, None) ** 2 + 1e-12)
        return outside + xp.clip(xp.maximum(beyond_x, beyond_y), None, 0)
    if shape == TRIANGLE:  # three half planes, one corner up
        slope = math.sqrt(3) / 2 * x
        sides = xp.maximum(slope - 0.5 * y, -slope - 0.5 * y)
        return xp.maximum(y, sides) - 0.62 * radius
    # A five-pointed star, one point up, folded onto half a point: the line from the tip to the notch.
    half = math.pi / 5
    angle = xp.abs(xp.remainder(xp.atan2(x, -y) + half, 2 * half) - half)
    reach = xp.sqrt(x * x + y * y + 1e-9)
    tip, notch = 1.18 * radius, 0.52 * radius
    notch_x, notch_y = notch * math.cos(half), notch * math.sin(half)
    normal_x, normal_y = notch_y, tip - notch_x
    length = xp.sqrt(normal_x * normal_x + normal_y * normal_y)
    return ((reach * xp.cos(angle) - tip) * normal_x + reach * xp.sin(angle) * normal_y) / length


def background_images(height: int, width: int, like: Array) -> Array:
    """The ten empty scenes `[10, 3, height, width]`, RGB in [0, 1], of the library and on the device of `like`."""
    return _background_images(height, width, namespace(like), like.device)


@functools.lru_cache(maxsize=32)
def _background_images(height: int, width: int, xp: Any, device: Any) -> Array:
    unit, pixel = min(height, width), 1 / height

    def axis(length: int) -> Array:
        return (xp.arange(length, dtype=xp.float32, device=device) + 0.5) / length

    y = xp.broadcast_to(axis(height)[:, None], (height, width))
    x = xp.broadcast_to(axis(width)[None, :], (height, width))

    def colour(*rgb: float) -> Array:
        return xp.asarray(rgb, dtype=xp.float32, device=device)[:, None, None]

    def mix(first: Array, second: Array, share: Array) -> Array:
        return first * (1 - share) + second * share

    def ramp(start: float, end: float) -> Array:
        return xp.clip((y - start) / (end - start), 0, 1)

    def below(line: float | Array) -> Array:
        return xp.clip((y - line) / pixel + 0.5, 0, 1)

    def disc(centre_x: float, centre_y: float, radius: float) -> Array:
        away = xp.sqrt(((x - centre_x) * width / unit) ** 2 + ((y - centre_y) * height / unit) ** 2)
        return xp.clip((radius - away) * unit + 0.5, 0, 1)

    sky = mix(colour(0.35, 0.62, 0.95), colour(0.75, 0.88, 1.0), ramp(0, 0.6))
    meadow = mix(colour(0.36, 0.68, 0.25), colour(0.16, 0.45, 0.12), ramp(0.55, 1))
    grass = mix(sky, meadow, below(0.56))

    water = mix(colour(0.15, 0.50, 0.62), colour(0.03, 0.22, 0.42), ramp(0.4, 1))
    water = xp.where(y > 0.40, water + 0.04 * xp.sin(y * 45), water)
    sea = mix(colour(0.80, 0.90, 0.97), water, below(0.40))

    dunes = mix(colour(0.93, 0.80, 0.55), colour(0.78, 0.60, 0.35), ramp(0.5, 1))
    haze = mix(colour(0.98, 0.80, 0.55), colour(0.99, 0.92, 0.75), y / 0.5)
    sand = mix(haze, dunes, below(0.50 + 0.06 * xp.sin(x * 5.0 + 0.6)))

    night = mix(colour(0.02, 0.03, 0.12), colour(0.10, 0.10, 0.32), y)
    night = mix(night, colour(0.95, 0.93, 0.80), disc(0.86, 0.17, 0.09))
    rng = random.Random(5)
    for _ in range(12):
        star = disc(rng.random(), rng.random() * 0.8, 0.012 + 0.010 * rng.random())
        night = mix(night, colour(0.85, 0.88, 1.0), star)

    plain = [colour(*rgb) for rgb in PLAIN_BACKGROUNDS.values()]
    return xp.stack([xp.broadcast_to(image, (3, height, width)) for image in (*plain, grass, sea, sand, night)])
