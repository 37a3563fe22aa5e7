"""Seconds of the networks that work on tokens, for `benchmarks.speed`: the transformer, and the text path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import mlx.core as mx

from benchmarks import flops
from benchmarks.activations import CONTEXT, quantised, values, weights_of
from benchmarks.flops import Grid
from benchmarks.shapes import Shapes
from benchmarks.timing import Device, Row, turns
from weights.architecture import connector, gemma, projection, transformer
from weights.architecture.transformer import TransformerConfig
from workers.networks import connector as connecting
from workers.networks import gemma as encoding
from workers.networks import projection as projecting
from workers.networks.ops import Weights
from workers.networks.pace import Pace
from workers.networks.rope import video_positions
from workers.sampling.denoise import Predict
from workers.sampling.guidance import Guidance
from workers.sampling.predictor import make_predictor

PACES: tuple[tuple[Pace, bool, str], ...] = (
    ("ahead", True, "bf16"),
    ("whole", True, "bf16"),
    ("parts", False, "bf16"),
    ("ahead", True, "8 bits"),
    ("ahead", True, "4 bits"),
)
"""Of `workers.networks.pace`; whether the text's keys and values are kept; and the form of the weights."""


def predictor(
    config: TransformerConfig,
    top: Weights,
    blocks: list[Weights],
    grid: Grid,
    passes: int,
    pace: Pace,
    keep_text: bool,
) -> Predict:
    """As a worker makes it, with random contexts."""
    contexts = [values(1, CONTEXT, config.context_channels) for _ in range(2)]
    return make_predictor(
        config,
        top,
        lambda: blocks,
        contexts[0],
        contexts[1],
        video_positions(grid, 24.0),
        Guidance(cfg=4.0 if passes == 2 else 1.0),
        mx.bfloat16,
        pace=pace,
        keep_text=keep_text,
    )


def stepper(predict: Predict, config: TransformerConfig, grid: Grid) -> Callable[[], object]:
    """A step, over and over from the same latent."""
    latent = values(1, grid[0] * grid[1] * grid[2], config.in_channels).astype(mx.float32)
    mx.eval(latent)
    return lambda: mx.eval(predict(latent, 0.7))


def forward(sizes: Shapes, device: Device, reference: Mapping[str, float], times: int) -> Iterator[Row]:
    """A step of one and of two guidance passes, at both sizes and all paces. The reference has no text kept."""
    config = sizes.transformer
    top, dense = weights_of(transformer.top_tensors(config)), weights_of(transformer.block_tensors(config))
    forms = {"bf16": dense} | {f"{bits} bits": quantised(dense, bits) for bits in (8, 4)}
    for grid in (sizes.base, sizes.twice):
        tokens, name = grid[0] * grid[1] * grid[2], "x".join(map(str, grid))
        for passes in (1, 2):
            for pace, keep, form in PACES:
                blocks: list[Weights] = [dict(forms[form]) for _ in range(config.num_layers)]
                work = stepper(predictor(config, top, blocks, grid, passes, pace, keep), config, grid)
                done = flops.transformer(config, tokens, keep_text=keep).times(passes)
                kept = ", text kept" if keep else ""
                yield Row(
                    f"{tokens:,} tokens, {passes} pass{'es' * (passes > 1)}, {form}, {pace}{kept}",
                    turns(work, times),
                    done,
                    reference.get(f"forward/{name}/{passes}"),
                    device.least(done),
                )


def text(sizes: Shapes, device: Device, reference: Mapping[str, float], times: int) -> Iterator[Row]:
    """One prompt from its tokens' embeddings to the context, all weights on the device."""
    layer = weights_of(gemma.layer_tensors(sizes.gemma))
    norm = values(sizes.gemma.hidden_size)
    aggregate = weights_of(projection.tensors(sizes.projection))
    shapes = connector.tensors(sizes.connector)
    registers = values(*shapes["learnable_registers"])
    first = f"{connector.BLOCKS}0."
    block = weights_of({name.removeprefix(first): shape for name, shape in shapes.items() if name.startswith(first)})
    rows = values(sizes.text_tokens, sizes.gemma.hidden_size)

    def encode() -> None:
        layers = [dict(layer) for _ in range(sizes.gemma.num_hidden_layers)]
        states = []
        embedded = [encoding.embed(sizes.gemma, rows, mx.bfloat16)]
        for (state,) in encoding.hidden_states(sizes.gemma, norm, layers, embedded, CONTEXT):
            states.append(projecting.normalise(sizes.projection, state))
            mx.eval(states[-1])
        features = projecting.project(sizes.projection, aggregate, states)
        blocks = [dict(block) for _ in range(sizes.connector.num_layers)]
        mx.eval(connecting.connect(sizes.connector, registers, blocks, features, CONTEXT))

    done = flops.text(sizes.gemma, sizes.projection, sizes.connector, sizes.text_tokens)
    theirs = reference.get(f"text/{sizes.text_tokens}")
    what = f"text of {sizes.text_tokens:,} tokens: Gemma, projection, connector"
    yield Row(what, turns(encode, times), done, theirs, device.least(done))
