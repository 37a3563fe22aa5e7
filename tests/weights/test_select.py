"""Selections: the right tensors of the official files, and every deviation named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.weights.sparse import inventory, metadata_of, write_gemma, write_sparse
from weights.errors import WeightsError
from weights.header import read_header
from weights.select import COMPONENTS, check_text_encoder, select
from weights.tiny_model import tiny_folder

TINY = read_header(tiny_folder() / "ltx-2-tiny-dev.safetensors")
TINY_TENSORS = {name: (info.dtype, info.shape) for name, info in TINY.tensors.items()}
PARTS = {
    "transformer": "model.diffusion_model.",
    "connector": "model.diffusion_model.video_embeddings_connector.",
    "projection": "text_embedding_projection.",
    "statistics": "vae.per_channel_statistics.",
    "vae_encoder": "vae.encoder.",
    "vae_decoder": "vae.decoder.",
}


@pytest.mark.parametrize(
    ("file", "component", "count", "size"),
    [
        ("ltx-2-19b-dev", "transformer", 1215, 26_085_417_216),
        ("ltx-2-19b-distilled", "transformer", 1215, 26_085_417_216),
        ("ltx-2-19b-dev", "connector", 29, 2 * 354_470_400),
        ("ltx-2-19b-dev", "projection", 1, 2 * 722_534_400),
        ("ltx-2-19b-dev", "statistics", 2, 512),
        ("ltx-2-19b-dev", "vae_encoder", 92, 2 * 694_098_881),
        ("ltx-2-19b-dev", "vae_decoder", 90, 2 * 528_380_720),
        # 13,124,316,288 parameters, of which the tables take two bytes more each.
        ("ltx-2.3-22b-dev", "transformer", 1457, 2 * 13_124_316_288 + 2 * (48 * 11 + 2) * 4096),
        ("ltx-2.3-22b-dev", "connector", 129, 2 * 1_612_546_304),
        ("ltx-2.3-22b-dev", "projection", 2, 2 * (188_160 * 4096 + 4096)),
        ("ltx-2.3-22b-dev", "statistics", 2, 512),
        ("ltx-2.3-22b-dev", "vae_encoder", 84, 2 * 318_936_897),
        ("ltx-2.3-22b-dev", "vae_decoder", 84, 2 * 407_169_072),
        ("ltx-2-spatial-upscaler-x2-1.0", "upsampler", 73, 995_735_858),
        ("ltx-2-temporal-upscaler-x2-1.0", "upsampler", 72, 261_936_384),
        ("ltx-2.3-spatial-upscaler-x1.5-1.0", "upsampler", 73, 1_090_117_938),
        # Everything but the transformer is ordinary in an fp8 file.
        ("ltx-2-19b-distilled-fp8", "vae_decoder", 90, 2 * 528_380_720),
    ],
)
def test_official_files(official: Path, file: str, component: str, count: int, size: int) -> None:
    selection = select(official / f"{file}.safetensors", component)
    assert len(selection.tensors) == count
    assert selection.bytes == size
    prefix, described = PARTS.get(component, ""), inventory(file)["tensors"]
    for name, stored in selection.tensors.items():
        assert stored.name == prefix + name
        assert list(stored.info.shape) == described[stored.name][1]


def test_gemma_over_five_shards(official: Path) -> None:
    selection = select(official / "gemma-3-12b-it", "gemma")
    assert len(selection.tensors) == 626
    assert selection.bytes == 2 * 11_766_034_176
    assert len(selection.signatures) == 5
    assert len({stored.path for stored in selection.tensors.values()}) >= 4
    assert selection.tensors["embed_tokens.weight"].info.shape == (262_208, 3840)
    check_text_encoder(select(official / "ltx-2-19b-dev.safetensors", "projection"), selection)
    check_text_encoder(select(official / "ltx-2.3-22b-dev.safetensors", "projection"), selection)


def test_gemma_of_another_size_is_no_text_encoder(official: Path) -> None:
    small = select(tiny_folder() / "gemma-tiny", "gemma")
    check_text_encoder(select(TINY.path, "projection"), small)
    with pytest.raises(WeightsError, match="5 hidden states of width 96, and 49 of width 3840") as caught:
        check_text_encoder(select(official / "ltx-2-19b-dev.safetensors", "projection"), small)
    assert "gemma-3-12b-it" in caught.value.advice


@pytest.mark.parametrize("layers", [-1, 1])
def test_a_gemma_of_the_right_width_needs_as_many_layers(layers: int) -> None:
    small = select(tiny_folder() / "gemma-tiny", "gemma")
    other = replace(small, config=replace(small.config, num_hidden_layers=small.config.num_hidden_layers + layers))
    with pytest.raises(WeightsError, match=f"{5 + layers} hidden states of width 96, and 5 of width 96"):
        check_text_encoder(select(TINY.path, "projection"), other)


def test_an_fp8_checkpoint_brings_its_scales(official: Path) -> None:
    selection = select(official / "ltx-2-19b-distilled-fp8.safetensors", "transformer")
    eighths = [name for name, stored in selection.tensors.items() if stored.info.dtype == "F8_E4M3"]
    assert len(eighths) == 420, "10 linear layers of each of the blocks 1 to 42"
    assert {f"{name}_scale" for name in eighths} == selection.tensors.keys() - selection.shapes.keys()
    dense = select(official / "ltx-2-19b-distilled.safetensors", "transformer")
    assert selection.shapes == dense.shapes
    assert selection.bytes == dense.bytes - 42 * 268_435_456 + 420 * 4


def test_a_block_has_its_own_names(official: Path) -> None:
    selection = select(official / "ltx-2-19b-dev.safetensors", "transformer")
    block = selection.within("transformer_blocks.47.")
    assert block.bytes == 2 * 268_529_664 + 2 * 6 * 4096
    assert block.tensors["attn1.to_q.weight"] is selection.tensors["transformer_blocks.47.attn1.to_q.weight"]
    assert not selection.within("transformer_blocks.48.").tensors
    assert len(selection.within("transformer_blocks.4.").tensors) == len(block.tensors)


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_every_float_dtype_is_accepted(tmp_path: Path, dtype: str) -> None:
    path = write_sparse(tmp_path / "x", {n: (dtype, shape) for n, (_, shape) in TINY_TENSORS.items()}, TINY.metadata)
    for component in PARTS:
        assert {stored.info.dtype for stored in select(path, component).tensors.values()} == {dtype}


@pytest.mark.parametrize("dtype", ["I64", "U8", "U32", "F64", "F8_E5M2", "F8_E4M3"])
def test_other_dtypes_are_refused(tmp_path: Path, dtype: str) -> None:
    name = "vae.encoder.conv_in.conv.weight"
    path = write_sparse(tmp_path / "x", TINY_TENSORS | {name: (dtype, TINY_TENSORS[name][1])}, TINY.metadata)
    with pytest.raises(WeightsError, match=f"{name} is {dtype}"):
        select(path, "vae_encoder")


def owner(name: str) -> str:
    """The component that a tensor of the tiny checkpoint belongs to."""
    return max((part for part in PARTS if name.startswith(PARTS[part])), key=lambda part: len(PARTS[part]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(TINY_TENSORS)),
    fault=st.sampled_from(["missing", "renamed", "added", "longer", "flat"]),
)
def test_any_deviation_is_named_by_its_component_alone(tmp_path: Path, name: str, fault: str) -> None:
    tensors = dict(TINY_TENSORS)
    dtype, shape = tensors[name]
    if fault in ("missing", "renamed"):
        del tensors[name]
    if fault in ("renamed", "added"):
        tensors[f"{name}_2"] = (dtype, shape)
    if fault == "longer":
        tensors[name] = (dtype, (shape[0] + 1, *shape[1:]))
    if fault == "flat":
        tensors[name] = (dtype, (*shape, 1))
    (tmp_path / "x").unlink(missing_ok=True)
    path = write_sparse(tmp_path / "x", tensors, TINY.metadata)
    words = {"missing": "1 missing", "added": "not explained", "renamed": "1 missing"}.get(fault, "of another shape")
    for component in PARTS:
        if component == owner(name):
            with pytest.raises(WeightsError) as caught:
                select(path, component)
            # The projection's only tensor gone is a projection gone.
            alone = fault == "missing" and component == "projection"
            assert ("holds no text projection" if alone else words) in caught.value.message
            assert alone or name in caught.value.message
            assert str(path) in caught.value.message
            assert caught.value.advice
        else:
            select(path, component)


def test_audio_and_known_extras_are_no_surprise(tmp_path: Path) -> None:
    extras = [
        "model.diffusion_model.audio_patchify_proj.weight",
        "model.diffusion_model.av_ca_a2v_gate_adaln_single.linear.weight",
        "model.diffusion_model.transformer_blocks.0.video_to_audio_attn.to_q.weight",
        "model.diffusion_model.transformer_blocks.0.scale_shift_table_a2v_ca_video",
        "model.diffusion_model.audio_embeddings_connector.learnable_registers",
        "text_embedding_projection.audio_aggregate_embed.weight",
        "vae.per_channel_statistics.mean-of-stds",
        "vocoder.conv_pre.weight",
    ]
    path = write_sparse(tmp_path / "x", TINY_TENSORS | {name: ("BF16", (3,)) for name in extras}, TINY.metadata)
    for component in PARTS:
        whole, plain = select(path, component), select(TINY.path, component)
        assert whole.tensors.keys() == plain.tensors.keys()


def test_the_names_are_few_and_counted(tmp_path: Path) -> None:
    tensors = {name: value for name, value in TINY_TENSORS.items() if ".attn1." not in name}
    path = write_sparse(tmp_path / "x", tensors, TINY.metadata)
    with pytest.raises(WeightsError, match=r"\(140 tensors needed\): 50 missing: .* and 47 more\.$") as caught:
        select(path, "transformer")
    assert caught.value.message.count("attn1") == 3


def with_config(path: Path, change: Callable[[Any], None]) -> Path:
    config = json.loads(TINY.metadata["config"])
    change(config)
    return write_sparse(path, TINY_TENSORS, {"config": json.dumps(config)})


@pytest.mark.parametrize(
    ("component", "section", "field", "value"),
    [
        ("transformer", "transformer", "num_layers", 10**12),
        ("transformer", "transformer", "num_layers", 1e300),
        ("transformer", "transformer", "num_layers", -1),
        ("transformer", "transformer", "num_layers", "5"),
        ("transformer", "transformer", "num_layers", None),
        ("transformer", "transformer", "num_attention_heads", 10**4000),
        ("transformer", "transformer", "positional_embedding_max_pos", [1, [2], 3]),
        ("transformer", "transformer", "rope_type", ["split"]),
        ("connector", "transformer", "connector_num_layers", 10**12),
        ("projection", "transformer", "caption_channels", 0),
        ("projection", "transformer", "caption_channels", "96"),
        ("projection", "transformer", "caption_channels", None),
        ("vae_encoder", "vae", "encoder_blocks", [["res_x", {"num_layers": 10**12}]]),
        ("vae_encoder", "vae", "encoder_blocks", [["res_x", 10**12]]),
        ("vae_decoder", "vae", "decoder_blocks", [["res_x", {"num_layers": 1.5e12}]]),
        ("vae_decoder", "vae", "decoder_blocks", [["compress_all", {"multiplier": 10**4000}]] * 500),
        ("vae_decoder", "vae", "decoder_blocks", {"a": 1}),
        ("statistics", "vae", "latent_channels", {}),
    ],
)
def test_a_hostile_config_is_refused(tmp_path: Path, component: str, section: str, field: str, value: object) -> None:
    path = with_config(tmp_path / "x", lambda config: config[section].update({field: value}))
    with pytest.raises(WeightsError) as caught:
        select(path, component)
    assert str(path) in caught.value.message
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize("component", sorted(PARTS))
@pytest.mark.parametrize("config", ["[]", "{}", '{"transformer": [], "vae": 3}', '{"transformer": {}, "vae": {}}'])
def test_a_config_without_content_is_refused(tmp_path: Path, component: str, config: str) -> None:
    path = write_sparse(tmp_path / "x", TINY_TENSORS, {"config": config})
    with pytest.raises(WeightsError):
        select(path, component)


def test_what_is_not_in_the_file(tmp_path: Path) -> None:
    upscaler = tiny_folder() / "ltx-2-tiny-spatial-upscaler-x2.safetensors"
    for component in PARTS:
        with pytest.raises(WeightsError, match=f"holds no {COMPONENTS[component].title}"):
            select(upscaler, component)
    with pytest.raises(WeightsError, match="no latent upsampler"):
        select(TINY.path, "upsampler")
    empty = write_sparse(tmp_path / "empty", {}, {"config": "{}"})
    with pytest.raises(WeightsError, match="holds no latent upsampler"):
        select(empty, "upsampler")


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model.", "model."])
def test_spellings_of_gemma(tmp_path: Path, prefix: str) -> None:
    tiny = tiny_folder() / "gemma-tiny"
    tensors = {}
    for name, info in read_header(tiny / "model.safetensors").tensors.items():
        if name.startswith("language_model.model."):
            name = prefix + name.removeprefix("language_model.model.")
        elif prefix == "model.language_model.":
            name = f"model.{name}"
        elif prefix == "model.":
            continue
        tensors[name] = (info.dtype, info.shape)
    tensors["lm_head.weight"] = ("BF16", (736, 96))
    (tmp_path / "config.json").write_text((tiny / "config.json").read_text())
    write_sparse(tmp_path / "model.safetensors", tensors)
    selection = select(tmp_path, "gemma")
    assert selection.tensors.keys() == select(tiny, "gemma").tensors.keys()
    assert selection.tensors["norm.weight"].name == f"{prefix}norm.weight"


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return write_gemma(tmp_path / "gemma")


def edit_index(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def test_a_missing_shard(shards: Path) -> None:
    (shards / "model-00003-of-00005.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"incomplete: model-00003.*\(1 of 5 files\)") as caught:
        select(shards, "gemma")
    assert "hf download google/gemma-3-12b-it-qat" in caught.value.advice


def test_a_truncated_shard(shards: Path) -> None:
    with open(shards / "model-00002-of-00005.safetensors", "r+b") as file:
        file.truncate(4_000_000_000)
    with pytest.raises(WeightsError, match=r"model-00002.* is truncated: 4,000,000,000 of"):
        select(shards, "gemma")


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "x.bin", ""])
def test_an_index_cannot_lead_elsewhere(shards: Path, name: str) -> None:
    write_sparse(shards.parent / "secret.safetensors", {"a": ("F32", (1,))})
    edit_index(shards, lambda index: index["weight_map"].update(a=name))
    with pytest.raises(WeightsError, match="no file of this folder"):
        select(shards, "gemma")


@pytest.mark.parametrize("weight_map", [None, [], {}, {"a": 1}])
def test_an_index_without_a_map(shards: Path, weight_map: object) -> None:
    edit_index(shards, lambda index: index.update(weight_map=weight_map))
    with pytest.raises(WeightsError, match="no weight_map"):
        select(shards, "gemma")


def test_an_index_that_lies(shards: Path) -> None:
    edit_index(shards, lambda index: index["weight_map"].update(x="model-00001-of-00005.safetensors"))
    with pytest.raises(WeightsError, match=r"model-00001.*does not hold x"):
        select(shards, "gemma")


def test_a_tensor_in_two_shards(shards: Path) -> None:
    write_sparse(shards / "other.safetensors", {"language_model.model.norm.weight": ("BF16", (3840,))})
    edit_index(shards, lambda index: index["weight_map"].update(x="other.safetensors"))
    with pytest.raises(WeightsError, match=r"norm\.weight is in both model-0000\d-of-00005.safetensors and other"):
        select(shards, "gemma")


def test_folders_that_are_no_text_encoder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is not there"):
        select(tmp_path / "absent", "gemma")
    with pytest.raises(WeightsError, match="is no folder"):
        select(TINY.path, "gemma")
    with pytest.raises(WeightsError, match=r"no config\.json"):
        select(tmp_path, "gemma")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(WeightsError, match="holds no safetensors file"):
        select(tmp_path, "gemma")
    write_sparse(tmp_path / "a.safetensors", {"model.norm.weight": ("F32", (1,))})
    with pytest.raises(WeightsError, match="model_type 'llama'"):
        select(tmp_path, "gemma")
    write_sparse(tmp_path / "b.safetensors", {"model.norm.weight": ("F32", (1,))})
    with pytest.raises(WeightsError, match="2 safetensors files but no"):
        select(tmp_path, "gemma")


def test_gemma_12b_in_one_file(tmp_path: Path) -> None:
    document = inventory("gemma-3-12b-it")
    write_sparse(tmp_path / "only.safetensors", document["tensors"], metadata_of(document))
    (tmp_path / "config.json").write_text(json.dumps(document["model_config"]))
    assert len(select(tmp_path, "gemma").tensors) == 626
