"""LoRAs and 8-bit floats against the reference: the same bits where it rounds as we do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from tests.parity.lora_cases import LORAS, half, weight
from tests.weights.stored import selection_of, write_arrays
from weights import fp8
from weights.lora import LoraMatch, Pair
from weights.stream import read_whole
from weights.stream_form import Block, Form

pytestmark = pytest.mark.usefixtures("on_the_cpu")
NAME = "attn1.to_q.weight"


@pytest.fixture
def files(tmp_path: Path) -> tuple[tuple[LoraMatch, float], ...]:
    """Both LoRAs as files, matched to the one layer."""
    found = []
    for index, (_, strength) in enumerate(LORAS):
        path = tmp_path / f"lora{index}.safetensors"
        halves = {side: mx.array(half(index, side)).astype(mx.bfloat16) for side in "AB"}
        lora = selection_of(write_arrays(path, halves))
        pairs = {NAME: Pair(lora.tensors["A"], lora.tensors["B"])}
        found.append((LoraMatch(path, pairs, (), lora.signatures[path]), strength))
    return tuple(found)


def fused(folder: Path, arrays: dict[str, mx.array], loras: Any, dtype: mx.Dtype) -> dict[str, mx.array]:
    return read_whole(Block(selection_of(write_arrays(folder / "weights", arrays)), loras), Form(dtype))


@pytest.mark.parametrize(("count", "name"), [(1, "one"), (2, "two")])
def test_loras_on_bfloat16(
    golden: Callable[[str], Any], files: tuple[Any, ...], tmp_path: Path, count: int, name: str
) -> None:
    expected = golden("lora.safetensors").tensors[f"bf16/{name}"]
    found = fused(tmp_path, {NAME: mx.array(weight()).astype(mx.bfloat16)}, files[:count], mx.bfloat16)[NAME]
    different = np.array(found.view(mx.uint16)) != np.array(expected.view(mx.uint16))
    # torch and MLX add up a product's terms in another order: a value on a rounding boundary may fall to either side.
    assert different.mean() < 0.01
    assert mx.allclose(found.astype(mx.float32), expected.astype(mx.float32), rtol=2**-7, atol=1e-6)


def test_a_weight_in_8_bit_floats(golden: Callable[[str], Any]) -> None:
    tensors = golden("lora.safetensors").tensors
    values = mx.array(weight()).astype(mx.bfloat16)
    codes, scale = fp8.encode(values)
    assert float(scale.item()) == pytest.approx(float(tensors["fp8/scale"].item()), rel=1e-6)
    # It multiplies by the scale's reciprocal where we divide: the last bit before the rounding.
    assert (np.array(codes) != np.array(tensors["fp8/codes"])).mean() < 0.005
    decoded = fp8.decode(tensors["fp8/codes"], tensors["fp8/scale"], mx.float32)
    assert mx.allclose(decoded, values.astype(mx.float32), rtol=2**-4, atol=float(scale.item()) * 2**-9)


def test_loras_on_8_bit_floats(golden: Callable[[str], Any], files: tuple[Any, ...], tmp_path: Path) -> None:
    tensors = golden("lora.safetensors").tensors
    arrays = {NAME: tensors["fp8/codes"], f"{NAME}_scale": tensors["fp8/scale"].astype(mx.float32)}
    found = fused(tmp_path, arrays, files, mx.float32)
    assert found[NAME].dtype == mx.uint8
    decoded = np.array(fp8.decode(found[NAME], found[f"{NAME}_scale"], mx.float32))
    expected = np.array(tensors["fp8/fused"])
    # Where torch and MLX differ in a product's last bit, a value near a boundary falls to the neighbouring code.
    away = np.abs(decoded - expected) / np.abs(expected).max()
    assert (away > 1e-6).mean() < 0.01
