"""Goldens of the reference, made by the make_*.py scripts beside this file; tests read nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from workers.networks import host

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Golden:
    """Tensors and metadata of one golden file."""

    tensors: dict[str, mx.array]
    metadata: dict[str, str]

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads(self.metadata["config"])
        return config

    @property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self.metadata["facts"])
        return facts

    def weights(self, prefix: str, dtype: mx.Dtype = mx.float32) -> dict[str, mx.array]:
        """The tensors below a prefix, by their relative names, in the compute dtype."""
        return {
            name.removeprefix(prefix): value.astype(dtype)
            for name, value in self.tensors.items()
            if name.startswith(prefix)
        }


def _read(name: str) -> Golden:
    tensors, metadata = mx.load(str(DATA / name), return_metadata=True)  # type: ignore[misc]
    return Golden(tensors, metadata)  # type: ignore[arg-type, has-type]


def _error(actual: mx.array, expected: mx.array) -> float:
    assert actual.shape == expected.shape
    difference = mx.abs(actual.astype(mx.float32) - expected.astype(mx.float32)).max()
    return float((difference / mx.std(expected.astype(mx.float32))).item())


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    """golden("transformer_19b.safetensors")"""
    return _read


@pytest.fixture(scope="session")
def error() -> Callable[[mx.array, mx.array], float]:
    """error(actual, expected): the largest absolute difference in units of the expected values' standard deviation."""
    return _error


@pytest.fixture(params=["numpy", "mlx"])
def arithmetic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to compute on a CPU; the second is the one of GPUs, unfused."""
    if request.param == "mlx":
        monkeypatch.setattr(host, "applies", lambda x: False)
