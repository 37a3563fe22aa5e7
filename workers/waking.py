"""Wakes a CUDA card in a thread, while the stage's modules are imported and its weights are found.

A new process pays for the card's context and for the libraries behind products and convolutions when it first computes.
None of that needs what the job is about, so it need not wait for it. What is computed here is thrown away: no bit of a
result depends on it. A card that cannot be woken says nothing here; the stage will say it.
"""

from __future__ import annotations

import contextlib
import threading

CONVOLVING = frozenset({"decode", "encode", "spatial", "stage2", "temporal"})
"""Stages whose networks have convolutions."""


def wake_the_card(stage: str) -> threading.Thread | None:
    """Begins; None where MLX computes on no CUDA card: a CPU and Metal have nothing to wake."""
    import mlx.core as mx

    if mx.default_device().type != mx.DeviceType.gpu or mx.metal.is_available():
        return None
    thread = threading.Thread(target=_wake, args=(stage in CONVOLVING,), name="wake", daemon=True)
    thread.start()
    return thread


def _wake(convolving: bool) -> None:
    import mlx.core as mx

    with contextlib.suppress(Exception):
        x = mx.ones((1, 3, 16, 16, 32), mx.bfloat16)
        mx.eval(x[0, 0] @ x[0, 0].swapaxes(-1, -2))
        if convolving:
            mx.eval(mx.conv3d(x, mx.ones((32, 3, 3, 3, 32), mx.bfloat16)))
