"""The bundled model is there, whole, and what its settings say."""

from __future__ import annotations

import json

from weights.architecture.transformer import TransformerConfig
from weights.catalogue import identify
from weights.header import read_config, read_header
from weights.lora import match
from weights.resolve import WeightsRequest, resolve
from weights.select import check_text_encoder, select
from weights.tiny_model import TINY_DEFAULTS, tiny_folder


def test_every_network_finds_its_tensors() -> None:
    folder = tiny_folder()
    checkpoint = folder / "ltx-2-tiny-dev.safetensors"
    parts = ("transformer", "connector", "projection", "statistics", "vae_encoder", "vae_decoder")
    selections = {part: select(checkpoint, part) for part in parts}
    # Nothing is left over: 226 tensors.
    assert sum(len(selection.tensors) for selection in selections.values()) == len(read_header(checkpoint).tensors)
    gemma = select(folder / "gemma-tiny", "gemma")
    check_text_encoder(selections["projection"], gemma)
    for name in ("spatial", "temporal"):
        assert len(select(folder / f"ltx-2-tiny-{name}-upscaler-x2.safetensors", "upsampler").tensors) == 24
    lora = read_header(folder / "ltx-2-tiny-distilled-lora.safetensors")
    assert len(match(lora, selections["transformer"]).pairs) == 50


def test_it_is_small_and_bf16() -> None:
    files = list(tiny_folder().rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in files) < 30_000_000
    assert {info.dtype for path in files for info in read_header(path).tensors.values()} == {"BF16"}
    config = TransformerConfig.from_metadata(read_config(read_header(tiny_folder() / "ltx-2-tiny-dev.safetensors")))
    assert (config.num_layers, config.inner_dim) == (5, 224)


def test_defaults_are_on_the_grid() -> None:
    assert TINY_DEFAULTS.height % 32 == TINY_DEFAULTS.width % 32 == 0
    assert TINY_DEFAULTS.frames % 8 == 1


def test_its_tokenizer_has_the_vocabulary_of_its_encoder() -> None:
    folder = tiny_folder() / "gemma-tiny"
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    assert len(vocabulary) == select(folder, "gemma").config.vocab_size == 736


def test_it_serves_every_stage() -> None:
    found = resolve(WeightsRequest(model="tiny"), ())
    assert found.stage2 is not None
    assert found.stage2.variant == "distilled"
    assert identify(found.gemma).kind == "gemma"
