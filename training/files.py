"""Safetensors files of the training's intermediate results: bfloat16 on disk, float32 in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.configuration import MODEL_VERSION

State = Mapping[str, Tensor]


def metadata(config: Mapping[str, Any]) -> dict[str, str]:
    """The string metadata of an official file with that configuration."""
    return {"config": json.dumps(config), "model_version": MODEL_VERSION, "format": "pt"}


def save(path: Path, state: State, config: Mapping[str, Any] | None = None) -> None:
    """Writes the tensors as bfloat16, the precision that ships."""
    tensors = {name: value.detach().to("cpu", torch.bfloat16).contiguous().clone() for name, value in state.items()}
    save_file(tensors, path, metadata=metadata(config) if config is not None else {"format": "pt"})


def load(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors below a prefix, without it, as float32."""
    return {
        name.removeprefix(prefix): value.float() for name, value in load_file(path).items() if name.startswith(prefix)
    }
