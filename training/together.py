"""Training on several GPUs of one machine: processes that learn from clips of their own and average their weights.

    python -m torch.distributed.run --nproc-per-node 4 -m training.refine ...

Each process draws its own clips and makes its own steps; every few steps the weights become their mean ("local SGD",
Stich, 2019). It costs a sum of some megabytes over NVLink, and no step has to wait for another but there. Started
without that launcher there is one process, and all of this does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.distributed
from torch import Tensor

from training.device import DEVICE, ON_GPU, RANK

COUNT = int(os.environ.get("WORLD_SIZE", "1"))
FIRST = RANK == 0
"""Whether this process is the one that prints and writes files."""


def begin() -> None:
    """Joins the processes. Not before CUDA graphs are recorded: the library's own thread would disturb that."""
    if COUNT > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if ON_GPU else "gloo")


@torch.no_grad()
def average(tensors: Sequence[Tensor]) -> None:
    """Every tensor becomes its mean over the processes, in place."""
    if COUNT > 1:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        torch.distributed.all_reduce(flat)
        _write(flat / COUNT, tensors)


@torch.no_grad()
def take_first(tensors: Sequence[Tensor]) -> None:
    """Every tensor becomes what it is in the first process, in place."""
    if COUNT > 1:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        torch.distributed.broadcast(flat, 0)
        _write(flat, tensors)


def agreed(seconds: float) -> float:
    """The first process's clock."""
    if COUNT == 1:
        return seconds
    value = torch.tensor([seconds], device=DEVICE, dtype=torch.float64)
    torch.distributed.broadcast(value, 0)
    return float(value)


def end() -> None:
    if COUNT > 1:
        torch.distributed.destroy_process_group()


def _write(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    parts = flat.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(list(tensors), [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)])
