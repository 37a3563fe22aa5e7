"""Text: both prompts to the contexts that the transformer attends to.

Gemma's layers come and go, the next one read while one is used; then the projection; then the connector's blocks. No
two of the three are in memory together, and of the embedding only the prompts' rows are ever read.
"""

from __future__ import annotations

import time
from pathlib import Path

import mlx.core as mx
import numpy as np

from weights import reader
from weights.architecture.gemma import LAYERS
from weights.architecture.projection import ProjectionConfig
from weights.select import Selection, check_text_encoder, select
from workers import tokenizer
from workers.arrays import DTYPES, publish_arrays
from workers.context import Context
from workers.networks import gemma, projection
from workers.networks.connector import connect
from workers.networks.ops import blocks
from workers.protocol import Item, Job
from workers.stages.loading import forget, load, open_layers

PROMPTS = ("positive", "negative")
CONTEXT_TOKENS = tokenizer.MAX_TOKENS


def run(job: Job, context: Context) -> None:
    """Publishes `positive` and `negative`, [1, 1024, width] in the compute dtype."""
    dtype = DTYPES[job.dtype]
    prompts = (job.params["prompt"], job.params["negative_prompt"])
    (item,) = job.items
    context.item(item.key, 1, 1)
    states, config = encode_prompts(job, context, item, prompts, dtype)
    features = project(job, context, config, states, dtype)
    connector, weights = load(job, context, "connector", dtype)
    contexts = {}
    for name, one in zip(PROMPTS, features, strict=True):
        layers = blocks(weights, "transformer_1d_blocks.", connector.num_layers)
        contexts[name] = connect(connector, weights["learnable_registers"], layers, one, CONTEXT_TOKENS)
        mx.eval(contexts[name])
        context.heartbeat()
    began = time.monotonic()
    size = publish_arrays(item.output, item.key, "text", contexts, {})
    context.emit("artifact", key=item.key, path=item.output, bytes=size, seconds=time.monotonic() - began)


def encode_prompts(
    job: Job, context: Context, item: Item, prompts: tuple[str, ...], dtype: mx.Dtype
) -> tuple[list[list[mx.array]], ProjectionConfig]:
    """For each prompt the normalised hidden states [tokens, width] of all layers, and the projection's config."""
    use = job.use("gemma")
    encoder = select(Path(use.path), "gemma")
    projected = select(Path(job.use("projection").path), "projection")
    check_text_encoder(projected, encoder)

    def cut(index: int, tokens: int) -> None:
        which = "prompt" if index == 0 else "negative prompt"
        context.warn(
            f"The {which} has {tokens:,} tokens; the model reads {tokenizer.MAX_TOKENS:,}, and its end is left out."
        )

    ids = tokenizer.encode(Path(use.path), prompts, cut)
    config, total = encoder.config, encoder.config.num_hidden_layers
    context.emit("loading", role="gemma", path=use.path, bytes=encoder.bytes)
    began = time.monotonic()
    embedded = [gemma.embed(config, token_rows(encoder, one, context), dtype) for one in ids]
    norm = reader.load_subset(encoder, ["norm.weight"], dtype, on_read=context.record_read)["norm.weight"]
    states: list[list[mx.array]] = [[] for _ in prompts]
    stepped = time.monotonic()
    with open_layers(encoder, LAYERS, total, context, dtype) as layers:
        for index, current in enumerate(gemma.hidden_states(config, norm, layers(), embedded, CONTEXT_TOKENS)):
            normalised = [projection.normalise(projected.config, state) for state in current]
            mx.eval(normalised)
            for kept, state in zip(states, normalised, strict=True):
                kept.append(state)
            if index:
                now = time.monotonic()
                context.step(item.key, index, total, now - stepped)
                stepped = now
    context.emit("loaded", role="gemma", seconds=time.monotonic() - began, bytes=encoder.bytes)
    return states, projected.config


def token_rows(encoder: Selection, ids: list[int], context: Context) -> mx.array:
    """The rows of the embedding that these tokens need, [tokens, width]; each distinct row is read once."""
    unique, where = np.unique(np.array(ids), return_inverse=True)
    rows = reader.rows(encoder, "embed_tokens.weight", unique.tolist(), on_read=context.record_read)
    return rows[mx.array(where.astype(np.int32))]


def project(
    job: Job, context: Context, config: ProjectionConfig, states: list[list[mx.array]], dtype: mx.Dtype
) -> list[mx.array]:
    """Each prompt's features [1, tokens, width]; its hidden states are dropped as they are used."""
    _, weights = load(job, context, "projection", dtype)
    features = []
    for kept in states:
        features.append(projection.project(config, weights, kept))
        mx.eval(features[-1])
        kept.clear()
        context.heartbeat()
    forget(weights)
    return features
