"""Configs and tensor tables of the transformer and the text path."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from weights.architecture import connector, gemma, projection, transformer
from weights.architecture.connector import ConnectorConfig
from weights.architecture.gemma import GemmaConfig
from weights.architecture.projection import ProjectionConfig
from weights.architecture.transformer import TransformerConfig
from weights.errors import WeightsError

INVENTORIES = Path(__file__).parents[2] / "data" / "inventories"
CONNECTORS = ("video_embeddings_connector.", "audio_embeddings_connector.")


def inventory(name):
    return json.loads(gzip.decompress((INVENTORIES / f"{name}.json.gz").read_bytes()))


def below(found, prefix):
    """Relative name -> shape."""
    return {
        name.removeprefix(prefix): tuple(shape)
        for name, (_, shape) in found["tensors"].items()
        if name.startswith(prefix)
    }


@pytest.fixture(params=["ltx-2-19b-dev", "ltx-2.3-22b-dev"])
def official(request):
    return inventory(request.param)


def test_transformer_tensors(official):
    config = TransformerConfig.from_metadata(official["metadata"]["config"])
    stored = {n: s for n, s in below(official, transformer.PREFIX).items() if not n.startswith(CONNECTORS)}
    video, joint = transformer.tensors(config), transformer.tensors(config, audio=True)
    assert joint == stored
    assert video == {name: shape for name, shape in stored.items() if not transformer.is_audio(name)}
    expected = (1457, 4186) if config.cross_attention_adaln else (1215, 3510)
    assert (len(video), len(joint)) == expected


def test_text_tensors(official):
    config = official["metadata"]["config"]
    for prefix, audio in ((connector.PREFIX, False), (connector.AUDIO_PREFIX, True)):
        assert connector.tensors(ConnectorConfig.from_metadata(config, audio)) == below(official, prefix)
    found = ProjectionConfig.from_metadata(config)
    stored = below(official, projection.PREFIX)
    assert projection.tensors(found, audio=True) == stored
    assert set(stored) - set(projection.tensors(found)) == {n for n in stored if n.startswith("audio_")}


def test_gemma_tensors():
    official = inventory("gemma-3-12b-it")
    config = GemmaConfig.from_metadata(official["model_config"])
    assert gemma.tensors(config) == below(official, gemma.PREFIX)
    assert [i for i, full in enumerate(config.full_attention) if full] == [5, 11, 17, 23, 29, 35, 41, 47]
    # The published config says no more than this; the rest is the 12B model's.
    assert (config.head_dim, config.sliding_window, config.full_factor) == (256, 1024, 8.0)
    assert (config.full_theta, config.sliding_theta, config.query_pre_attn_scalar) == (1e6, 1e4, 256)


SMALLEST = {
    "rope_type": "split",
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "caption_channels": 12,
    "connector_num_layers": 1,
    "connector_num_attention_heads": 2,
    "connector_attention_head_dim": 8,
    "connector_positional_embedding_max_pos": [4096],
}


def without(field):
    return {"transformer": {key: value for key, value in SMALLEST.items() if key != field}}


@pytest.mark.parametrize("field", ["rope_type", "num_layers", "num_attention_heads", "caption_channels"])
def test_a_missing_field_is_named(field):
    TransformerConfig.from_metadata({"transformer": SMALLEST})
    with pytest.raises(WeightsError, match=f"transformer.{field}"):
        TransformerConfig.from_metadata(without(field))


@pytest.mark.parametrize("field", [name for name in SMALLEST if name.startswith("connector")])
def test_a_missing_field_of_the_connector_is_named(field):
    ConnectorConfig.from_metadata({"transformer": SMALLEST})
    with pytest.raises(WeightsError, match=f"transformer.{field}"):
        ConnectorConfig.from_metadata(without(field))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rope_type", "other"),
        ("qk_norm", "layer_norm"),
        ("num_layers", 0),
        ("num_layers", "48"),
        ("num_layers", True),
        ("num_layers", 2.5),
        ("num_layers", float("inf")),
        ("num_layers", float("nan")),
        ("num_layers", [2]),
        ("norm_eps", float("inf")),
        ("norm_eps", float("nan")),
        ("apply_gated_attention", "yes"),
        ("positional_embedding_max_pos", [20, 2048]),
        ("positional_embedding_max_pos", 20),
        ("ff_bias", False),
        ("use_keyframes_abs_pos_embedding", True),
    ],
)
def test_a_kind_that_cannot_be_run_is_refused(field, value):
    with pytest.raises(WeightsError, match=f"transformer.{field}"):
        TransformerConfig.from_metadata({"transformer": SMALLEST | {field: value}})


@pytest.mark.parametrize("config", [{}, {"transformer": None}, {"transformer": [1]}])
@pytest.mark.parametrize("kind", [TransformerConfig, ConnectorConfig, ProjectionConfig])
def test_a_config_of_something_else(kind, config):
    with pytest.raises(WeightsError, match="no section 'transformer'"):
        kind.from_metadata(config)


def test_a_mixture_of_projections_is_refused():
    mixed = SMALLEST | {"caption_proj_before_connector": True}
    with pytest.raises(WeightsError, match=r"lacks transformer\.caption_projection_first_linear"):
        ProjectionConfig.from_metadata({"transformer": mixed})
    mixed |= {"caption_projection_first_linear": True}
    with pytest.raises(WeightsError, match=r"transformer\.caption_projection_first_linear is True"):
        ProjectionConfig.from_metadata({"transformer": mixed})


TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "model_type None"),
        ({"model_type": "gemma2"}, "model_type 'gemma2'"),
        ({"model_type": "gemma3"}, "no section 'text_config'"),
        ({"model_type": "gemma3", "text_config": TEXT | {"hidden_size": None}}, r"text_config\.hidden_size"),
        ({"model_type": "gemma3", "text_config": TEXT | {"attention_bias": True}}, r"text_config\.attention_bias"),
        ({"model_type": "gemma3_text", **TEXT, "use_bidirectional_attention": True}, "bidirectional"),
        ({"model_type": "gemma3_text", **TEXT, "layer_types": ["full_attention"]}, "layer_types"),
        ({"model_type": "gemma3_text", **TEXT, "layer_types": ["full_attention", "other"]}, "layer_types"),
        ({"model_type": "gemma3_text", **TEXT, "layer_types": 7}, "layer_types"),
        ({"model_type": "gemma3_text", **TEXT, "rope_scaling": {"rope_type": "yarn"}}, r"rope_scaling\.rope_type"),
        ({"model_type": "gemma3_text", **TEXT, "rope_scaling": "linear"}, "rope_scaling"),
    ],
)
def test_another_gemma_is_refused(config, message):
    with pytest.raises(WeightsError, match=message):
        GemmaConfig.from_metadata(config)


def test_both_spellings_of_gemmas_rotation():
    old = {
        "model_type": "gemma3_text",
        **TEXT,
        "rope_theta": 5e5,
        "rope_local_base_freq": 2e4,
        "rope_scaling": {"rope_type": "linear", "factor": 4.0},
    }
    new = {
        "model_type": "gemma3_text",
        **TEXT,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "rope_theta": 5e5, "factor": 4.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
        },
    }
    assert GemmaConfig.from_metadata(old) == GemmaConfig.from_metadata(new)
    unscaled = GemmaConfig.from_metadata(old | {"rope_scaling": None})
    assert (unscaled.full_factor, unscaled.full_theta, unscaled.sliding_theta) == (1.0, 5e5, 2e4)
