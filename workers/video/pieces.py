"""Decoded frames that are kept until their video is finished, so that a decode that was killed goes on.

A piece is what comes out of the decoder at a time, as the video encoder takes it: 8-bit RGB. Frames are large and
quickly made on a fast machine, so a piece is saved only where decoding it took longer than writing it could matter.
Keeping pieces is a convenience: a disk that is too full for them ends it, and not the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
from numpy.typing import NDArray

from cache.artifacts import Tensor
from cache.home import Home
from cache.partial import drop_partial, load_partial, piece, save_partial
from weights.errors import DoesNotFit

WORTH_SECONDS = 5.0
"""A piece that was decoded more quickly is decoded again instead."""

Frames = NDArray[np.uint8]


class Pieces:
    """The saved pieces of one video, in order from the first."""

    def __init__(self, home: Home, key: str) -> None:
        self._home, self._key = home, key
        self._saving = True

    def read(self, on_damage: Callable[[str], None]) -> Iterator[Frames]:
        """Frames [n, height, width, 3] of each piece up to the first that is not there, or damaged."""
        for index in count():
            found = load_partial(self._home, piece(self._key, index), on_damage)
            if found is None:
                return
            tensor = found.tensors["frames"]
            yield np.frombuffer(tensor.data, np.uint8).reshape(tensor.shape)
            del found, tensor  # not while the next one is read

    def save(self, index: int, frames: Frames, seconds: float) -> bool:
        """Keeps a piece that took so long; whether it is kept. Without one, no later one is of use."""
        if not self._saving or seconds < WORTH_SECONDS:
            self._saving = False
            return False
        tensor = Tensor("U8", frames.shape, np.ascontiguousarray(frames).data)
        try:
            save_partial(self._home, piece(self._key, index), index + 1, index + 1, {"frames": tensor})
        except DoesNotFit:
            self._saving = False
            drop_partial(self._home, self._key)
            return False
        return True

    def drop(self) -> None:
        """The video is finished."""
        drop_partial(self._home, self._key)
