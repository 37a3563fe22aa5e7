"""What the model says of the VAE's encoder is what its layers make."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import weights
from orchestrator.memory_backends import BACKENDS
from orchestrator.memory_video import encoder_activations, encoder_layers, encoder_values
from orchestrator.sizes import LatentShape
from weights import reader
from weights.select import select
from workers.video.vae import encode

pytestmark = pytest.mark.usefixtures("on_the_cpu")
DEV = Path(weights.__path__[0]) / "tiny" / "ltx-2-tiny-dev.safetensors"


def test_layers_are_those_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def settled(x: mx.array) -> None:
        mx.eval(x)
        seen.append(x.size)

    monkeypatch.setattr("workers.video.vae.settled", settled)
    chosen, statistics = select(DEV, "vae_encoder"), select(DEV, "statistics")
    read = [reader.load(one, mx.float32) for one in (chosen, statistics)]
    encode(read[0], chosen.config, read[1], np.zeros((9, 64, 32, 3), np.uint8), None, mx.float32)
    layers = list(encoder_layers(chosen.config, LatentShape(2, 2, 1)))
    assert {layer.outputs for layer in layers[1:-1]} <= set(seen)
    assert encoder_values(chosen.config, LatentShape(2, 2, 1)) >= max(seen[1:])
    assert layers[-1].outputs == 2 * 2 * 1 * 128
    assert layers[0].inputs == 9 * 64 * 32 * 3


@pytest.mark.parametrize("backend", list(BACKENDS.values()), ids=lambda backend: backend.name)
def test_more_pixels_or_frames_take_more(backend: object) -> None:
    config = select(DEV, "vae_encoder").config
    sizes = [
        encoder_activations(config, LatentShape(*tile), backend, "bfloat16")  # type: ignore[arg-type]
        for tile in ((2, 4, 4), (3, 4, 4), (3, 5, 4), (3, 5, 9))
    ]
    assert sizes == sorted(set(sizes))
    assert encoder_values(config, LatentShape(2, 2, 2)) > 0
