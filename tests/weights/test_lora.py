"""LoRAs: every key hits or the LoRA is refused; fused weights are W + strength * (B @ A)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from tests.weights.sparse import pack, write_sparse
from weights import reader
from weights.catalogue import identify
from weights.errors import WeightsError
from weights.header import read_header
from weights.lora import LoraMatch, match
from weights.select import select
from weights.stream import read_whole
from weights.stream_form import Block, Form
from weights.tiny_model import tiny_folder

LORA = read_header(tiny_folder() / "ltx-2-tiny-distilled-lora.safetensors")
TENSORS = {name: (info.dtype, info.shape) for name, info in LORA.tensors.items()}
TRANSFORMER = select(tiny_folder() / "ltx-2-tiny-dev.safetensors", "transformer")
KEY = "diffusion_model.transformer_blocks.2.ff.net.0.proj.lora_A.weight"
Weights = dict[str, mx.array]
AUDIO = "diffusion_model.transformer_blocks.0.audio_attn1.to_q"


def test_the_tiny_lora() -> None:
    found = match(LORA, TRANSFORMER)
    assert len(found.pairs) == 50
    assert not found.ignored
    assert found.bytes == LORA.data_bytes
    assert found.summary == "50 layers changed, rank 16"
    for name, pair in found.pairs.items():
        assert pair.a.name == f"diffusion_model.{name.removesuffix('.weight')}.lora_A.weight"
        assert pair.b.name == f"diffusion_model.{name.removesuffix('.weight')}.lora_B.weight"


def test_the_official_lora_on_the_official_checkpoint(official: Path) -> None:
    lora = read_header(official / "ltx-2-19b-distilled-lora-384.safetensors")
    found = match(lora, select(official / "ltx-2-19b-dev.safetensors", "transformer"))
    assert len(lora.tensors) == 2740
    # 48 blocks of 10 linear layers, and 7 outside.
    assert len(found.pairs) == 487
    assert len(found.ignored) == 2740 - 2 * 487
    assert all("audio" in key or "av_ca" in key for key in found.ignored)
    assert found.summary == "487 layers changed, ranks 128 to 384, 1,766 audio keys unused"


def test_a_lora_of_another_version_does_not_fit(official: Path) -> None:
    lora = read_header(official / "ltx-2-19b-distilled-lora-384.safetensors")
    with pytest.raises(WeightsError, match=r"4 of its 2,740 keys hit no linear layer: .*caption_projection"):
        match(lora, select(official / "ltx-2.3-22b-dev.safetensors", "transformer"))
    with pytest.raises(WeightsError, match="does not fit the transformer of"):
        match(lora, TRANSFORMER)


def changed(path: Path, change: Callable[[dict[str, tuple[str, tuple[int, ...]]]], object]) -> LoraMatch:
    tensors = dict(TENSORS)
    change(tensors)
    return match(read_header(write_sparse(path / "lora.safetensors", tensors)), TRANSFORMER)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda t: t.update({"transformer_blocks.0.attn1.to_k_.lora_A.weight": ("BF16", (8, 224))}),
            "1 of its 101 keys",
        ),
        (
            lambda t: t.update({"transformer_blocks.0.attn1.to_q.lora_down.weight": ("BF16", (8, 224))}),
            "are the same half",
        ),
        (lambda t: t.update({f"{KEY[:-14]}.alpha": ("F32", (8,))}), "alpha is not one value"),
        (lambda t: t.update({f"{KEY[:-14]}.alpha": ("I64", ())}), "I64"),
        (lambda t: t.update({"diffusion_model.patchify_proj.dora_scale": ("F32", (224,))}), "hit no linear layer"),
        (
            lambda t: (t.pop(KEY), t.pop(KEY.replace("_A", "_B")), t.update({f"{KEY[:-14]}.alpha": ("F32", ())})),
            "without its other half",
        ),
        (
            lambda t: t.update({"diffusion_model.transformer_blocks.5.attn1.to_q.lora_A.weight": ("BF16", (8, 224))}),
            "blocks.5",
        ),
        (lambda t: t.update({"text_encoder.layers.0.lora_A.weight": ("BF16", (8, 224))}), "text_encoder"),
        (lambda t: t.pop(KEY), "without its other half"),
        (lambda t: t.update({KEY: ("BF16", (9, 224))}), "times lora_A [9, 224]"),
        (lambda t: t.update({KEY: ("BF16", (8, 225))}), "which is [896, 224]"),
        (lambda t: t.update({KEY: ("BF16", (8, 224, 1))}), "times lora_A [8, 224, 1]"),
        (lambda t: t.update({KEY: ("BF16", (0, 224)), KEY.replace("_A", "_B"): ("BF16", (896, 0))}), "[0, 224]"),
        (lambda t: t.update({KEY: ("I64", (8, 224))}), "I64"),
        (lambda t: t.clear(), "none of its 0 keys changes the video part"),
        (
            lambda t: (t.clear(), t.update({f"{AUDIO}.lora_A.weight": ("BF16", (8, 64))})),
            "none of its 1 keys changes the video part (1 are audio)",
        ),
        (
            lambda t: t.update({"diffusion_model.scale_shift_table.lora_A.weight": ("BF16", (8, 224))}),
            "scale_shift_table",
        ),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, change: Callable[..., object], words: str) -> None:
    with pytest.raises(WeightsError) as caught:
        changed(tmp_path, change)
    assert words in caught.value.message
    assert str(tmp_path / "lora.safetensors") in caught.value.message
    assert str(TRANSFORMER.path) in caught.value.message
    assert caught.value.advice


def test_audio_keys_may_stay_unused(tmp_path: Path) -> None:
    keys = [
        f"{AUDIO}.lora_A.weight",
        f"{AUDIO}.lora_B.weight",
        "diffusion_model.av_ca_a2v_gate_adaln_single.linear.lora_A.weight",
    ]
    found = changed(tmp_path, lambda t: t.update({key: ("BF16", (8, 8)) for key in keys}))
    assert set(found.ignored) == set(keys)
    assert len(found.pairs) == 50


DIFFUSERS = {"patchify_proj": "proj_in", "adaln_single": "time_embed"}


def diffusers(name: str) -> str:
    for ours, theirs in DIFFUSERS.items():
        name = name.replace(ours, theirs)
    return name


def kohya(name: str) -> str:
    module, part, rest = name.removeprefix("diffusion_model.").rpartition(".lora_")
    return f"lora_unet_{module.replace('.', '_')}{part}{rest}".replace("A.w", "down.w").replace("B.w", "up.w")


SPELLINGS: dict[str, Callable[[str], str]] = {
    "checkpoint": lambda name: f"model.{name}",
    "bare": lambda name: name.removeprefix("diffusion_model."),
    "peft": lambda name: f"base_model.model.{name}".replace("_A.", "_A.default.").replace("_B.", "_B.default."),
    "diffusers": lambda name: diffusers(name.replace("diffusion_model.", "transformer.")),
    "down and up": lambda name: name.replace("lora_A.", "lora_down.").replace("lora_B.", "lora_up."),
    "dotted": lambda name: name.replace("lora_A.", "lora.down.").replace("lora_B.", "lora.up."),
    "kohya": kohya,
    "kohya of diffusers": lambda name: kohya(diffusers(name)),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_other_spellings_hit_the_same_layers(tmp_path: Path, spelling: str) -> None:
    spell, official = SPELLINGS[spelling], match(LORA, TRANSFORMER)
    names = {spell(name): name for name in TENSORS}
    assert len(names) == len(TENSORS)
    assert not names.keys() & TENSORS.keys()
    path = write_sparse(tmp_path / "lora.safetensors", {name: TENSORS[names[name]] for name in names})
    assert identify(path).kind == "lora"
    found = match(read_header(path), TRANSFORMER)
    assert found.pairs.keys() == official.pairs.keys()
    for weight, pair in found.pairs.items():
        assert names[pair.a.name] == official.pairs[weight].a.name
        assert names[pair.b.name] == official.pairs[weight].b.name
        assert pair.alpha is None


def test_audio_and_text_modules_in_other_spellings_stay_unused(official: Path, tmp_path: Path) -> None:
    transformer = select(official / "ltx-2-19b-dev.safetensors", "transformer")
    modules = {
        "transformer.av_cross_attn_video_a2v_gate.linear": 4096,
        "lora_unet_transformer_blocks_7_audio_to_video_attn_to_out_0": 2048,
        "base_model.model.diffusion_model.transformer_blocks.7.video_to_audio_attn.to_q": 2048,
        "text_embedding_projection.aggregate_embed": 188160,
        "diffusion_model.transformer_blocks.0.attn1.to_q": 4096,
    }
    tensors = {}
    for module, inputs in modules.items():
        tensors[f"{module}.lora_down.weight"] = ("F16", (4, inputs))
        tensors[f"{module}.lora_up.weight"] = ("F16", (4096, 4))
        tensors[f"{module}.alpha"] = ("F32", ())
    found = match(read_header(write_sparse(tmp_path / "x", tensors)), transformer)
    assert list(found.pairs) == ["transformer_blocks.0.attn1.to_q.weight"]
    assert found.summary == "1 layers changed, rank 4, 9 audio keys unused, 3 text keys unused"
    assert found.bytes == 2 * 2 * 4 * 4096 + 4


def float32_lora(path: Path, seed: int = 0, alpha: float | None = None) -> LoraMatch:
    """Two layers of the tiny transformer, in float32 with random values; alpha for the first of them."""
    random = np.random.default_rng(seed)
    tensors, data, header, end = {}, b"", {}, 0
    for layer, rank in (("transformer_blocks.1.attn1.to_q", 3), ("patchify_proj", 5)):
        outputs, inputs = TRANSFORMER.tensors[f"{layer}.weight"].info.shape
        tensors[f"diffusion_model.{layer}.lora_A.weight"] = random.standard_normal((rank, inputs), np.float32)
        tensors[f"diffusion_model.{layer}.lora_B.weight"] = random.standard_normal((outputs, rank), np.float32)
    if alpha is not None:
        tensors["diffusion_model.transformer_blocks.1.attn1.to_q.alpha"] = np.array(alpha, np.float32)
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [end, end + values.nbytes]}
        end, data = end + values.nbytes, data + values.tobytes()
    path.write_bytes(pack(header, data))
    return match(read_header(path), TRANSFORMER)


def numpy_of(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32))


def fused(*loras: tuple[LoraMatch, float], dtype: mx.Dtype = mx.float32, prefix: str = "", **more: Any) -> Weights:
    """The transformer's weights, or those under a prefix, with LoRAs on them."""
    changes = tuple((found.within(prefix), strength) for found, strength in loras)
    return read_whole(Block(TRANSFORMER.within(prefix), changes), Form(dtype), **more)


def halves_of(found: LoraMatch) -> dict[str, np.ndarray]:
    return {name: numpy_of(half) for name, half in mx.load(str(found.path), format="safetensors").items()}


def test_fused_weights_are_the_formula(tmp_path: Path) -> None:
    found = float32_lora(tmp_path / "lora")
    before, read = reader.load(TRANSFORMER, mx.float32), Counter[Path]()
    after = fused((found, 0.75), on_read=lambda path, size: read.update({path: size}))
    halves = halves_of(found)
    assert list(after) == list(before)
    for name in before:
        expected = numpy_of(before[name]).astype(np.float64)
        if name in found.pairs:
            pair = found.pairs[name]
            expected = expected + 0.75 * (halves[pair.b.name].astype(np.float64) @ halves[pair.a.name])
            assert np.abs(expected - numpy_of(before[name])).max() > 0.5
        np.testing.assert_allclose(numpy_of(after[name]), expected, atol=1e-5, rtol=0)
        assert after[name].dtype == mx.float32
    assert read == {found.path: found.bytes, TRANSFORMER.path: TRANSFORMER.bytes}


def test_a_bfloat16_lora_on_float32_weights_is_not_rounded() -> None:
    found = match(LORA, TRANSFORMER)
    before, after, halves = reader.load(TRANSFORMER, mx.float32), fused((found, 0.3)), halves_of(found)
    for name, pair in found.pairs.items():
        expected = numpy_of(before[name]) + 0.3 * (halves[pair.b.name].astype(np.float64) @ halves[pair.a.name])
        np.testing.assert_allclose(numpy_of(after[name]), expected, atol=1e-6, rtol=0)


def test_alpha_over_rank_scales_only_the_layers_that_have_one(tmp_path: Path) -> None:
    plain, scaled = float32_lora(tmp_path / "1"), float32_lora(tmp_path / "2", alpha=4.5)
    first, second = "transformer_blocks.1.attn1.to_q.weight", "patchify_proj.weight"
    assert (scaled.pairs[first].alpha is None, scaled.pairs[second].alpha is None) == (False, True)
    one, other = fused((plain, 0.5 * 4.5 / 3)), fused((scaled, 0.5))
    assert mx.allclose(one[first], other[first], atol=1e-6)
    assert not mx.allclose(one[second], other[second], atol=1e-2)
    assert scaled.bytes == plain.bytes + 4


def test_strength_zero_changes_nothing_and_minus_one_undoes(tmp_path: Path) -> None:
    found = float32_lora(tmp_path / "lora")
    before = reader.load(TRANSFORMER, mx.float32)
    assert all(mx.array_equal(array, before[name]) for name, array in fused((found, 0.0)).items())
    undone = fused((found, 1.0), (found, -1.0))
    assert all(mx.allclose(undone[name], before[name], atol=1e-5) for name in before)


def test_two_loras_add_up(tmp_path: Path) -> None:
    one, two = float32_lora(tmp_path / "1", 1), float32_lora(tmp_path / "2", 2)
    both, swapped, first = fused((one, 0.5), (two, 0.5)), fused((two, 0.5), (one, 0.5)), fused((one, 0.5))
    halves = halves_of(two)
    assert all(mx.allclose(both[name], swapped[name], atol=1e-5) for name in both)
    for name, pair in two.pairs.items():
        expected = numpy_of(first[name]) + 0.5 * (halves[pair.b.name] @ halves[pair.a.name])
        np.testing.assert_allclose(numpy_of(both[name]), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_block_by_block_gives_the_same_bits(dtype: mx.Dtype) -> None:
    found = match(LORA, TRANSFORMER)
    loras = ((found, 1.0), (found, 0.25))
    whole = fused(*loras, dtype=dtype)
    for index in range(5):
        prefix = f"transformer_blocks.{index}."
        assert len(found.within(prefix).pairs) == 10
        for name, array in fused(*loras, dtype=dtype, prefix=prefix).items():
            assert array.dtype == dtype
            assert mx.array_equal(array, whole[prefix + name])


def test_bfloat16_is_as_the_reference_rounds_it() -> None:
    """Each product in bfloat16 (accumulated in float32, rounded once), their sum rounded, one rounded addition."""
    found = match(LORA, TRANSFORMER)
    before, halves = reader.load(TRANSFORMER, mx.bfloat16), halves_of(found)
    one, two = fused((found, 1.0), dtype=mx.bfloat16), fused((found, 1.0), (found, 0.5), dtype=mx.bfloat16)

    def rounded(values: np.ndarray) -> np.ndarray:
        return numpy_of(mx.array(values).astype(mx.bfloat16))

    for name, pair in list(found.pairs.items())[::17]:
        product = rounded(halves[pair.b.name] @ halves[pair.a.name])
        half = rounded(0.5 * (halves[pair.b.name] @ halves[pair.a.name]))
        for after, delta in ((one, product), (two, rounded(product + half))):
            expected = numpy_of(before[name]) + delta
            # One unit of the last place, where float32 sums in another order fall on a rounding boundary.
            np.testing.assert_allclose(numpy_of(after[name]), expected, rtol=2**-7, atol=1e-6)


def test_a_replaced_lora_is_noticed(tmp_path: Path) -> None:
    found = float32_lora(tmp_path / "lora")
    float32_lora(tmp_path / "other", 1).path.replace(tmp_path / "lora")
    with pytest.raises(WeightsError, match="changed while it was in use"):
        fused((found, 1.0))
