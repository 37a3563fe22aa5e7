"""The reference's times on a CUDA card, for `benchmarks.speed`: ltx-core 1.0.0 in PyTorch, bfloat16, random weights.

    python -m benchmarks.reference forward 13x15x22:1 13x30x44:2 ...      latent grid : batch
    python -m benchmarks.reference decode 13x30x44 ...

Needs torch, einops and ltx-core==1.0.0 (none of which the product uses). Prints one JSON object: case -> seconds.
"""

from __future__ import annotations

import gzip
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ltx_core.components.patchifiers import VideoLatentPatchifier
from ltx_core.guidance.perturbations import BatchedPerturbationConfig
from ltx_core.model.transformer.modality import Modality
from ltx_core.model.transformer.model_configurator import LTXVideoOnlyModelConfigurator
from ltx_core.model.video_vae.model_configurator import VideoDecoderConfigurator
from ltx_core.tools import VideoLatentTools
from ltx_core.types import VideoLatentShape

INVENTORY = Path(__file__).parent.parent / "tests" / "data" / "inventories" / "ltx-2-19b-dev.json.gz"
EXACTLY = {
    "dropout": 0.0,
    "attention_bias": True,
    "num_vector_embeds": None,
    "activation_fn": "gelu-approximate",
    "num_embeds_ada_norm": 1000,
    "use_linear_projection": False,
    "only_cross_attention": False,
    "cross_attention_norm": True,
    "double_self_attention": False,
    "upcast_attention": False,
    "standardization_norm": "rms_norm",
    "norm_elementwise_affine": False,
    "qk_norm": "rms_norm",
    "positional_embedding_type": "rope",
    "use_middle_indices_grid": True,
}
"""Fields that the reference insists on."""
TIMES = 5


def config() -> dict[str, Any]:
    with gzip.open(INVENTORY, "rt", encoding="utf-8") as file:
        return dict(json.load(file)["metadata"]["config"])


def filled(module: torch.nn.Module) -> torch.nn.Module:
    """On the card, with small random weights."""
    module = module.to_empty(device="cuda").to(torch.bfloat16).eval()
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.normal_(0, 0.02 if tensor.ndim < 2 else tensor[0].numel() ** -0.5)
    return module


def seconds(work: Callable[[], object]) -> float:
    """Median, after two turns that count for nothing."""
    found = []
    for _ in range(TIMES + 2):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return statistics.median(found[2:])


def forward(cases: list[str]) -> dict[str, float]:
    with torch.device("meta"):
        model = LTXVideoOnlyModelConfigurator.from_config({"transformer": {**config()["transformer"], **EXACTLY}})
    model = filled(model)
    nothing, found = BatchedPerturbationConfig, {}
    for case in cases:
        grid, batch = case.split(":")
        frames, height, width = map(int, grid.split("x"))
        count, tokens = int(batch), frames * height * width
        shape = VideoLatentShape(count, 128, frames, height, width)
        state = VideoLatentTools(VideoLatentPatchifier(1), shape, 24.0).create_initial_state("cuda", torch.bfloat16)
        video = Modality(
            latent=torch.randn(count, tokens, 128, device="cuda", dtype=torch.bfloat16),
            sigma=torch.full((count,), 0.7, device="cuda", dtype=torch.bfloat16),
            timesteps=torch.full((count, tokens, 1), 0.7, device="cuda", dtype=torch.bfloat16),
            positions=state.positions,
            context=torch.randn(count, 1024, 3840, device="cuda", dtype=torch.bfloat16),
        )
        found[case] = seconds(lambda video=video, count=count: model(video, None, nothing.empty(count)))
    return found


def decode(cases: list[str]) -> dict[str, float]:
    with torch.device("meta"):
        model = VideoDecoderConfigurator.from_config(config())
    model = filled(model)
    found = {}
    for case in cases:
        latent = torch.randn(1, 128, *map(int, case.split("x")), device="cuda", dtype=torch.bfloat16)
        found[case] = seconds(lambda latent=latent: model(latent))
    return found


@torch.no_grad()
def main() -> None:
    what, *cases = sys.argv[1:]
    print(json.dumps({"forward": forward, "decode": decode}[what](cases)))


if __name__ == "__main__":
    main()
