"""One worker whose seconds are written down part by part: the child process of `benchmarks.split`.

    python -P -m benchmarks.split_worker JOB.json BEGAN OUT.json AGAIN... [--warm]

It does what `workers.__main__` does, in the same order and with the same code, without an orchestrator; BEGAN is the
monotonic clock's reading when the process was asked for. The device is woken by itself, before anything else does it:
one operation (the context), one product and one convolution (the libraries behind them), so that what they cost is
told apart. AGAIN are the same job with other outputs, run afterwards in this process. `--warm`: the device is woken as
workers do it, by a thread, while the stage's modules are imported and its weights read.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

STARTED = time.monotonic()

PARTS: tuple[tuple[str, str, str], ...] = (
    ("workers.stages.decode", "load", "weights"),
    ("workers.stages.stage2", "load", "weights"),
    ("workers.stages.temporal", "load", "weights"),
    ("workers.stages.decode", "read_array", "latent read"),
    ("workers.stages.temporal", "read_array", "latent read"),
    ("workers.stages.temporal", "upsample", "network"),
    ("workers.stages.temporal", "publish_arrays", "result written"),
    ("workers.stages.denoising", "start", "noise"),
    ("workers.stages.denoising", "denoise", "steps"),
    ("workers.stages.denoising", "finish", "result written"),
    ("workers.video.vae", "vae_decoder.decode", "network"),
    ("workers.video.vae", "to_uint8", "pixels to bytes"),
    ("workers.video.tiling", "_blend", "tiles put together"),
    ("workers.video.writer", "VideoWriter.__enter__", "video file opened"),
    ("workers.video.writer", "VideoWriter.write", "frames encoded"),
    ("workers.video.writer", "VideoWriter.__exit__", "video file closed"),
    ("workers.stages.watching", "Learner.take", "preview learned"),
    ("workers.stages.watching", "Learner.finish", "preview learned"),
    ("workers.stages.decode", "publish_video", "video published"),
)
"""Module, what is called in it, and the part that the call's time belongs to. Calls inside calls count once."""
FIRST = ("network",)
"""Parts whose first call is told apart: what is loaded or compiled is in it."""


class Clock:
    """Seconds by part. What belongs to no part is "between"."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0
        self._called: set[str] = set()

    def begin(self, name: str) -> None:
        self._close()
        self._open.append(name)

    def end(self) -> None:
        self._close()
        self._open.pop()

    def _close(self) -> None:
        now = time.monotonic()
        if self._open:
            name = self._open[-1]
            self.parts[name] = self.parts.get(name, 0.0) + now - self._since
        self._since = now

    def part(self, name: str, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        self.begin(name)
        try:
            return work(*arguments, **named)
        finally:
            self.end()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time added to the part. Only calls of the thread that made the clock are counted."""
        owner = threading.get_ident()

        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            if threading.get_ident() != owner:
                return function(*arguments, **named)
            first = name in FIRST and name not in self._called
            self._called.add(name)
            return self.part(f"{name}, first" if first else name, function, *arguments, **named)

        return call

    def again(self) -> dict[str, float]:
        """Gives what was counted, and begins anew."""
        found, self.parts, self._called = self.parts, {}, set()
        return found


def watch(clock: Clock) -> None:
    """Puts the clock around the parts of modules that are imported."""
    vae = sys.modules.get("workers.video.vae")
    if vae is not None:  # where a tile's pixels come to the host, and its last layer is waited for
        numpy = ModuleType("numpy")
        numpy.__dict__.update(vae.np.__dict__, array=clock.timed("pixels to the host", vae.np.array))
        vae.np = numpy  # type: ignore[attr-defined]
    for module, path, name in PARTS:
        owner: Any = sys.modules.get(module)
        *outer, last = path.split(".")
        for part in outer:
            owner = getattr(owner, part, None)
        if owner is not None and hasattr(owner, last):
            setattr(owner, last, clock.timed(name, getattr(owner, last)))


def wake() -> dict[str, float]:
    """Seconds of the first operation, the first product and the first convolution of this process."""
    import mlx.core as mx

    x = mx.ones((1, 3, 16, 16, 32), mx.bfloat16)
    kernel = mx.ones((32, 3, 3, 3, 32), mx.bfloat16)
    seconds = {}
    for name, work in (
        ("first operation", lambda: x + x),
        ("first product", lambda: x[0, 0] @ x[0, 0].swapaxes(-1, -2)),
        ("first convolution", lambda: mx.conv3d(x, kernel)),
    ):
        began = time.monotonic()
        mx.eval(work())
        mx.synchronize()
        seconds[name] = time.monotonic() - began
    return seconds


def main(job_path: str, began: str, out: str, *more: str) -> None:
    warm, again = "--warm" in more, [path for path in more if path != "--warm"]
    clock = Clock()
    clock.parts["process, Python"] = STARTED - float(began)
    clock.begin("between")
    channel, context, protocol = clock.part(
        "worker's modules",
        lambda: [importlib.import_module(f"workers.{name}") for name in ("channel", "context", "protocol")],
    )
    jobs = [protocol.Job.from_json(Path(path).read_text(encoding="utf-8")) for path in (job_path, *again)]
    limits = importlib.import_module("workers.limits")
    limits.volunteer_for_the_oom_killer()
    clock.part("MLX imported", lambda: (limits.take_the_blas_buffers(), limits.apply_limits(jobs[0].limits)))
    if warm:
        importlib.import_module("workers.waking").wake_the_card(jobs[0].stage)
    else:
        clock.parts |= clock.part("waking", wake)
        del clock.parts["waking"]
    stage = clock.part("stage's modules", importlib.import_module, f"workers.stages.{jobs[0].stage}")
    watch(clock)
    found = []
    for job in jobs:
        stage.run(job, context.Context(job, channel.EventChannel(None)))
        clock.end()
        found.append(clock.again())
        importlib.import_module("mlx.core").clear_cache()
        clock.begin("between")
    text = json.dumps({"parts": found, "ended": time.monotonic()})
    Path(out).write_text(text, encoding="utf-8")
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
