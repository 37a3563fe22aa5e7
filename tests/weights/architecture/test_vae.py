"""Tables of the video VAE and the upsamplers against the official inventories, and configs that are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.weights.sparse import inventory
from weights.architecture import upsampler, vae
from weights.architecture.upsampler import UpsamplerConfig
from weights.architecture.vae import DecoderConfig, EncoderConfig
from weights.errors import WeightsError

CHECKPOINTS = ["ltx-2-19b-dev", "ltx-2-19b-distilled-fp8", "ltx-2.3-22b-dev"]
UPSCALERS = {
    "ltx-2-spatial-upscaler-x2-1.0": (9, 22, 44),
    "ltx-2-temporal-upscaler-x2-1.0": (17, 11, 22),
    "ltx-2.3-spatial-upscaler-x1.5-1.0": (9, 17, 33),
}


def under(document: dict[str, Any], prefix: str) -> dict[str, tuple[int, ...]]:
    found = {name: tuple(shape) for name, (_, shape) in document["tensors"].items()}
    return {name.removeprefix(prefix): shape for name, shape in found.items() if name.startswith(prefix)}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_tables_are_the_official_inventories(name: str) -> None:
    document = inventory(name)
    config = document["metadata"]["config"]
    encoder, decoder = EncoderConfig.from_metadata(config), DecoderConfig.from_metadata(config)
    assert vae.encoder_tensors(encoder) == under(document, "vae.encoder.")
    assert vae.decoder_tensors(decoder) == under(document, "vae.decoder.")
    statistics = under(document, vae.STATISTICS_PREFIX)
    assert vae.statistics_tensors().items() <= statistics.items()
    assert statistics.keys() - vae.statistics_tensors().keys() <= vae.UNUSED_STATISTICS


def test_padding_of_the_two_generations() -> None:
    """19B says nothing, and means zeros for the encoder and reflection for the decoder."""
    old, new = (inventory(name)["metadata"]["config"] for name in ("ltx-2-19b-dev", "ltx-2.3-22b-dev"))
    assert (EncoderConfig.from_metadata(old).padding, DecoderConfig.from_metadata(old).padding) == ("zeros", "reflect")
    assert (EncoderConfig.from_metadata(new).padding, DecoderConfig.from_metadata(new).padding) == ("zeros", "zeros")
    assert any(block.residual for block in DecoderConfig.from_metadata(old).blocks)
    assert not any(block.residual for block in DecoderConfig.from_metadata(new).blocks)
    assert not DecoderConfig.from_metadata(old).needs_noise


@pytest.mark.parametrize(("name", "size"), UPSCALERS.items())
def test_upsampler_tables_are_the_official_inventories(name: str, size: tuple[int, int, int]) -> None:
    document = inventory(name)
    config = UpsamplerConfig.from_metadata(document["metadata"]["config"])
    assert upsampler.tensors(config) == under(document, "")
    assert config.upsampled(9, 11, 22) == size


def edited(part: str, index: int, value: Any) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(json.dumps(inventory("ltx-2-19b-dev")["metadata"]["config"]))
    config["vae"][part][index] = value
    return config


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["res_x", {}], r"encoder_blocks\[0\].num_layers"),
        (["res_x", {"num_layers": "4"}], r"encoder_blocks\[0\].num_layers"),
        (["attn_res_x", {"num_layers": 4}], "attn_res_x"),
        (["res_x"], r"encoder_blocks\[0\]"),
        ("res_x", r"encoder_blocks\[0\]"),
        (["res_x", None], r"encoder_blocks\[0\]"),
        (["compress_all_res", {"multiplier": 3}], "channels"),
        (["compress_time_res", {"multiplier": 1}], "scales time"),
    ],
)
def test_encoder_blocks_that_are_refused(value: Any, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        EncoderConfig.from_metadata(edited("encoder_blocks", 0, value))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["attn_res_x", {"num_layers": 4, "attention_head_dim": 8}], "attn_res_x"),
        (["res_x", {"num_layers": 5, "inject_noise": 1}], "inject_noise"),
        (["res_x_y", {"inject_noise": True}], "res_x_y"),
        (["compress_all", {"multiplier": 3}], "multiplier 3"),
        (["compress_all", {"residual": True, "multiplier": 16}], "multiplier 16"),
        (["compress_space", {"multiplier": 1}], "scales time"),
    ],
)
def test_decoder_blocks_that_are_refused(value: Any, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        DecoderConfig.from_metadata(edited("decoder_blocks", 0, value))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("encoder_blocks", []),
        ("dims", 2),
        ("norm_layer", "group_norm"),
        ("latent_log_var", "none"),
        ("spatial_padding_mode", "circular"),
        ("patch_size", 0),
        ("latent_channels", True),
    ],
)
def test_fields_that_are_refused(key: str, value: Any) -> None:
    config = inventory("ltx-2-19b-dev")["metadata"]["config"]
    with pytest.raises(WeightsError, match=key):
        EncoderConfig.from_metadata({"vae": {**config["vae"], key: value}})


@pytest.mark.parametrize("config", [{}, {"vae": None}, {"vae": {}}, {"vae": {"encoder_blocks": 3}}])
def test_no_video_vae(config: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match="vae"):
        EncoderConfig.from_metadata(config)
    with pytest.raises(WeightsError, match="vae"):
        DecoderConfig.from_metadata(config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spatial_upsample": False}, "both are false"),
        ({"dims": 4}, "dims"),
        ({"dims": 2, "temporal_upsample": True}, "dims"),
        ({"dims": 2, "rational_resampler": True}, "dims"),
        ({"mid_channels": 40}, "mid_channels"),
        ({"rational_resampler": True, "spatial_scale": 1.7}, "spatial_scale"),
        ({"spatial_upsample": "yes"}, "spatial_upsample"),
        ({"num_blocks_per_stage": None}, "num_blocks_per_stage"),
    ],
)
def test_upsamplers_that_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        UpsamplerConfig.from_metadata({"mid_channels": 64, **changes})


def test_another_config_is_no_upsampler() -> None:
    with pytest.raises(WeightsError, match="no latent upsampler"):
        UpsamplerConfig.from_metadata(inventory("ltx-2-19b-dev")["metadata"]["config"])


def test_residual_counts_for_compress_all_only() -> None:
    names = ["compress_all", "compress_all", "compress_time", "compress_space"]
    config = {"decoder_blocks": [*[[name, {"residual": True}] for name in names], ["res_x", 1]]}
    blocks = DecoderConfig.from_metadata({"vae": {**config, "patch_size": 4}}).blocks
    assert [block.residual for block in blocks] == [False, False, False, True, True]


def test_rational_resampling_is_for_space_alone() -> None:
    """The flag says nothing where time is upsampled (the temporal upscaler of LTX-2.5 has it)."""
    both = {"mid_channels": 32, "spatial_upsample": True, "temporal_upsample": True, "rational_resampler": True}
    for config in (both, {**both, "spatial_upsample": False}):
        assert "upsampler.0.weight" in upsampler.tensors(UpsamplerConfig.from_metadata(config))
