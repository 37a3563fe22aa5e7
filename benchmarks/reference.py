"""The reference's times on a CUDA card, for `benchmarks.speed`: ltx-core 1.0.0 in PyTorch, bfloat16, random weights.

    python -m benchmarks.reference forward/13x15x22/1 forward/13x30x44/2 ...    latent grid / batch
    python -m benchmarks.reference decode/13x30x44 encode/13x30x44 spatial/13x15x22 temporal/13x30x44 text/1024

Needs torch, transformers, einops and ltx-core==1.0.0 (torch, einops and ltx-core are none of the product's). Prints
versions, and a JSON object, case -> seconds, for each network; one that cannot be measured is named, and the others go
on. Text is transformers' Gemma 3 (which ltx-core calls) and ltx-core's feature extractor and video connector.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from ltx_core.components.patchifiers import VideoLatentPatchifier
from ltx_core.guidance.perturbations import BatchedPerturbationConfig
from ltx_core.model.transformer.modality import Modality
from ltx_core.model.transformer.model_configurator import LTXVideoOnlyModelConfigurator
from ltx_core.model.upsampler.model_configurator import LatentUpsamplerConfigurator
from ltx_core.model.video_vae.model_configurator import VideoDecoderConfigurator, VideoEncoderConfigurator
from ltx_core.tools import VideoLatentTools
from ltx_core.types import VideoLatentShape

INVENTORIES = Path(__file__).parent.parent / "tests" / "data" / "inventories"
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
DEVICE = "cuda"


def metadata(name: str, key: str = "metadata") -> dict[str, Any]:
    with gzip.open(INVENTORIES / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        return dict(json.load(file)[key])


def config() -> dict[str, Any]:
    return dict(metadata("ltx-2-19b-dev")["config"])


def built(make: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """On the card, with small random weights."""
    with torch.device("meta"):
        module = make().to(torch.bfloat16)
    module = module.to_empty(device=DEVICE).eval()
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.normal_(0, 0.02 if tensor.ndim < 2 else tensor[0].numel() ** -0.5)
    return module


def synchronize() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], times: int) -> float:
    """Median, after turns that count for nothing: two, or one of more than half a second."""
    found: list[float] = []
    idle = 2
    while len(found) < times + idle:
        synchronize()
        began = time.perf_counter()
        work()
        synchronize()
        found.append(time.perf_counter() - began)
        if found[0] > 0.5:
            idle = 1
    return statistics.median(found[idle:])


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, device=DEVICE, dtype=torch.bfloat16)


def sizes(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("x")))


def forward(cases: Iterable[str], times: int) -> dict[str, float]:
    settings = {"transformer": {**config()["transformer"], **EXACTLY}}
    model = built(lambda: LTXVideoOnlyModelConfigurator.from_config(settings))
    nothing, found = BatchedPerturbationConfig, {}
    for case in cases:
        _, grid, batch = case.split("/")
        frames, height, width = sizes(grid)
        count, tokens = int(batch), frames * height * width
        shape = VideoLatentShape(count, 128, frames, height, width)
        state = VideoLatentTools(VideoLatentPatchifier(1), shape, 24.0).create_initial_state(DEVICE, torch.bfloat16)
        video = Modality(
            latent=noise(count, tokens, 128),
            sigma=torch.full((count,), 0.7, device=DEVICE, dtype=torch.bfloat16),
            timesteps=torch.full((count, tokens, 1), 0.7, device=DEVICE, dtype=torch.bfloat16),
            positions=state.positions,
            context=noise(count, 1024, settings["transformer"]["caption_channels"]),
        )
        found[case] = seconds(lambda video=video, count=count: model(video, None, nothing.empty(count)), times)
    return found


def text(cases: Iterable[str], times: int) -> dict[str, float]:
    """Prompts of so many tokens, without padding."""
    from ltx_core.text_encoders.gemma.embeddings_connector import Embeddings1DConnectorConfigurator
    from ltx_core.text_encoders.gemma.embeddings_processor import EmbeddingsProcessor
    from ltx_core.text_encoders.gemma.feature_extractor import FeatureExtractorV1
    from transformers import Gemma3TextConfig, Gemma3TextModel

    settings = metadata("gemma-3-12b-it", "model_config")["text_config"]
    gemma = Gemma3TextConfig(**settings, attn_implementation="sdpa")
    width = gemma.hidden_size
    model = built(lambda: Gemma3TextModel(gemma))

    def after() -> torch.nn.Module:
        flat = torch.nn.Linear(width * (gemma.num_hidden_layers + 1), width, bias=False)
        return EmbeddingsProcessor(
            feature_extractor=FeatureExtractorV1(aggregate_embed=flat),
            video_connector=Embeddings1DConnectorConfigurator.from_config(config()),
        )

    processor, found = built(after), {}
    for case in cases:
        tokens = int(case.split("/")[1])
        ids = torch.randint(0, gemma.vocab_size, (1, tokens), device=DEVICE)
        mask = torch.ones_like(ids)

        def encode(ids: torch.Tensor = ids, mask: torch.Tensor = mask) -> object:
            states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
            return processor.process_hidden_states(states, mask)

        found[case] = seconds(encode, times)
    return found


def picture(
    make: Callable[[], torch.nn.Module], shape: Callable[[tuple[int, ...]], tuple[int, ...]]
) -> Callable[[Iterable[str], int], dict[str, float]]:
    """A network whose one argument has the shape that follows from the latent's size."""

    def measure(cases: Iterable[str], times: int) -> dict[str, float]:
        model, found = built(make), {}
        for case in cases:
            x = noise(*shape(sizes(case.split("/")[1])))
            found[case] = seconds(lambda x=x: model(x), times)
        return found

    return measure


def upsampler(kind: str) -> torch.nn.Module:
    return LatentUpsamplerConfigurator.from_config(metadata(f"ltx-2-{kind}-upscaler-x2-1.0")["config"])


def latent(grid: tuple[int, ...]) -> tuple[int, ...]:
    return (1, 128, *grid)


def pixels(grid: tuple[int, ...]) -> tuple[int, ...]:
    return 1, 3, 8 * grid[0] - 7, 32 * grid[1], 32 * grid[2]


NETWORKS: dict[str, Callable[[Iterable[str], int], dict[str, float]]] = {
    "forward": forward,
    "text": text,
    "decode": picture(lambda: VideoDecoderConfigurator.from_config(config()), latent),
    "encode": picture(lambda: VideoEncoderConfigurator.from_config(config()), pixels),
    "spatial": picture(lambda: upsampler("spatial"), latent),
    "temporal": picture(lambda: upsampler("temporal"), latent),
}


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+")
    parser.add_argument("--times", type=int, default=TIMES)
    asked = parser.parse_args()
    print(f"Reference: ltx-core {version('ltx-core')}, PyTorch {torch.__version__}", flush=True)
    for name, measure in NETWORKS.items():
        cases = [case for case in asked.cases if case.split("/")[0] == name]
        if not cases:
            continue
        try:
            print(json.dumps(measure(cases, asked.times)), flush=True)
        except (RuntimeError, TypeError, ValueError, KeyError, AttributeError, ImportError) as error:
            print(f"(the reference's {name} cannot be measured: {type(error).__name__}: {error})", flush=True)
        if DEVICE == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
