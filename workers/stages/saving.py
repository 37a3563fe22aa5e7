"""Saving the state after each denoising step, while the next step computes.

Guarantees: a step is reported when its state is on the disk, never before; at most one state is on its way, and the
next step's result waits for it; a failed save ends the stage with its own error, one step later at most; where a stop
was asked for, it comes after a save, and after the last step not from here: its result is published first. The cost
that is left on the way of the computation is a copy of the latent.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import mlx.core as mx

from cache.artifacts import Tensor
from cache.failpoints import failpoint
from cache.home import Home
from cache.partial import save_partial
from workers.arrays import to_tensor
from workers.context import Context
from workers.protocol import Item, Job


class Saver:
    """`with Saver(job, context, item) as save: denoise(..., on_step=save)`"""

    def __init__(self, job: Job, context: Context, item: Item) -> None:
        self._home, self._context, self._key = Home(Path(job.home)), context, item.key
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._pending: Future[None] | None = None

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """What is on its way arrives, also when the next step failed; then that failure is what is said."""
        try:
            self._arrive()
        except BaseException:
            if kind is None:
                raise
        finally:
            self._thread.shutdown()

    def __call__(self, done: int, total: int, latent: mx.array, seconds: float) -> None:
        self._arrive()
        failpoint("step.computed", self._key, done)
        self._pending = self._thread.submit(self._save, done, total, to_tensor(latent), seconds)
        if self._context.stopping or done == total:
            self._arrive()
        if done < total:
            self._context.check_stop()

    def _arrive(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _save(self, done: int, total: int, latent: Tensor, seconds: float) -> None:
        save_partial(self._home, self._key, done, total, {"latent": latent})
        failpoint("step.saved", self._key, done)
        self._context.step(self._key, done, total, seconds)
