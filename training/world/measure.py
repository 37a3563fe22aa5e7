"""What can be seen in a video of this world, by pixel measurements: no learned judge, NumPy only.

A video is measured against the combination that its prompt named; each answer is yes or no:

    visible     something thick differs enough from the named background, in most frames (see `silhouettes`)
    background  the median frame is nearest to the named one of the ten empty scenes (the border counts four times)
    colour      most of the object's inner pixels are nearest to the named colour of the palette
    motion      the path and the area of the object are those of the named motion; "still" and "spinning" are NOT told
                apart: either counts for both
    shape       the silhouette, laid at the same centre and area over the four drawn ones in all their angles, overlaps
                most with the named one

The same measurement of real renderings, with their own and with other prompts, gives the ceiling and the floor that a
model's figures have to be read against: `summarise` makes a row of such a table.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.world import scenes
from training.world.captions import SHAPES, Combination
from training.world.silhouettes import PALETTE, Floats, Mask, empty_scenes, object_mask

_GRID = 48  # cells of a silhouette's side
_EXTENT = 1.3  # half of that side, where the shapes have the radius 0.8
_TURN = {
    scenes.CIRCLE: 0.0,
    scenes.SQUARE: math.pi / 2,
    scenes.TRIANGLE: 2 * math.pi / 3,
    scenes.STAR: 2 * math.pi / 5,
}
_IN_PLACE = -1
_DIRECTIONS = (scenes.LEFT, scenes.RIGHT, scenes.UP, scenes.DOWN)


@dataclass(frozen=True)
class Measurement:
    """Which of the named attributes a video shows. overlap: of the best silhouette, intersection over union."""

    visible: bool
    background: bool
    colour: bool = False
    motion: bool = False
    shape: bool = False
    overlap: float = 0.0

    @property
    def all_but_shape(self) -> bool:
        return self.colour and self.background and self.motion


def measure(video: Floats, combination: Combination) -> Measurement:
    """Measures one video `[frames, height, width, 3]`, RGB in [0, 1], against what its prompt named."""
    median = np.median(video, axis=0)
    return measure_object(video, combination, median, object_mask(video, combination, median))


def measure_object(video: Floats, combination: Combination, median: Floats, mask: Mask) -> Measurement:
    """The same, where the frames' median and the object's mask are known."""
    frames, height, width, _ = video.shape
    background = _nearest_scene(median, empty_scenes(height, width)) == combination.background
    area = mask.sum((1, 2))
    seen = area > 0.003 * height * width
    if seen.mean() <= 0.7:
        return Measurement(visible=False, background=background)

    shape, overlap = _shape(mask[seen])
    motion = _motion(mask[seen], missing_at_first=bool((~seen[: max(1, frames // 4)]).mean() > 0.5))
    in_place = combination.motion in (scenes.STILL, scenes.SPINNING)
    return Measurement(
        visible=True,
        background=background,
        colour=_colour(video, mask) == combination.colour,
        motion=motion == (_IN_PLACE if in_place else combination.motion),
        shape=shape == combination.shape,
        overlap=overlap,
    )


def summarise(measurements: Sequence[Measurement], combinations: Sequence[Combination]) -> dict[str, float]:
    """The share of videos with each attribute right. "direction": the motion of left, right, up and down prompts."""
    pairs = list(zip(measurements, combinations, strict=True))
    row = {
        name: _share(getattr(measurement, name) for measurement in measurements)
        for name in ("visible", "colour", "background", "motion")
    }
    row["direction"] = _share(found.motion for found, named in pairs if named.motion in _DIRECTIONS)
    row["shape"] = _share(found.shape for found in measurements)
    row["colour+background+motion"] = _share(found.all_but_shape for found in measurements)
    for index, name in enumerate(SHAPES):
        row[f"shape of {name}s"] = _share(found.shape for found, named in pairs if named.shape == index)
    return row


def _share(answers: Iterable[bool]) -> float:
    listed = list(answers)
    return sum(listed) / len(listed) if listed else math.nan


def _nearest_scene(median: Floats, empty: Floats) -> int:
    height, width, _ = median.shape
    weight = np.full((height, width), 0.25, np.float32)
    edge = height // 8
    weight[:edge] = weight[-edge:] = weight[:, :edge] = weight[:, -edge:] = 1
    return int((np.abs(empty - median).mean(-1) * weight).mean((1, 2)).argmin())


def _colour(video: Floats, mask: Mask) -> int:
    inner = _eroded(mask, mask.shape[1] // 64)
    pixels = video[inner if inner.sum() > 30 else mask]
    nearest = ((pixels[:, None] - PALETTE) ** 2).sum(-1).argmin(1)
    return int(np.bincount(nearest, minlength=len(PALETTE)).argmax())


def _eroded(mask: Mask, margin: int) -> Mask:
    """Only what has `margin` pixels of the mask around it; beyond the frame counts as mask."""
    for axis in (1, 2):
        padding = [(margin, margin) if other == axis else (0, 0) for other in range(3)]
        padded = np.pad(mask, padding, constant_values=True)
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * margin + 1, axis=axis)
        mask = np.asarray(windows.all(-1))
    return mask


def _motion(mask: Mask, *, missing_at_first: bool) -> int:
    """The motion of the frames `[n, h, w]` in which the object was seen: an index into MOTIONS, or _IN_PLACE."""
    area = mask.sum((1, 2)).astype(np.float32)
    x, y = _centres(mask, area)
    end = max(1, len(mask) // 5)
    dx, dy = x[-end:].mean() - x[:end].mean(), y[-end:].mean() - y[:end].mean()
    growth = area[-end:].mean() / area[:end].mean()
    if (growth > 2.0 or missing_at_first) and abs(dx) < 0.15 and abs(dy) < 0.15:
        return scenes.GROWING
    path = np.abs(np.diff(y)).sum()
    if np.ptp(y) > 0.12 and abs(dx) < 0.15 and path > 1.35 * max(abs(y[-1] - y[0]), 1e-6):
        return scenes.BOUNCING
    if max(abs(dx), abs(dy)) <= 0.12:
        return _IN_PLACE
    if abs(dx) > abs(dy):
        return scenes.LEFT if dx < 0 else scenes.RIGHT
    return scenes.UP if dy < 0 else scenes.DOWN


def _centres(mask: Mask, area: Floats) -> tuple[Floats, Floats]:
    """x and y of each frame's mask, in units of the height."""
    _, height, width = mask.shape
    x = (mask.sum(1) * (np.arange(width) + 0.5)).sum(1) / area / height
    y = (mask.sum(2) * (np.arange(height) + 0.5)).sum(1) / area / height
    return x, y


def _shape(mask: Mask) -> tuple[int, float]:
    """The shape with the greatest overlap over five frames of the later two thirds, and that overlap."""
    chosen = np.linspace(len(mask) // 3, len(mask) - 1, 5).astype(int)
    votes = np.array([[_overlap(mask[frame], shape) for shape in range(len(SHAPES))] for frame in chosen]).mean(0)
    return int(votes.argmax()), float(votes.max())


def _overlap(mask: Mask, shape: int) -> float:
    """The best intersection over union with a shape's silhouettes."""
    drawn = _silhouettes(shape)
    laid = _laid_over(mask.astype(np.float32), drawn[0])
    return float(max((laid & angle).sum() / (laid | angle).sum() for angle in drawn))


@functools.cache
def _silhouettes(shape: int) -> Mask:
    """One shape in eight angles (a circle in one), `[angles, 48, 48]`."""
    axis = ((np.arange(_GRID) + 0.5) / _GRID * 2 - 1) * _EXTENT
    x, y = axis[None, :].astype(np.float32), axis[:, None].astype(np.float32)
    angles = [0.0] if shape == scenes.CIRCLE else [_TURN[shape] * step / 8 for step in range(8)]
    return np.stack(
        [
            scenes.signed_distance(
                shape,
                x * math.cos(angle) + y * math.sin(angle),
                -x * math.sin(angle) + y * math.cos(angle),
                np.float32(0.8),
            )
            < 0
            for angle in angles
        ]
    )


def _laid_over(mask: Floats, drawn: Mask) -> Mask:
    """The mask moved and scaled to the centre and area of a drawn silhouette, `[48, 48]`."""
    height, width = mask.shape
    area, cells = mask.sum(), drawn.sum()
    scale = math.sqrt(area / cells)  # pixels a cell
    rows, columns = np.arange(height), np.arange(width)
    axis = np.arange(_GRID)
    grid = axis + 0.5 - _GRID / 2
    y = (mask.sum(1) * rows).sum() / area + (grid - ((drawn.sum(1) * axis).sum() / cells - _GRID / 2 + 0.5)) * scale
    x = (mask.sum(0) * columns).sum() / area + (grid - ((drawn.sum(0) * axis).sum() / cells - _GRID / 2 + 0.5)) * scale
    return _bilinear(mask, y, x) > 0.5


def _bilinear(image: Floats, y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The image at all pairs of those pixel coordinates; beyond its edge it is 0."""
    padded = np.pad(image, 1)

    def corners(position: npt.NDArray[np.float64], length: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        position = np.clip(position, -1, length) + 1  # in the padded image
        low = np.clip(np.floor(position), 0, length).astype(int)
        return low, position - low

    top, down = corners(y, image.shape[0])
    left, across = corners(x, image.shape[1])
    rows = padded[top] * (1 - down)[:, None] + padded[top + 1] * down[:, None]
    values: npt.NDArray[np.float64] = rows[:, left] * (1 - across) + rows[:, left + 1] * across
    return values
