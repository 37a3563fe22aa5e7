"""What `benchmarks.quality` measures beside `training.world.measure`: edges, turning, smoothness. Pixels and no judge.

    edges        how wide the object's outline is and what rings around it, along lines across the silhouette
    turning      how fast a square, triangle or star turns, from its silhouettes
    smoothness   how evenly the object moves from one shown frame to the next, and how much the rest flickers

A video is `[frames, height, width, 3]`, RGB in [0, 1]; it is measured as an object of the combination that was named.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.world import scenes
from training.world.captions import Combination
from training.world.silhouettes import Floats, Mask, empty_scene, grown, object_mask

FOLDS = {scenes.SQUARE: 4, scenes.TRIANGLE: 3, scenes.STAR: 5}
"""How often a shape comes to lie on itself in one turn."""
MOVING = (scenes.LEFT, scenes.RIGHT, scenes.UP, scenes.DOWN, scenes.BOUNCING)

_STEP = 0.5  # pixels between two samples of a profile
_REACH = 10.0  # pixels to either side of the silhouette
_OFFSETS = np.arange(-_REACH, _REACH + _STEP / 2, _STEP)
_POINTS = 300  # of a frame's silhouette at most
_CONTRAST = 0.15  # below it an edge is too faint to be measured
_RATES = np.arange(-60, 61) / 10  # radians a second
_SMALLEST = 60  # pixels of a silhouette that says anything


@dataclass(frozen=True)
class Edges:
    """Medians over a silhouette's points, means over frames.

    width: pixels; the range of what is seen within 8 pixels across the silhouette, divided by its steepest slope. An
    edge that is one pixel's antialiasing has 1.3 to 1.9, one that is blurred over everything that is looked at 16.
    overshoot: how far the background within 6 pixels leaves its own value away from the outline's colour, as a share of
    the step. residue: root mean square of what is not background 2 to 6 pixels away, as a share of the step. halo: mean
    difference from the named scene 6 to 24 pixels away, in levels of 255 (the largest of the three channels; what the
    whole background differs by is taken off), which sees the rings around an edge that is itself wide. elsewhere: the
    same farther away.
    """

    width: float
    overshoot: float
    residue: float
    halo: float
    elsewhere: float


@dataclass(frozen=True)
class Turning:
    """rate: radians a second, positive as the world's spinning objects turn. coherence: 1 where all frames agree."""

    rate: float
    coherence: float

    @property
    def spins(self) -> bool:
        """The world's spinning objects turn by 2 to 3 radians a second."""
        return self.coherence > 0.5 and 1.2 < self.rate < 4.0


@dataclass(frozen=True)
class Smoothness:
    """At the rate at which frames are shown.

    step: mean movement of the object's centre between two frames, pixels. judder: mean change of that movement (a
    second difference) divided by the mean movement: 0 for an even glide, 2 where every frame is shown twice. midway:
    how far the object is from the middle of its neighbours' places in every second frame, as a share of their distance:
    0 for an even glide, 0.5 where every frame is shown twice. change: mean second difference of the pixels that the
    object crosses, in levels of 255. flicker: the same of all others.
    """

    step: float
    judder: float
    midway: float
    change: float
    flicker: float


@dataclass(frozen=True)
class Seen:
    """A video, the empty scene that was named, and where the object is in every frame `[frames, height, width]`."""

    video: Floats
    combination: Combination
    empty: Floats
    masks: Mask
    median: Floats


def see(video: Floats, combination: Combination, median: Floats | None = None) -> Seen:
    """Finds the object (see `training.world.silhouettes`). median: of the frames, where it is known."""
    median = np.median(video, axis=0) if median is None else median
    empty = empty_scene(*median.shape[:2], combination.background)
    return Seen(video, combination, empty, object_mask(video, combination, median), median)


def edges(seen: Seen, frames: Iterable[int]) -> Edges | None:
    """Of those frames; None where no silhouette has a measurable edge."""
    found = []
    for frame in frames:
        picture, mask = seen.video[frame], seen.masks[frame]
        profile = _profiles(picture, mask, seen.empty)
        if profile is not None:
            found.append((*_edge(profile), *_halo(picture - seen.empty, mask)))
    return Edges(*(float(value) for value in np.mean(found, 0))) if found else None


def _edge(across: Floats) -> tuple[float, float, float]:
    """Width, overshoot and residue of profiles `[points, offsets]`, 1 on the outline and 0 on the background."""
    near = across[:, _between(-8, 8)]
    slope = np.abs(near[:, 2:] - near[:, :-2]).max(1)  # over one pixel
    width = np.ptp(near, axis=1) / np.maximum(slope, 1e-6)
    overshoot = np.clip(-across[:, _between(1, 6)], 0, None).max(1)
    residue = np.sqrt((across[:, _between(2, 6)] ** 2).mean(1))
    return float(np.median(width)), float(np.median(overshoot)), float(np.median(residue))


def _halo(difference: Floats, mask: Mask) -> tuple[float, float]:
    """Mean difference from the scene in a ring around the object and outside of it, levels of 255."""
    height, width = mask.shape
    coarse = mask.reshape(1, height // 2, 2, width // 2, 2).any((2, 4))
    rings = []
    for grow in (3, 9):
        for _ in range(grow):
            coarse = grown(coarse)
        rings.append(coarse[0].repeat(2, 0).repeat(2, 1))
    near, far = rings[1] & ~rings[0], ~rings[1]
    if not near.any() or not far.any():
        return math.nan, math.nan
    away = np.abs(difference - np.median(difference[far], axis=0)).max(-1) * 255
    return float(away[near].mean()), float(away[far].mean())


def _between(low: float, high: float) -> slice:
    return slice(int((low + _REACH) / _STEP), int((high + _REACH) / _STEP) + 1)


def _profiles(frame: Floats, mask: Mask, base: Floats) -> Floats | None:
    """Lines across the silhouette, from the inside out: 1 is the outline's colour, 0 the background 8 pixels away."""
    margin = int(_REACH) + 1
    inner = mask.copy()
    for axis in (0, 1):
        for shift in (-1, 1):
            inner &= np.roll(mask, shift, axis)
    border = mask & ~inner
    border[:margin] = border[-margin:] = border[:, :margin] = border[:, -margin:] = False
    y, x = np.nonzero(border)
    if len(y) < 8 or mask.sum() < _SMALLEST:
        return None
    chosen = np.linspace(0, len(y) - 1, min(len(y), _POINTS)).astype(int)
    y, x = y[chosen], x[chosen]
    soft = _blurred(mask.astype(np.float32), 3)
    down, across = np.gradient(soft)
    normal = -np.stack([down[y, x], across[y, x]], -1)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    y, x, normal = (part[length[:, 0] > 1e-3] for part in (y, x, normal / np.maximum(length, 1e-9)))
    at_y = y[:, None] + normal[:, :1] * _OFFSETS
    at_x = x[:, None] + normal[:, 1:] * _OFFSETS
    differences = _sampled(frame - base, at_y, at_x)
    background = differences[:, _between(8, 10)].mean(1, keepdims=True)
    differences = differences - background
    step = differences[:, _between(-3, -2)].mean(1, keepdims=True)
    clear = np.abs(step[:, 0]).max(-1) > _CONTRAST
    # Only where the line runs from the object into the open: not through a notch into another part of it.
    beyond = _sampled(mask[..., None].astype(np.float32), at_y, at_x)[..., 0]
    clear &= (beyond[:, _between(2, 10)] < 0.5).all(1) & (beyond[:, _between(-4, -1)] > 0.5).all(1)
    if clear.sum() < 8:
        return None
    differences, step = differences[clear], step[clear]
    projected: Floats = (differences * step).sum(-1) / (step * step).sum(-1)
    return projected


def _blurred(image: Floats, times: int) -> Floats:
    for _ in range(times):
        for axis in (0, 1):
            image = (np.roll(image, 1, axis) + image + np.roll(image, -1, axis)) / np.float32(3)
    return image


def _sampled(image: Floats, y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]) -> Floats:
    """The image `[h, w, c]` between its pixels, at positions within it."""
    height, width, _ = image.shape
    top = np.clip(np.floor(y), 0, height - 2).astype(int)
    left = np.clip(np.floor(x), 0, width - 2).astype(int)
    down, across = (y - top)[..., None].astype(np.float32), (x - left)[..., None].astype(np.float32)
    upper = image[top, left] * (1 - across) + image[top, left + 1] * across
    lower = image[top + 1, left] * (1 - across) + image[top + 1, left + 1] * across
    mixed: Floats = upper * (1 - down) + lower * down
    return mixed


def turning(seen: Seen, fps: float) -> Turning | None:
    """How the object turns; None for circles, and where no silhouette is seen.

    Each silhouette's angle is the phase of its n-fold moment; the rate is the one with which all phases go round
    together, so that no frame has to be followed into the next.
    """
    folds = FOLDS.get(seen.combination.shape)
    if folds is None:
        return None
    moments = np.array([_moment(mask, folds) for mask in seen.masks])
    there = np.abs(moments) > 0
    if there.sum() < max(3, len(moments) // 2):
        return None
    times = np.flatnonzero(there) / fps
    unit = moments[there] / np.abs(moments[there])
    agreement = np.abs((unit * np.exp(-1j * folds * _RATES[:, None] * times)).mean(1))
    best = int(agreement.argmax())
    return Turning(rate=float(_RATES[best]), coherence=float(agreement[best]))


def _moment(mask: Mask, folds: int) -> complex:
    if mask.sum() < _SMALLEST:
        return 0j
    y, x = np.nonzero(mask)
    dy, dx = y - y.mean(), x - x.mean()
    radius = np.hypot(dx, dy) / math.sqrt(len(y) / math.pi)
    weight = np.minimum(radius, 2.0) ** 3  # corners say most, and stray pixels far away no more than those
    return complex((weight * np.exp(1j * folds * np.arctan2(dy, dx))).sum())


def smoothness(seen: Seen) -> Smoothness:
    """Of the frames as they are shown. step and judder are not a number where the object is not seen throughout."""
    video = seen.video
    second = np.abs(video[2:] - 2 * video[1:-1] + video[:-2]).mean(-1) * 255
    crossed = np.stack([_blurred(mask.astype(np.float32), 6) > 0.02 for mask in seen.masks])
    crossed = crossed[2:] | crossed[1:-1] | crossed[:-2]
    change = float(second[crossed].mean()) if crossed.any() else math.nan
    flicker = float(second[~crossed].mean()) if (~crossed).any() else math.nan
    centres = centre_path(seen.masks)
    if centres is None:
        return Smoothness(math.nan, math.nan, math.nan, change, flicker)
    moved = np.diff(centres, axis=0)
    step = float(np.linalg.norm(moved, axis=-1).mean())
    judder = float(np.linalg.norm(np.diff(moved, axis=0), axis=-1).mean()) / max(step, 1e-6)
    away = np.linalg.norm(centres[1::2] - (centres[:-1:2] + centres[2::2]) / 2, axis=-1)
    apart = float(np.linalg.norm(centres[2::2] - centres[:-1:2], axis=-1).mean())
    return Smoothness(step, judder, float(away.mean()) / max(apart, 1e-6), change, flicker)


def centre_path(masks: Mask) -> npt.NDArray[np.float64] | None:
    """The object's centre in each frame, pixels (y, x); None where it is missing in one."""
    if (masks.sum((1, 2)) < _SMALLEST).any():
        return None
    return np.array([[axis.mean() for axis in np.nonzero(mask)] for mask in masks])


def doubled(video: Floats) -> Floats:
    """n frames shown at twice the rate, each twice but the last: 2n - 1."""
    return np.repeat(video, 2, axis=0)[:-1]


def cross_faded(video: Floats) -> Floats:
    """n frames and their means in between: 2n - 1."""
    faded = np.empty((2 * len(video) - 1, *video.shape[1:]), video.dtype)
    faded[::2] = video
    faded[1::2] = (video[1:] + video[:-1]) / 2
    return faded
