"""Forms of a stored weight: what is selected with it, and what is refused, from headers alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.weights.sparse import write_sparse
from weights.errors import WeightsError
from weights.header import read_header
from weights.quantize_names import Affine, affine_of, affine_shapes, quantisable, quantised_bytes
from weights.select import Selection, select
from weights.tiny_model import tiny_folder

TINY = read_header(tiny_folder() / "ltx-2-tiny-dev.safetensors")
Tensors = dict[str, tuple[str, tuple[int, ...]]]
TENSORS: Tensors = {name: (info.dtype, info.shape) for name, info in TINY.tensors.items()}
PREFIX = "model.diffusion_model."
LAYER = f"{PREFIX}transformer_blocks.2.ff.net.2"


def quantise(tensors: Tensors, layer: str, bits: int) -> None:
    """Replaces a layer's weight by its quantised form."""
    packed, scales = affine_shapes(tensors[f"{layer}.weight"][1], bits)  # type: ignore[arg-type]
    tensors |= {
        f"{layer}.weight": ("U32", packed),
        f"{layer}.scales": ("BF16", scales),
        f"{layer}.biases": ("BF16", scales),
    }


def eighths(tensors: Tensors, layer: str) -> None:
    """Replaces a layer's weight by 8-bit floats."""
    tensors |= {
        f"{layer}.weight": ("F8_E4M3", tensors[f"{layer}.weight"][1]),
        f"{layer}.weight_scale": ("F32", ()),
        f"{layer}.input_scale": ("F32", ()),
    }


def selected(folder: Path, change: Callable[[Tensors], object], component: str = "transformer") -> Selection:
    tensors = dict(TENSORS)
    change(tensors)
    return select(write_sparse(folder / "x.safetensors", tensors, TINY.metadata), component)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("transformer_blocks.0.attn1.to_q.weight", (4096, 4096), True),
        ("transformer_blocks.47.attn2.to_out.0.weight", (4096, 4096), True),
        ("transformer_blocks.3.ff.net.0.proj.weight", (16384, 4096), True),
        ("transformer_blocks.3.audio_ff.net.2.weight", (2048, 8192), True),
        ("transformer_blocks.3.audio_to_video_attn.to_k.weight", (2048, 2048), True),
        ("layers.11.mlp.down_proj.weight", (3840, 15360), True),
        ("layers.11.self_attn.o_proj.weight", (3840, 4096), True),
        ("transformer_blocks.0.attn1.to_gate_logits.weight", (32, 4096), False),
        ("transformer_blocks.0.attn1.q_norm.weight", (4096,), False),
        ("transformer_blocks.0.attn1.to_q.bias", (4096,), False),
        ("transformer_blocks.0.scale_shift_table", (6, 4096), False),
        ("transformer_blocks.0.attn1.to_q.weight", (4096, 4097), False),
        ("proj_out.weight", (128, 4096), False),
        ("adaln_single.linear.weight", (24576, 4096), False),
        ("embed_tokens.weight", (262208, 3840), False),
        ("layers.0.input_layernorm.weight", (3840,), False),
    ],
)
def test_only_linear_layers_of_blocks_are_quantised(name: str, shape: tuple[int, ...], expected: bool) -> None:
    assert quantisable(name, shape) is expected


def test_the_blocks_of_the_official_model(official: Path) -> None:
    shapes = select(official / "ltx-2-19b-dev.safetensors", "transformer").shapes
    chosen = [shape for name, shape in shapes.items() if quantisable(name, shape)]
    assert len(chosen) == 48 * 10
    assert sum(quantised_bytes(shape, 8, 2) for shape in chosen) == 48 * 268_435_456 * 17 // 16
    assert sum(quantised_bytes(shape, 4, 2) for shape in chosen) == 48 * 268_435_456 * 9 // 16


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("inputs", [32, 64, 224, 896, 4096])
def test_bits_and_group_are_read_off_the_shapes(bits: int, inputs: int) -> None:
    packed, scales = affine_shapes((10, inputs), bits)
    assert affine_of((10, inputs), packed, scales) == Affine(bits, 64 if inputs % 64 == 0 else 32)
    assert quantised_bytes((10, inputs), bits, 2) == 4 * packed[0] * packed[1] + 4 * scales[0] * scales[1]


def test_mlx_files_with_other_groups_are_understood() -> None:
    assert affine_of((10, 4096), (10, 512), (10, 32)) == Affine(4, 128)
    assert affine_of((10, 4096), (10, 512), (10, 128)) == Affine(4, 32)
    for packed, scales in [((10, 256), (10, 64)), ((10, 512), (10, 63)), ((9, 512), (10, 64)), ((10, 512), (10, 0))]:
        assert affine_of((10, 4096), packed, scales) is None


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantised_layer_brings_its_scales_and_biases(tmp_path: Path, bits: int) -> None:
    found = selected(tmp_path, lambda t: quantise(t, LAYER, bits))
    block = found.within("transformer_blocks.2.")
    assert {"ff.net.2.weight", "ff.net.2.scales", "ff.net.2.biases", "ff.net.2.bias"} <= block.tensors.keys()
    assert block.shapes["ff.net.2.weight"] == (224, 896)
    assert found.affine == block.affine == Affine(bits, 64)
    assert found.within("transformer_blocks.1.").affine is None
    assert found.outside("transformer_blocks.").affine is None
    assert len(found.tensors) == len(select(TINY.path, "transformer").tensors) + 2


def test_the_scale_of_8_bit_floats_is_selected_and_the_inputs_scale_is_not(tmp_path: Path) -> None:
    block = selected(tmp_path, lambda t: eighths(t, LAYER)).within("transformer_blocks.2.")
    assert "ff.net.2.weight_scale" in block.tensors
    assert "ff.net.2.input_scale" not in block.tensors


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: (eighths(t, LAYER), t.pop(f"{LAYER}.weight_scale")), f"1 missing: {LAYER}.weight_scale"),
        (lambda t: (eighths(t, LAYER), t.update({f"{LAYER}.weight_scale": ("F32", (224,))})), "instead of one F32"),
        (lambda t: (eighths(t, LAYER), t.update({f"{LAYER}.weight_scale": ("BF16", ())})), "instead of one F32"),
        (
            lambda t: (eighths(t, LAYER), t.update({f"{LAYER}.weight": ("F8_E4M3", (223, 896))})),
            "instead of [224, 896]",
        ),
        (lambda t: t.update({f"{LAYER}.weight": ("F8_E5M2", (224, 896))}), f"{LAYER}.weight is F8_E5M2"),
        (lambda t: t.update({f"{LAYER}.weight_scale": ("F32", ())}), f"not explained by its config: {LAYER}.weight_s"),
        (lambda t: t.update({f"{LAYER}.input_scale": ("F32", ())}), "not explained by its config"),
        (lambda t: t.update({f"{LAYER}.scales": ("BF16", (224, 14))}), "not explained by its config"),
        (lambda t: (quantise(t, LAYER, 8), t.pop(f"{LAYER}.biases")), f"1 missing: {LAYER}.biases"),
        (
            lambda t: (quantise(t, LAYER, 8), t.update({f"{LAYER}.biases": ("BF16", (224, 13))})),
            "biases BF16 [224, 13]) is not",
        ),
        (lambda t: (quantise(t, LAYER, 8), t.update({f"{LAYER}.scales": ("U8", (224, 14))})), "scales U8"),
        (lambda t: (quantise(t, LAYER, 8), t.update({f"{LAYER}.weight": ("U32", (224, 168))})), "in 8 or 4 bits"),
        (lambda t: (quantise(t, LAYER, 8), t.update({f"{LAYER}.weight": ("U32", (223, 224))})), "is not [224, 896]"),
        (lambda t: quantise(t, f"{PREFIX}proj_out", 8), "proj_out.weight is U32"),
        (lambda t: eighths(t, f"{PREFIX}adaln_single.linear"), "adaln_single.linear.weight is F8_E4M3"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: Callable[[Tensors], object], words: str) -> None:
    with pytest.raises(WeightsError) as caught:
        selected(tmp_path, change)
    assert words in caught.value.message


def test_the_text_parts_are_never_compact(tmp_path: Path) -> None:
    layer = "model.diffusion_model.video_embeddings_connector.transformer_1d_blocks.0.ff.net.2"
    with pytest.raises(WeightsError, match=r"ff.net.2.weight is F8_E4M3"):
        selected(tmp_path, lambda t: eighths(t, layer), "connector")
