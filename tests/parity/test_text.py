"""The text path gives the reference's numbers in float32: Gemma 3, both projections, both connectors."""

from __future__ import annotations

import json

import mlx.core as mx
import pytest

from weights.architecture import connector, gemma, projection
from workers.networks.connector import connect
from workers.networks.gemma import embed, hidden_states
from workers.networks.ops import blocks
from workers.networks.projection import normalise, project

BOUND = 5e-5
pytestmark = pytest.mark.usefixtures("arithmetic")
TEXTS = ("short", "long", "one")


@pytest.fixture(params=["19b", "23"])
def reference(request, golden):
    return golden(f"text_{request.param}.safetensors")


def gemma_states(reference, dtype=mx.float32):
    """All texts together: text -> its states, as one run of Gemma gives them."""
    config = gemma.GemmaConfig.from_metadata(json.loads(reference.metadata["gemma"]))
    weights = reference.weights(gemma.PREFIX, dtype)
    ids = [reference.tensors[f"in/ids/{text}"] for text in TEXTS]
    texts = [embed(config, weights["embed_tokens.weight"][one], dtype) for one in ids]
    layers = blocks(weights, gemma.LAYERS, config.num_hidden_layers)
    steps = hidden_states(config, weights["norm.weight"], layers, texts, reference.facts["length"])
    return dict(zip(TEXTS, zip(*steps, strict=True), strict=True))


def features(reference, states, stream, dtype=mx.float32):
    gemma_config = gemma.GemmaConfig.from_metadata(json.loads(reference.metadata["gemma"]))
    config = projection.ProjectionConfig.from_metadata(
        reference.config, hidden_size=gemma_config.hidden_size, num_states=gemma_config.num_hidden_layers + 1
    )
    weights = reference.weights(projection.PREFIX, dtype)
    assert {n: tuple(w.shape) for n, w in weights.items()} == projection.tensors(config, audio=True)
    return project(config, weights, [normalise(config, state) for state in states], stream)


def context(reference, found, stream, dtype=mx.float32):
    config = connector.ConnectorConfig.from_metadata(reference.config, audio=stream == "audio")
    weights = reference.weights(connector.PREFIX if stream == "video" else connector.AUDIO_PREFIX, dtype)
    assert {n: tuple(w.shape) for n, w in weights.items()} == connector.tensors(config)
    layers = blocks(weights, connector.BLOCKS, config.num_layers)
    return connect(config, weights["learnable_registers"], layers, found, reference.facts["length"])


def test_hidden_states(reference, error):
    for text, states in gemma_states(reference).items():
        expected = reference.tensors[f"out/states/{text}"]
        assert len(states) == expected.shape[0]
        for state, wanted in zip(states, expected, strict=True):
            assert error(state, wanted) < BOUND


@pytest.mark.parametrize("stream", ["video", "audio"])
@pytest.mark.parametrize("text", TEXTS)
def test_features_and_context(reference, error, text, stream):
    states = list(reference.tensors[f"out/states/{text}"])
    found = features(reference, states, stream)
    wanted = reference.tensors[f"out/features/{text}" if stream == "video" else f"out/audio_features/{text}"]
    assert error(found, wanted) < BOUND
    assert error(context(reference, found, stream), reference.tensors[f"out/{stream}/{text}"]) < BOUND


def test_the_whole_text_path(reference, error):
    for text, states in gemma_states(reference).items():
        found = context(reference, features(reference, states, "video"), "video")
        assert error(found, reference.tensors[f"out/video/{text}"]) < BOUND


def test_bfloat16_stays_bfloat16(reference):
    states = gemma_states(reference, mx.bfloat16)["long"]
    assert {state.dtype for state in states} == {mx.bfloat16}
    found = features(reference, states, "video", mx.bfloat16)
    assert found.dtype == mx.bfloat16
    assert context(reference, found, "video", mx.bfloat16).dtype == mx.bfloat16
