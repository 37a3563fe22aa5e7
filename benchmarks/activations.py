"""What each network takes while it computes, beside its weights: MLX's peak against the cost model, network by network.

    uv run python -m benchmarks.activations [--quick] [--only decoder ...] [--out FILE.json]

For GPUs, where the constants of `orchestrator.memory_backends` come from: full-size networks with random weights (few
layers, as activations do not depend on their number), at many sizes, in this process. Prints Markdown: the bytes that
were alive at most, those that the model predicts, their ratio (predicted / measured; 1.00 to 1.10 is right), and the
size of one unit. On a CPU most of it is computed by numpy, whose memory MLX does not count: see
`benchmarks.stage_memory` for what whole workers take.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from benchmarks import environment, tables
from orchestrator import memory_tokens, memory_video
from orchestrator.memory_backends import BACKENDS, Backend
from orchestrator.sizes import LatentShape
from weights import quantize
from weights.architecture import connector, gemma, projection, transformer, upsampler, vae
from workers.networks import connector as connecting
from workers.networks import gemma as encoding
from workers.networks import projection as projecting
from workers.networks import upsampler as upsampling
from workers.networks.ops import Weights
from workers.networks.rope import video_positions
from workers.sampling.guidance import Guidance
from workers.sampling.predictor import make_predictor
from workers.video.vae import decode, encode

INVENTORIES = Path(__file__).parent.parent / "tests" / "data" / "inventories"
BLOCKS = 5
"""Enough that text keys and values are not kept, as with 48 of them."""
CONTEXT = 1024
GRIDS = ((2, 4, 6), (3, 8, 12), (7, 11, 16), (13, 15, 22), (13, 24, 32), (13, 30, 44), (16, 34, 60), (31, 34, 60))
"""Latent frames, rows, columns: 48 to 63,240 tokens."""
TILES = (
    (3, 8, 8), (3, 30, 44), (5, 16, 16), (9, 8, 8), (9, 11, 16), (9, 16, 16), (9, 24, 32), (9, 30, 44), (13, 30, 44),
    (17, 11, 16), (17, 16, 16), (17, 22, 32), (17, 22, 40), (3, 68, 120),
)  # fmt: skip
LATENTS = ((2, 4, 6), (13, 15, 22), (13, 30, 44), (25, 30, 44), (13, 34, 60), (25, 68, 120))
TEXTS = ((20, 60), (20, 200), (200, 200), (1000, 1000))


@dataclass(frozen=True)
class Row:
    """Bytes. unit: of what the backend's constants count at this size."""

    network: str
    size: str
    measured: int
    predicted: int
    unit: int
    note: str = ""

    @property
    def cells(self) -> list[str]:
        ratio = f"{self.predicted / self.measured:.2f}" if self.measured else ""
        units = f"{self.measured / self.unit:.2f}" if self.unit else ""
        megabytes = [f"{count / 2**20:,.1f}" for count in (self.measured, self.predicted, self.unit)]
        return [self.network, self.size, self.note, *megabytes, units, ratio]


def metadata(name: str, key: str = "metadata") -> Any:
    with gzip.open(INVENTORIES / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        return json.load(file)[key]


def weights_of(shapes: dict[str, tuple[int, ...]], channels_last: bool = False) -> dict[str, mx.array]:
    """Random weights in bfloat16, convolutions as the networks take them."""
    made = {}
    for name, shape in shapes.items():
        scale = float(np.prod(shape[1:])) ** -0.5 if len(shape) > 1 else 0.02
        if channels_last and len(shape) >= 4:
            shape = (shape[0], *shape[2:], shape[1])
        made[name] = (mx.random.normal(shape) * scale + float(len(shape) == 1 and "norm" in name)).astype(mx.bfloat16)
        mx.eval(made[name])
    mx.clear_cache()
    return made


def peak(work: Callable[[], object]) -> int:
    """Bytes that were alive at most beyond those before. After a first turn, which may compile kernels."""
    for _ in range(2):
        mx.synchronize()
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        work()
    return int(mx.get_peak_memory() - before)


def exhaust(function: Callable[..., Iterator[object]], *arguments: object) -> None:
    for _ in function(*arguments):
        pass


def evaluate(function: Callable[..., mx.array], *arguments: object) -> None:
    mx.eval(function(*arguments))


def project_all(config: projection.ProjectionConfig, weights: Weights, states: list[list[mx.array]]) -> None:
    """One prompt after the other."""
    for one in states:
        mx.eval(projecting.project(config, weights, one))


def values(*shape: int) -> mx.array:
    x = mx.random.normal(shape).astype(mx.bfloat16)
    mx.eval(x)
    return x


def measure_transformer(backend: Backend, quick: bool) -> Iterator[Row]:
    """A step with one and two passes, at each pace, and with quantised weights."""
    config = transformer.TransformerConfig.from_metadata(metadata("ltx-2-19b-dev")["config"])
    config = replace(config, num_layers=BLOCKS)
    top, dense = weights_of(transformer.top_tensors(config)), weights_of(transformer.block_tensors(config))
    forms = {"bf16": dense} | {f"{bits} bits": quantised(dense, bits) for bits in (8, 4)}
    contexts = [values(1, CONTEXT, config.context_channels) for _ in range(2)]
    largest = max(x.nbytes for x in dense.values())
    for grid in GRIDS[: 4 if quick else None]:
        tokens = int(np.prod(grid))
        latent = values(1, tokens, config.in_channels).astype(mx.float32)
        mx.eval(latent)
        for passes, pace, form in (
            (1, "parts", "bf16"), (2, "parts", "bf16"), (1, "whole", "bf16"), (2, "whole", "bf16"),
            (1, "ahead", "bf16"), (2, "ahead", "bf16"), (1, "parts", "4 bits"), (2, "whole", "8 bits"),
        ):  # fmt: skip
            work = partial(denoise, config, top, forms[form], contexts, grid, latent, passes, pace)
            expected = memory_tokens.transformer_activations(config, tokens, passes, passes, backend, "bfloat16", pace)
            if form != "bf16":
                expected += largest if pace == "parts" else sum(x.nbytes for x in dense.values() if x.ndim == 2)
            note = f"{passes} pass{'es' * (passes > 1)}, {pace}, {form}"
            yield Row("transformer", f"{tokens}", peak(work), expected, tokens * config.inner_dim * 2, note)


def denoise(
    config: transformer.TransformerConfig,
    top: Weights,
    block: Weights,
    contexts: list[mx.array],
    grid: tuple[int, int, int],
    latent: mx.array,
    passes: int,
    pace: Any,
) -> None:
    """A step as a worker computes it, all blocks with the same weights."""
    predict = make_predictor(
        config,
        top,
        lambda: [dict(block) for _ in range(BLOCKS)],
        contexts[0],
        contexts[1],
        video_positions(grid, 24.0),
        Guidance(cfg=4.0 if passes == 2 else 1.0),
        mx.bfloat16,
        pace=pace,
    )
    mx.eval(predict(latent, 0.7))


def quantised(weights: dict[str, mx.array], bits: int) -> dict[str, mx.array]:
    """As a block is held when it is quantised on load."""
    made: dict[str, mx.array] = {}
    for name, array in weights.items():
        if array.ndim == 2 and name.endswith(".weight"):
            packed = quantize.quantise(array, bits, None, mx.bfloat16)
            stem = name.removesuffix(".weight")
            made |= {name: packed.packed, f"{stem}.scales": packed.scales, f"{stem}.biases": packed.biases}
        else:
            made[name] = array
    mx.eval(made)
    return made


def measure_decoder(backend: Backend, quick: bool) -> Iterator[Row]:
    config = vae.DecoderConfig.from_metadata(metadata("ltx-2-19b-dev")["config"])
    weights = weights_of(vae.decoder_tensors(config), channels_last=True)
    statistics = {name: mx.ones(shape, mx.bfloat16) for name, shape in vae.statistics_tensors().items()}
    mx.eval(statistics)
    for frames, height, width in TILES[: 3 if quick else None]:
        latent, tile = values(1, 128, frames, height, width), LatentShape(frames, height, width)
        if memory_video.decoder_values(config, tile) > memory_video.MOST_VALUES:
            continue
        work = partial(exhaust, decode, weights, config, statistics, latent, None, mx.bfloat16)
        expected = memory_video.decoder_activations(config, tile, backend, "bfloat16")
        unit = 2 * max(layer.outputs for layer in memory_video.decoder_layers(config, tile))
        yield Row("decoder", f"{frames}x{height}x{width}", peak(work), expected, unit)


def measure_encoder(backend: Backend, quick: bool) -> Iterator[Row]:
    """A tile of pixels to a latent; the frames themselves are on the host."""
    config = vae.EncoderConfig.from_metadata(metadata("ltx-2-19b-dev")["config"])
    weights = weights_of(vae.encoder_tensors(config), channels_last=True)
    statistics = {name: mx.ones(shape, mx.bfloat16) for name, shape in vae.statistics_tensors().items()}
    mx.eval(statistics)
    for frames, height, width in TILES[: 3 if quick else None]:
        tile = LatentShape(frames, height, width)
        if memory_video.encoder_values(config, tile) > memory_video.MOST_VALUES:
            continue
        pixels = np.zeros((8 * frames - 7, 32 * height, 32 * width, 3), np.uint8)
        work = partial(evaluate, encode, weights, config, statistics, pixels, None, mx.bfloat16)
        expected = memory_video.encoder_activations(config, tile, backend, "bfloat16")
        unit = 2 * max(layer.inputs for layer in memory_video.encoder_layers(config, tile))
        yield Row("encoder", f"{frames}x{height}x{width}", peak(work), expected, unit)


def measure_upsamplers(backend: Backend, quick: bool) -> Iterator[Row]:
    for name in ("ltx-2-spatial-upscaler-x2-1.0", "ltx-2-temporal-upscaler-x2-1.0"):
        config = upsampler.UpsamplerConfig.from_metadata(metadata(name)["config"])
        weights = weights_of(upsampler.tensors(config), channels_last=True)
        statistics = {name: mx.ones(shape, mx.bfloat16) for name, shape in vae.statistics_tensors().items()}
        mx.eval(statistics)
        for frames, height, width in LATENTS[: 2 if quick else None]:
            latent = values(1, 128, frames, height, width)
            work = partial(evaluate, upsampling.upsample, weights, config, statistics, latent)
            size = LatentShape(frames, height, width)
            expected = memory_video.upsampler_activations(config, size, backend, "bfloat16")
            grown = int(np.prod(config.upsampled(frames, height, width))) * config.width * 2
            yield Row(name[6:14], f"{frames}x{height}x{width}", peak(work), expected, grown)


def measure_text(backend: Backend, quick: bool) -> Iterator[Row]:
    """Gemma's layers, the projection, the connector: each by itself, as in the worker."""
    layers = 6
    config = gemma.GemmaConfig.from_metadata(metadata("gemma-3-12b-it", "model_config"))
    config = replace(config, num_hidden_layers=layers, full_attention=config.full_attention[:layers])
    layer, norm = weights_of(gemma.layer_tensors(config)), values(config.hidden_size)
    for texts in TEXTS[: 2 if quick else None]:
        embedded = [values(count, config.hidden_size) for count in texts]
        given = [dict(layer) for _ in range(layers)]
        work = partial(exhaust, encoding.hidden_states, config, norm, given, embedded)
        expected = memory_tokens.gemma_activations(config, texts, backend, "bfloat16")
        unit = max(texts) * config.intermediate_size * 2
        yield Row("gemma", "+".join(map(str, texts)), peak(work), expected, unit)
    checkpoint = metadata("ltx-2-19b-dev")["config"]
    project = projection.ProjectionConfig.from_metadata(checkpoint)
    weights = weights_of(projection.tensors(project))
    for texts in TEXTS[: 2 if quick else None]:
        states = [[values(count, project.hidden_size) for _ in range(project.num_states)] for count in texts]
        work = partial(project_all, project, weights, states)
        expected = memory_tokens.projection_activations(project, texts, backend, "bfloat16")
        unit = max(texts) * project.hidden_size * project.num_states * 2
        yield Row("projection", "+".join(map(str, texts)), peak(work), expected, unit)
    del weights
    connect = connector.ConnectorConfig.from_metadata(checkpoint)
    shapes = connector.tensors(connect)
    weights = weights_of({name: shape for name, shape in shapes.items() if name.startswith("transformer_1d_blocks.0.")})
    block = {name.removeprefix("transformer_1d_blocks.0."): array for name, array in weights.items()}
    registers, features = values(*shapes["learnable_registers"]), values(1, 40, connect.inner_dim)
    blocks = [dict(block) for _ in range(connect.num_layers)]
    work = partial(evaluate, connecting.connect, connect, registers, blocks, features, CONTEXT)
    expected = memory_tokens.connector_activations(connect, backend, "bfloat16")
    yield Row("connector", f"{CONTEXT}", peak(work), expected, CONTEXT * connect.inner_dim * 2)


NETWORKS = {
    "transformer": measure_transformer,
    "decoder": measure_decoder,
    "encoder": measure_encoder,
    "upsamplers": measure_upsamplers,
    "text": measure_text,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(NETWORKS), nargs="+")
    parser.add_argument("--quick", action="store_true", help="the small sizes only")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    metal = mx.metal.is_available()
    gpu = mx.default_device().type == mx.DeviceType.gpu
    backend = BACKENDS["metal" if metal and gpu else "cuda" if gpu else "cpu"]
    mx.set_cache_limit(0 if asked.quick else backend.cache)
    mx.random.seed(0)
    print(f"{mx.device_info().get('device_name', 'CPU')}, MLX {version('mlx')}, bfloat16\n")
    heads = ["network", "size", "how", "measured, MB", "predicted, MB", "unit, MB", "units", "ratio"]
    print(tables.head(heads))
    rows = []
    for name in asked.only or NETWORKS:
        for row in NETWORKS[name](backend, asked.quick):
            rows.append(row)
            print(tables.line(row.cells), flush=True)
        mx.clear_cache()
    if asked.out:
        asked.out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    environment.enter("benchmarks.activations")
    main()
