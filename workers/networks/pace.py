"""How much of a computation is under way at once: memory against the moments in which a GPU has nothing to do.

A GPU runs behind the program that feeds it, and what was asked for and is not done yet is all in memory. No bit of a
result depends on the pace; a memory plan chooses it.

    ahead   the next blocks are asked for while one is computed: nothing waits, three blocks' arrays are alive
    whole   block after block
    parts   part after part of a block: the least memory
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

import mlx.core as mx

Pace = Literal["ahead", "whole", "parts"]

Settle = Callable[..., object]
"""Called with the results of each part of a larger computation: `settled`, or `lazily`."""

AHEAD = 2
"""Results that are asked for before one is waited for."""


def settled(*arrays: mx.array) -> None:
    """Evaluates, and waits until all that this held is given back.

    `mx.eval` alone returns when the results are there; a moment later, from another thread, MLX lets go of what they
    were made from. Until then it can neither be written over nor used again: on an H100 a residual block of the VAE
    took three activations or four, as it happened.
    """
    mx.eval(*arrays)
    mx.synchronize()


def lazily(*arrays: mx.array) -> None:
    """Settles nothing: whoever wants the result settles it whole."""


class Pacer:
    """Keeps a pace over the blocks of one evaluation of a network."""

    def __init__(self, pace: Pace) -> None:
        self.settle: Settle = settled if pace == "parts" else lazily
        self._ahead = pace == "ahead"
        self._behind: deque[Sequence[mx.array]] = deque()

    def block(self, results: Sequence[mx.array]) -> None:
        """A block's results are asked for. "ahead": its weights must stay until the next evaluation of anything."""
        if not self._ahead:
            settled(*results)
            return
        mx.async_eval(*results)  # type: ignore[no-untyped-call]
        self._behind.append(results)
        if len(self._behind) > AHEAD:
            mx.eval(*self._behind.popleft())
