"""The device that trains, and the few things that depend on which one it is."""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Callable

import torch
import torch._dynamo
from ltx_core.model.transformer import transformer_args
from ltx_core.model.transformer.rope import generate_freq_grid_np
from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ON_GPU = DEVICE == "cuda"
RANK = int(os.environ.get("RANK", "0"))
"""Of several processes that train together (see `training.together`)."""
if ON_GPU:  # each of several processes has a card of its own
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


def prepare(seed: int) -> None:
    """Fast matrix units, a seed for everything random, and ltx-core's rotary frequencies kept on the device."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    torch._dynamo.config.recompile_limit = 64  # small functions for many shapes; beyond it they run unfused
    seed_all(seed)
    transformer_args.generate_freq_grid_np = frequency_grid


@functools.cache
def frequency_grid(theta: float, axes: int, width: int) -> Tensor:
    """ltx-core's rotary frequencies, computed once: it makes them in NumPy, a synchronising copy in every forward."""
    return generate_freq_grid_np(theta, axes, width).to(DEVICE)


def fused(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function as one kernel for all shapes on a GPU, as it is on a CPU."""
    return torch.compile(function, dynamic=True) if ON_GPU else function


def wait() -> None:
    """Until the device has done what it was given: time is what a training ends by."""
    if ON_GPU:
        torch.cuda.synchronize()


def seed_all(seed: int) -> None:
    """Other random numbers in each of several processes."""
    seed += 1_000_003 * RANK
    torch.manual_seed(seed)
    random.seed(seed)


def autocast(*, cached: bool = True) -> torch.autocast:
    """bfloat16 on a GPU, float32 on a CPU (where bfloat16 convolutions are some 70 times slower)."""
    return torch.autocast(DEVICE, torch.bfloat16, enabled=ON_GPU, cache_enabled=cached)


def uniform(rows: int, columns: int) -> Tensor:
    """Random numbers in [0, 1) on the device, as `scenes.sample_scenes` wants them."""
    return torch.rand(rows, columns, device=DEVICE)
