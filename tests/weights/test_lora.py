"""LoRAs: every key hits or the LoRA is refused; fused weights are W + strength * (B @ A)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from tests.weights.sparse import pack, write_sparse
from weights import reader
from weights.errors import WeightsError
from weights.header import read_header
from weights.lora import LoraMatch, match
from weights.lora_fuse import fuse
from weights.select import select
from weights.tiny_model import tiny_folder

LORA = read_header(tiny_folder() / "ltx-2-tiny-distilled-lora.safetensors")
TENSORS = {name: (info.dtype, info.shape) for name, info in LORA.tensors.items()}
TRANSFORMER = select(tiny_folder() / "ltx-2-tiny-dev.safetensors", "transformer")
KEY = "diffusion_model.transformer_blocks.2.ff.net.0.proj.lora_A.weight"
AUDIO = "diffusion_model.transformer_blocks.0.audio_attn1.to_q"


def test_the_tiny_lora() -> None:
    found = match(LORA, TRANSFORMER)
    assert len(found.pairs) == 50
    assert not found.ignored
    assert found.bytes == LORA.data_bytes
    assert found.summary == "50 layers changed, rank 8"
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
            lambda t: t.update({"transformer_blocks.0.attn1.to_q.lora_A.weight": ("BF16", (8, 224))}),
            "1 of its 101 keys",
        ),
        (lambda t: t.update({f"{KEY[:-14]}.alpha": ("F32", ())}), "hit no linear layer"),
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


def float32_lora(path: Path, seed: int = 0) -> LoraMatch:
    """Two layers of the tiny transformer, in float32 with random values."""
    random = np.random.default_rng(seed)
    tensors, data, header, end = {}, b"", {}, 0
    for layer, rank in (("transformer_blocks.1.attn1.to_q", 3), ("patchify_proj", 5)):
        outputs, inputs = TRANSFORMER.tensors[f"{layer}.weight"].info.shape
        tensors[f"diffusion_model.{layer}.lora_A.weight"] = random.standard_normal((rank, inputs), np.float32)
        tensors[f"diffusion_model.{layer}.lora_B.weight"] = random.standard_normal((outputs, rank), np.float32)
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [end, end + values.nbytes]}
        end, data = end + values.nbytes, data + values.tobytes()
    path.write_bytes(pack(header, data))
    return match(read_header(path), TRANSFORMER)


def numpy_of(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32))


def test_fused_weights_are_the_formula(tmp_path: Path) -> None:
    found = float32_lora(tmp_path / "lora")
    before = reader.load(TRANSFORMER, mx.float32)
    after, read = dict(before), []
    fuse(after, found, 0.75, on_read=lambda path, size: read.append((path, size)))
    halves = mx.load(str(found.path), format="safetensors")
    assert list(after) == list(before)
    for name in before:
        expected = numpy_of(before[name]).astype(np.float64)
        if name in found.pairs:
            pair = found.pairs[name]
            b, a = (numpy_of(halves[half.name]).astype(np.float64) for half in (pair.b, pair.a))
            expected = expected + 0.75 * (b @ a)
            assert np.abs(expected - numpy_of(before[name])).max() > 0.5
        np.testing.assert_allclose(numpy_of(after[name]), expected, atol=1e-5, rtol=0)
        assert after[name].dtype == mx.float32
    assert sum(size for _, size in read) == found.bytes
    assert {path for path, _ in read} == {found.path}


def test_strength_zero_changes_nothing_and_minus_one_undoes(tmp_path: Path) -> None:
    found = float32_lora(tmp_path / "lora")
    before = reader.load(TRANSFORMER, mx.float32)
    weights = dict(before)
    fuse(weights, found, 0.0)
    assert all(mx.array_equal(weights[name], before[name]) for name in before)
    fuse(weights, found, 1.0)
    fuse(weights, found, -1.0)
    assert all(mx.allclose(weights[name], before[name], atol=1e-5) for name in before)


def test_two_loras_add_up(tmp_path: Path) -> None:
    one, two = float32_lora(tmp_path / "1", 1), float32_lora(tmp_path / "2", 2)
    weights, other = reader.load(TRANSFORMER, mx.float32), reader.load(TRANSFORMER, mx.float32)
    for target, order in ((weights, (one, two)), (other, (two, one))):
        for found in order:
            fuse(target, found, 0.5)
    assert all(mx.allclose(weights[name], other[name], atol=1e-5) for name in weights)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_block_by_block_gives_the_same_bits(dtype: mx.Dtype) -> None:
    found = match(LORA, TRANSFORMER)
    whole = reader.load(TRANSFORMER, dtype)
    fuse(whole, found, 1.0)
    for index in range(5):
        prefix = f"transformer_blocks.{index}."
        block = reader.load(TRANSFORMER.within(prefix), dtype)
        part = found.within(prefix)
        assert len(part.pairs) == 10
        fuse(block, part, 1.0)
        for name, array in block.items():
            assert array.dtype == dtype
            assert mx.array_equal(array, whole[prefix + name])


def test_bfloat16_is_as_the_reference_rounds_it() -> None:
    """The product in bfloat16 (accumulated in float32, rounded once), then one rounded addition."""
    found = match(LORA, TRANSFORMER)
    before = reader.load(TRANSFORMER, mx.bfloat16)
    after = dict(before)
    fuse(after, found, 1.0)
    halves = mx.load(str(LORA.path))
    for name, pair in list(found.pairs.items())[::17]:
        product = numpy_of(halves[pair.b.name]) @ numpy_of(halves[pair.a.name])
        delta = mx.array(product).astype(mx.bfloat16)
        expected = numpy_of(before[name]) + numpy_of(delta)
        # One unit of the last place, where float32 sums in another order fall on a rounding boundary.
        np.testing.assert_allclose(numpy_of(after[name]), expected, rtol=2**-7, atol=1e-6)


def test_a_replaced_lora_is_noticed(tmp_path: Path) -> None:
    found = float32_lora(tmp_path / "lora")
    float32_lora(tmp_path / "other", 1).path.replace(tmp_path / "lora")
    with pytest.raises(WeightsError, match="changed while it was in use"):
        fuse(reader.load(TRANSFORMER, mx.float32), found, 1.0)
