"""An optimiser that a CUDA graph can record, for the VAE and the transformer: Muon for matrices, AdamW for the rest.

Muon (Keller Jordan, 2024) replaces the momentum of a matrix by the nearest orthogonal one, found by a few steps of a
Newton-Schulz iteration. Its step is scaled to the size of AdamW's (Liu et al., 2025, "Muon is Scalable"), so that one
learning rate serves both. A convolution counts as the matrix of its outputs by all its inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from training.device import DEVICE, ON_GPU

_MOMENTUM = 0.95
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_TURNS = 5


class Optimiser:
    """Updates parameters in place and keeps their average; all of its tensors stay where they are.

    matrices: those that Muon trains, of any number of axes above 1. average: the share of a step in the average.
    clip: the largest norm of all gradients together.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        matrices: Iterable[nn.Parameter] = (),
        *,
        decay: float = 0.01,
        average: float = 0.0015,
        clip: float = 1.0,
    ) -> None:
        self.parameters, self.matrices = list(parameters), list(matrices)
        chosen = {id(matrix) for matrix in self.matrices}
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        self.gradients = [parameter.grad for parameter in self.parameters]
        self.averages = [parameter.detach().clone() for parameter in self.parameters]
        self.momenta = [torch.zeros_like(matrix) for matrix in self.matrices]
        self.alike: dict[tuple[int, int], list[int]] = {}
        for index, matrix in enumerate(self.matrices):
            rows, columns = _wide(matrix.flatten(1)).shape
            self.alike.setdefault((rows, columns), []).append(index)
        self.rate = torch.zeros((), device=DEVICE)
        self.decay, self.average, self.clip = decay, average, clip
        self.adam = torch.optim.AdamW(
            [parameter for parameter in self.parameters if id(parameter) not in chosen],
            lr=self.rate if ON_GPU else 0.0,
            betas=(0.9, 0.98),
            weight_decay=decay,
            fused=ON_GPU,
            capturable=ON_GPU,
        )

    def set_rate(self, rate: float) -> None:
        self.rate.fill_(rate)
        if not ON_GPU:
            self.adam.param_groups[0]["lr"] = rate

    def clear(self) -> None:
        """Gradients are zeroed, never dropped: a recorded graph adds to these very tensors."""
        torch._foreach_zero_(self.gradients)

    def update(self, loss: Tensor) -> None:
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, self.clip)
        if self.matrices:
            self._update_matrices()
        self.adam.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, [parameter.detach() for parameter in self.parameters], self.average)

    @torch.no_grad()
    def _update_matrices(self) -> None:
        """Matrices of one shape, or of that shape transposed, at once: there are many, and each is small."""
        gradients = [matrix.grad for matrix in self.matrices]
        torch._foreach_lerp_(self.momenta, gradients, 1 - _MOMENTUM)
        ahead = [gradient.lerp(momentum, _MOMENTUM) for gradient, momentum in zip(gradients, self.momenta, strict=True)]
        changes = [torch.empty(0)] * len(ahead)
        for (_, longer), group in self.alike.items():
            wide = torch.stack([_wide(ahead[index].flatten(1)) for index in group])
            for index, change in zip(group, orthogonal(wide) * (0.2 * longer**0.5), strict=True):
                tall = _is_tall(ahead[index].flatten(1))
                changes[index] = (change.T if tall else change).reshape(ahead[index].shape)
        torch._foreach_mul_(self.matrices, 1 - self.rate * self.decay)
        torch._foreach_mul_(changes, self.rate)
        torch._foreach_sub_(self.matrices, changes)

    def forget(self) -> None:
        """Empties the moments, which the recording of graphs has filled."""
        for value in self._moments():
            value.zero_()

    def use_averages(self) -> None:
        """Puts the averages into the networks: the end of training."""
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.averages)

    def state(self) -> dict[str, Any]:
        """All that training needs to go on in another process, on the CPU."""
        with torch.no_grad():
            kept = {"parameters": self.parameters, "averages": self.averages, "moments": self._moments()}
        return {name: [value.detach().cpu() for value in values] for name, values in kept.items()}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave. The moments are there once a step was made, or recorded."""
        for name, values in (
            ("parameters", self.parameters),
            ("averages", self.averages),
            ("moments", self._moments()),
        ):
            for value, kept in zip(values, state[name], strict=True):
                value.copy_(kept)

    def _moments(self) -> list[Tensor]:
        adam = [value for state in self.adam.state.values() for value in state.values()]
        return [*self.momenta, *adam]


def _is_tall(matrix: Tensor) -> bool:
    return matrix.shape[0] > matrix.shape[1]


def _wide(matrix: Tensor) -> Tensor:
    return matrix.T if _is_tall(matrix) else matrix


def orthogonal(matrices: Tensor) -> Tensor:
    """About the nearest matrices `[n, rows, columns]` with singular values of 1, for no more rows than columns.

    A quintic iteration, in bfloat16 on a GPU.
    """
    x = matrices.bfloat16() if ON_GPU else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    first, second, third = _NEWTON_SCHULZ
    for _ in range(_TURNS):
        square = x @ x.mT
        x = first * x + (second * square + third * square @ square) @ x
    return x.to(matrices.dtype)


def matrices_of(networks: Sequence[nn.Module]) -> list[nn.Parameter]:
    """The weights of linear layers and convolutions: what Muon is for. Embeddings, tables, gains and biases are not."""
    kinds = (nn.Linear, nn.Conv2d, nn.Conv3d)
    return [
        module.weight
        for network in networks
        for module in network.modules()
        if isinstance(module, kinds) and module.weight.requires_grad
    ]
