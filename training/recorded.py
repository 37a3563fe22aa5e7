"""A training step as a recorded CUDA graph: launching its thousands of small kernels takes longer than running them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from training.device import ON_GPU


class Recorder:
    """Records steps that share one pool of memory; without a GPU a step is just called.

    A step reads inputs at fixed places, and changes nothing but tensors that stay where they are. Recording runs it,
    which makes the optimiser's moments: the learning rate has to be 0 until then, and they are forgotten after it.
    """

    def __init__(self) -> None:
        self._pool: tuple[int, int] | None = None

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        if not ON_GPU:
            step()
            return step
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            step()
        self._pool = self._pool or graph.pool()
        return graph.replay
