"""A low-rank addition to every linear layer of the transformer's blocks, in training and as the official file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

RANK = 16
_PREFIX = "diffusion_model."


class Addition(nn.Module):
    """Adds B(A(x)) to a frozen linear layer's output, unless it is off. B starts at zero."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        device = linear.weight.device
        self.a = nn.Parameter(torch.randn(RANK, linear.in_features, device=device) / linear.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(linear.out_features, RANK, device=device))
        self.on = True
        without = linear.forward

        def forward(x: Tensor) -> Tensor:
            if not self.on:
                return without(x)
            return without(x) + functional.linear(functional.linear(x, self.a), self.b)

        linear.forward = forward


class Lora(nn.Module):
    """The additions to one transformer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        linears = {
            name: module
            for name, module in model.named_modules()
            if name.startswith("transformer_blocks.") and isinstance(module, nn.Linear)
        }
        self.names = list(linears)
        self.additions = nn.ModuleList(Addition(linear) for linear in linears.values())

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        for addition in self.additions:
            addition.on = False
        yield
        for addition in self.additions:
            addition.on = True

    def state(self) -> dict[str, Tensor]:
        """The official key spelling, without alpha."""
        tensors = {}
        for name, addition in zip(self.names, self.additions, strict=True):
            tensors[f"{_PREFIX}{name}.lora_A.weight"] = addition.a
            tensors[f"{_PREFIX}{name}.lora_B.weight"] = addition.b
        return tensors


def merge(state: Mapping[str, Tensor], lora: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A transformer's state with a LoRA's file added at strength 1: W + B A."""
    merged = dict(state)
    for name, a in lora.items():
        if name.endswith(".lora_A.weight"):
            target = name.removeprefix(_PREFIX).replace(".lora_A.weight", ".weight")
            merged[target] = merged[target] + lora[name.replace("lora_A", "lora_B")] @ a
    return merged
