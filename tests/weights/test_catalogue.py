"""Recognition: kind by content, version and variant by name, folder or flag, and a name for what is of no use."""

from __future__ import annotations

import json
import os
import shutil
from fractions import Fraction
from pathlib import Path

import pytest

from tests.weights.sparse import inventory, metadata_of, write_gemma, write_inventory, write_sparse
from weights.catalogue import check_tokenizer, identify, named_variant, named_version
from weights.errors import WeightsError
from weights.header import read_header
from weights.tiny_model import is_tiny, tiny_folder


@pytest.mark.parametrize(
    ("name", "kind", "version", "variant", "scale"),
    [
        ("ltx-2-19b-dev", "checkpoint", "2.0", "dev", None),
        ("ltx-2-19b-distilled", "checkpoint", "2.0", "distilled", None),
        ("ltx-2-19b-distilled-fp8", "checkpoint", "2.0", "distilled", None),
        ("ltx-2.3-22b-dev", "checkpoint", "2.3", "dev", None),
        ("ltx-2-spatial-upscaler-x2-1.0", "spatial-upscaler", "2.0", None, Fraction(2)),
        ("ltx-2.3-spatial-upscaler-x1.5-1.0", "spatial-upscaler", "2.3", None, Fraction(3, 2)),
        ("ltx-2-temporal-upscaler-x2-1.0", "temporal-upscaler", "2.0", None, None),
        ("ltx-2-19b-distilled-lora-384", "lora", "2.0", "distilled", None),
    ],
)
def test_official_files(
    official: Path, name: str, kind: str, version: str, variant: str | None, scale: Fraction | None
) -> None:
    path = official / f"{name}.safetensors"
    found = identify(path)
    assert (found.kind, found.version, found.variant, found.scale) == (kind, version, variant, scale)
    assert found.path == path
    assert found.size == path.stat().st_size
    assert found.fp8 == name.endswith("fp8")
    assert not found.tiny
    if kind == "checkpoint":
        assert found.config["transformer"]["num_layers"] == 48


def test_gemma_by_its_folder_or_a_file_in_it(official: Path) -> None:
    folder = official / "gemma-3-12b-it"
    for path in (folder, folder / "model-00003-of-00005.safetensors"):
        if path.is_file() and "language_model.model.layers.0.pre_feedforward_layernorm.weight" not in (
            read_header(path).tensors
        ):
            continue
        found = identify(path)
        assert (found.kind, found.path, found.version) == ("gemma", folder, None)
    assert found.size == sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert identify(tiny_folder() / "gemma-tiny" / "model.safetensors").path == tiny_folder() / "gemma-tiny"


def test_the_kind_is_content_not_name(tmp_path: Path) -> None:
    path = write_inventory(tmp_path / "ltx-2-spatial-upscaler-x2-1.0.safetensors", "ltx-2-19b-dev")
    assert identify(path).kind == "checkpoint"
    path = write_inventory(tmp_path / "ltx-2-19b-dev.safetensors", "ltx-2-temporal-upscaler-x2-1.0")
    assert identify(path).kind == "temporal-upscaler"


def test_the_version_of_a_checkpoint_is_content_not_name(tmp_path: Path) -> None:
    document = inventory("ltx-2.3-22b-dev")
    path = write_sparse(tmp_path / "ltx-2-19b-dev.safetensors", document["tensors"], metadata_of(document))
    assert identify(path).version == "2.3"
    silent = {"config": metadata_of(document)["config"]}
    path = write_sparse(tmp_path / "ltx-2-dev.safetensors", document["tensors"], silent)
    assert identify(path).version == "2.3"


def test_the_tiny_model() -> None:
    folder = tiny_folder()
    kinds = {path.stem: identify(path) for path in folder.glob("*.safetensors")}
    assert {name: file.kind for name, file in kinds.items()} == {
        "ltx-2-tiny-dev": "checkpoint",
        "ltx-2-tiny-distilled-lora": "lora",
        "ltx-2-tiny-spatial-upscaler-x2": "spatial-upscaler",
        "ltx-2-tiny-temporal-upscaler-x2": "temporal-upscaler",
    }
    assert all(file.version == "2.0" and file.tiny for file in kinds.values())
    assert kinds["ltx-2-tiny-dev"].variant == "dev"
    assert is_tiny(folder / "ltx-2-tiny-dev.safetensors")
    check_tokenizer(folder / "gemma-tiny")


def test_real_files_are_not_tiny(official: Path) -> None:
    assert not is_tiny(official / "ltx-2-19b-dev.safetensors")
    with pytest.raises(WeightsError, match="has no tokenizer"):
        check_tokenizer(official / "gemma-3-12b-it")


def test_an_upscaler_that_does_not_tell(tmp_path: Path) -> None:
    path = write_inventory(tmp_path / "up.safetensors", "ltx-2-spatial-upscaler-x2-1.0")
    with pytest.raises(WeightsError, match="neither its metadata nor its name nor its folder") as caught:
        identify(path)
    assert "--model-version 2.0" in caught.value.advice
    assert identify(path, version="2.3").version == "2.3"
    folder = tmp_path / "models--Lightricks--LTX-2.3" / "snapshots" / "0123"
    folder.mkdir(parents=True)
    os.link(path, folder / "up.safetensors")
    assert identify(folder / "up.safetensors").version == "2.3"
    # What the name says is not overruled by the flag.
    os.link(path, tmp_path / "ltx-2-up.safetensors")
    assert identify(tmp_path / "ltx-2-up.safetensors", version="2.3").version == "2.0"


def test_metadata_speaks_before_the_name(tmp_path: Path) -> None:
    document = inventory("ltx-2-spatial-upscaler-x2-1.0")
    metadata = metadata_of(document) | {"model_version": "2.3.0"}
    path = write_sparse(tmp_path / "ltx-2-spatial-upscaler-x2-1.0.safetensors", document["tensors"], metadata)
    assert identify(path).version == "2.3"


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("ltx-2-spatial-upscaler-x2-1.0.safetensors", "2.0"),
        ("LTX2_spatial.safetensors", "2.0"),
        ("ltx-2.3-x.safetensors", "2.3"),
        ("ltx-video-2.3-x.safetensors", "2.3"),
        ("ltx-2.5-x.safetensors", "2.5"),
        ("ltx-video-2b-v0.9.5.safetensors", None),
        ("ltxv-13b-0.9.7.safetensors", None),
        ("ltx-20-x.safetensors", None),
        ("x.safetensors", None),
        ("models--Lightricks--LTX-2/snapshots/1/x.safetensors", "2.0"),
        ("ltx-2/a/b/c/x.safetensors", None),
        ("ltx-2/ltx-2.3-x.safetensors", "2.3"),
    ],
)
def test_named_version(path: str, version: str | None) -> None:
    assert named_version(Path("/", path)) == version


@pytest.mark.parametrize(
    ("path", "variant"),
    [
        ("ltx-2-19b-dev.safetensors", "dev"),
        ("ltx-2.3-22b-distilled-1.1.safetensors", "distilled"),
        ("LTX-2_Dev_fp16.safetensors", "dev"),
        ("ltx-2-dev-plus-distilled.safetensors", None),
        ("ltx-2-devel.safetensors", None),
        ("dev/x.safetensors", None),
        ("ltx-2-dev/x.safetensors", "dev"),
        ("ltx-2-dev/ltx-2-distilled.safetensors", "distilled"),
        ("x.safetensors", None),
    ],
)
def test_named_variant(path: str, variant: str | None) -> None:
    assert named_variant(Path("/", path)) == variant


def tensors_of(name: str, *prefixes: str) -> dict[str, tuple[str, list[int]]]:
    return {key: tuple(value) for key, value in inventory(name)["tensors"].items() if key.startswith(prefixes)}


def refused(path: Path, *words: str) -> str:
    with pytest.raises(WeightsError) as caught:
        identify(path)
    assert caught.value.exit_code == 3
    assert str(path) in caught.value.message
    for word in words:
        assert word in caught.value.message
    return caught.value.advice


def test_parts_of_a_checkpoint(tmp_path: Path) -> None:
    metadata = metadata_of(inventory("ltx-2-19b-dev"))
    parts = {
        ("audio_vae.", "vocoder."): "only the audio part",
        ("vae.",): "a VAE alone",
        ("model.diffusion_model.",): "only a part of an LTX-2 checkpoint: no text projection, no video VAE",
        ("model.diffusion_model.", "text_embedding_projection."): "no video VAE, no latent statistics",
    }
    for prefixes, words in parts.items():
        path = write_sparse(tmp_path / "x.safetensors", tensors_of("ltx-2-19b-dev", *prefixes), metadata)
        refused(path, words)


def test_the_older_model(tmp_path: Path) -> None:
    tensors = {
        name: value
        for name, value in tensors_of("ltx-2-19b-dev", "model.diffusion_model.", "vae.").items()
        if "audio" not in name and "connector" not in name
    }
    path = write_sparse(tmp_path / "ltxv-13b.safetensors", tensors, {"config": "{}"})
    assert "Lightricks/LTX-2" in refused(path, "LTX-Video, the model before LTX-2")


def test_a_newer_model(tmp_path: Path) -> None:
    document = inventory("ltx-2.3-22b-dev")
    metadata = metadata_of(document) | {"model_version": "2.5.0"}
    refused(write_sparse(tmp_path / "x.safetensors", document["tensors"], metadata), "version 2.5", "2.0 and 2.3")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("transformer_blocks.0.attn1.norm_q.weight", "diffusers layout"),
        ("proj_in.weight", "diffusers layout"),
        ("transformer_blocks.0.attn1.q_norm.weight", "cut out of its checkpoint"),
        ("encoder.conv_in.conv.weight", "a VAE alone"),
        ("model.layers.0.self_attn.q_proj.weight", "not Gemma 3"),
        ("vision_tower.vision_model.embeddings.patch_embedding.weight", "a vision model"),
        ("first_stage_model.quant_conv.weight", "no file of LTX-2 (its tensors: first_stage_model.quant_conv.weight)"),
    ],
)
def test_other_safetensors_files(tmp_path: Path, name: str, words: str) -> None:
    assert refused(write_sparse(tmp_path / "x.safetensors", {name: ("F32", (1,))}), words)


def test_an_empty_safetensors_file(tmp_path: Path) -> None:
    refused(write_sparse(tmp_path / "x.safetensors", {}), "without tensors")


def test_gemma_without_its_folder(tmp_path: Path) -> None:
    shutil.copy(tiny_folder() / "gemma-tiny" / "model.safetensors", tmp_path / "gemma.safetensors")
    assert "--gemma" in refused(tmp_path / "gemma.safetensors", "without its config.json")


def test_folders(tmp_path: Path, official: Path) -> None:
    refused(official, "name one of the files")
    (tmp_path / "model_index.json").write_text("{}")
    assert "ltx-2-19b-dev.safetensors" in refused(tmp_path, "diffusers layout")
    refused(tmp_path / "absent", "does not exist")
    gemma = write_gemma(tmp_path / "gemma")
    for change, words in (
        ({"quantization": {"bits": 4, "mode": "mxfp4"}}, "quantised in a way that is not read here (mxfp4)"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "(bitsandbytes)"),
        ({"model_type": "gemma4"}, "'gemma4'"),
        ({"text_config": {"num_hidden_layers": "x"}}, "num_hidden_layers"),
        ({"text_config": [1]}, "text_config"),
    ):
        config = inventory("gemma-3-12b-it")["model_config"] | change
        (gemma / "config.json").write_text(json.dumps(config))
        refused(gemma, words)


def test_a_lora_of_23_is_told_by_its_gates(tmp_path: Path) -> None:
    gate = "diffusion_model.transformer_blocks.0.attn1.to_gate_logits.lora_A.weight"
    assert identify(write_sparse(tmp_path / "a", {gate: ("BF16", (8, 64))})).version == "2.3"
    plain = "diffusion_model.transformer_blocks.0.attn1.to_q.lora_A.weight"
    found = identify(write_sparse(tmp_path / "b", {plain: ("BF16", (8, 64))}))
    assert (found.kind, found.version, found.variant) == ("lora", None, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"temporal_upsample": True, "spatial_upsample": True}, "space and time together"),
        ({"spatial_scale": 4.0}, "spatial upscaler x4"),
        ({"mid_channels": "wide"}, "mid_channels"),
        ({"mid_channels": None, "spatial_upsample": None, "temporal_upsample": 3}, "upsample"),
    ],
)
def test_upscalers_that_nothing_uses(tmp_path: Path, change: dict[str, object], words: str) -> None:
    document = inventory("ltx-2.3-spatial-upscaler-x1.5-1.0")
    config = {k: v for k, v in (document["metadata"]["config"] | change).items() if v is not None}
    path = write_sparse(tmp_path / "ltx-2.safetensors", document["tensors"], {"config": json.dumps(config)})
    refused(path, words)


def test_an_upscaler_without_config(tmp_path: Path) -> None:
    tensors = inventory("ltx-2-spatial-upscaler-x2-1.0")["tensors"]
    refused(write_sparse(tmp_path / "ltx-2.safetensors", tensors), "carries no `config`")
