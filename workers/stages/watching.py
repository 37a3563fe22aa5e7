"""Looking on while denoising and decoding go on: previews of the picture so far, and what makes them better.

Guarantees: it takes part in no result; it costs the computation at most a hundredth of its time, since after a preview
the next one waits a hundred times as long as that took, and two seconds at least; and whatever fails in it is nobody's
concern. A preview is the clean latent that the network predicts, its first, middle and last frame.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from cache.durable import remove, temporary_path
from workers.context import Context
from workers.protocol import Item, Job
from workers.sampling.denoise import OnStep, Predict
from workers.video.colours import Floats, colours, enlarged, equations, learn, read_map, small
from workers.video.stills import png

LEAST_SECONDS = 2.0
SHARE = 0.01
"""Of the time, for previews."""
LONG_SIDE = 512
"""Pixels that a preview's pictures together should have, at least."""
LEARNT_FRAMES = 12
"""Latent frames of a video that the map of colours learns from."""


class Viewer:
    """`with Viewer(job, context, item) as view: denoise(view.watch(predict), ..., on_step=view.after(save))`"""

    def __init__(self, job: Job, context: Context, item: Item, *, clock: Callable[[], float] = time.monotonic) -> None:
        asked: dict[str, Any] = dict(job.params.get("preview") or {})
        self._context, self._key, self._clock = context, item.key, clock
        self._path = Path(asked["folder"]) / f"{job.stage}-{item.params['seed']}.png" if asked else None
        self._map: Floats | None = None
        self._map_path = Path(asked["map"]) if asked else None
        self._shape = tuple(job.params["shape"])
        self._x0: mx.array | None = None
        self._next = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="view") if asked else None
        self._pending: Future[None] | None = None

    def __enter__(self) -> Viewer:
        if self._map_path is not None:
            self._map = read_map(self._map_path)
        return self

    def __exit__(self, *_: object) -> None:
        self._x0 = None
        if self._thread is not None:
            self._thread.shutdown()

    def watch(self, predict: Predict) -> Predict:
        """The same, remembering what it predicted last."""
        if self._path is None:
            return predict

        def watched(latent: mx.array, sigma: float) -> mx.array:
            self._x0 = predict(latent, sigma)
            return self._x0

        return watched

    def after(self, on_step: OnStep) -> OnStep:
        """A preview after a step, when it is time for one, and always after the last; then what was to be done."""

        def stepped(done: int, total: int, latent: mx.array, seconds: float) -> None:
            x0, self._x0 = self._x0, None
            if x0 is not None and (done == total or self._clock() >= self._next):
                with suppress(Exception):
                    self._show(done, total, x0)
            del x0
            on_step(done, total, latent, seconds)

        return stepped

    def _show(self, done: int, total: int, x0: mx.array) -> None:
        if self._thread is None or (self._pending is not None and not self._pending.done() and done != total):
            return
        began = self._clock()
        frames, height, width = self._shape
        cells = height * width
        parts = [x0[0, at * cells : (at + 1) * cells] for at in shown(frames)]
        cut = [np.array(part.astype(mx.float32)).reshape(height, width, -1) for part in parts]
        self._pending = self._thread.submit(self._draw, cut, done, total, began)
        self._next = began + LEAST_SECONDS

    def _draw(self, cut: list[NDArray[np.float32]], done: int, total: int, began: float) -> None:
        assert self._path is not None
        with suppress(Exception):
            picture = np.concatenate([colours(cells, self._map) for cells in cut], axis=1)
            picture = enlarged(picture, max(1, LONG_SIDE // picture.shape[1]))
            write(self._path, png(picture))
            took = self._clock() - began
            self._next = max(self._next, began + took / SHARE)
            self._context.emit("preview", key=self._key, path=str(self._path), index=done, total=total)


class Learner:
    """Collects small pictures of some frames while a video is decoded, and adds them to the map of colours."""

    def __init__(self, path: str | None, latent: mx.array) -> None:
        self._path = None if path is None else Path(path)
        self._latent = latent
        frames = latent.shape[2]
        count = min(frames, LEARNT_FRAMES)
        wanted = sorted({index * (frames - 1) // max(1, count - 1) for index in range(count)})
        self._wanted = {video_frame(index): index for index in wanted}
        self._pictures: dict[int, NDArray[np.float32]] = {}
        self._at = 0

    def take(self, frames: NDArray[np.uint8], *, whole: bool = True) -> None:
        """The next frames of the video; those that were cut already are only counted."""
        if self._path is not None and whole:
            for number in range(self._at, self._at + len(frames)):
                if number in self._wanted:
                    with suppress(ValueError):
                        self._pictures[self._wanted[number]] = small(frames[number - self._at])
        self._at += len(frames)

    def finish(self) -> None:
        if self._path is None or not self._pictures:
            return
        with suppress(Exception):
            order = sorted(self._pictures)
            latents = np.array(self._latent[0][:, mx.array(order)].astype(mx.float32)).swapaxes(0, 1)
            learn(self._path, equations(latents, np.stack([self._pictures[index] for index in order])))


def shown(frames: int) -> tuple[int, ...]:
    """Latent frames of a preview: first, middle, last."""
    return tuple(sorted({0, frames // 2, frames - 1}))


def video_frame(latent_frame: int) -> int:
    """The frame in the middle of those that a latent frame becomes: the first becomes one, each other eight."""
    return 0 if latent_frame == 0 else 8 * latent_frame - 4


def write(path: Path, data: bytes) -> None:
    """Whole or not at all, but not synced: after a power cut nobody misses a preview."""
    temporary = temporary_path(path.parent)
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        remove(temporary)
