"""Where the object is in a video of this world: of what differs from the empty scene, all that hangs together with
something thick.

A drawn star of the night sky that is a little blurred, or the rim of its moon, is no part of the object.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from training.world import scenes
from training.world.captions import COLOURS, Combination

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

PALETTE = np.array(list(COLOURS.values()), np.float32)
_THICK = 3 / 128
"""Of the height: how far from its outside the thickest part of an object is at least."""


def object_mask(video: Floats, combination: Combination, median: Floats | None = None) -> Mask:
    """Where the object is in every frame of a video `[frames, height, width, 3]`: `[frames, height, width]`.

    Looked for at half the size; height and width are even. median: of the frames, where that is known already.
    """
    mask = differing(video, combination, median)
    frames, height, width = mask.shape
    coarse = mask.reshape(frames, height // 2, 2, width // 2, 2).any((2, 4))
    margin = max(1, round(height / 2 * _THICK))
    thick = _thick(coarse, margin)
    if thick.any((1, 2)).mean() < 0.5:  # white on white: only the outline differs
        filled = _filled(coarse)
        mask = mask | (filled & ~coarse).repeat(2, 1).repeat(2, 2)
        coarse, thick = filled, _thick(filled, margin)
    for _ in range(width):
        larger = grown(thick) & coarse
        if (larger == thick).all():
            break
        thick = larger
    found: Mask = mask & thick.repeat(2, 1).repeat(2, 2)
    return found


def differing(video: Floats, combination: Combination, median: Floats | None = None) -> Mask:
    """Where a frame differs from the background by about half of what the object's colour would, `[frames, h, w]`.

    median: of the frames, where that is known already.
    """
    median = np.median(video, axis=0) if median is None else median
    base = empty_scene(*median.shape[:2], combination.background)
    base = base + np.clip((median - base).mean((0, 1)), -0.05, 0.05)  # the scene's own tint
    contrast = np.abs(PALETTE[combination.colour] - base).max(-1)
    mask: Mask = np.abs(video - base).max(-1) > np.clip(0.45 * contrast, 0.08, 0.22)
    return mask


def empty_scene(height: int, width: int, background: int) -> Floats:
    """A background without anything on it, `[height, width, 3]`."""
    scene: Floats = empty_scenes(height, width)[background]
    return scene


@functools.lru_cache(maxsize=8)
def empty_scenes(height: int, width: int) -> Floats:
    """`[10, height, width, 3]`"""
    images = scenes.background_images(height, width, np.zeros(0, np.float32))
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def _thick(mask: Mask, margin: int) -> Mask:
    """What is more than that many pixels from the outside."""
    for _ in range(margin):
        mask = ~grown(~mask)
    return mask


def _filled(mask: Mask) -> Mask:
    """With its holes: all that the frame's border does not reach."""
    outside = np.zeros_like(mask)
    outside[:, 0] = outside[:, -1] = outside[:, :, 0] = outside[:, :, -1] = True
    outside &= ~mask
    while True:
        larger = grown(outside) & ~mask
        if (larger == outside).all():
            return ~outside
        outside = larger


def grown(mask: Mask) -> Mask:
    """With a pixel more on each of the four sides."""
    larger = mask.copy()
    larger[:, 1:] |= mask[:, :-1]
    larger[:, :-1] |= mask[:, 1:]
    larger[:, :, 1:] |= mask[:, :, :-1]
    larger[:, :, :-1] |= mask[:, :, 1:]
    return larger
