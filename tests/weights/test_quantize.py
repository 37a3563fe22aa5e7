"""Quantised weights and 8-bit floats, against plain numpy."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from weights import fp8
from weights.quantize import Decoded, Quantised, bytes_to_weights, dense, dequantise, product, quantise

RANDOM = np.random.default_rng(5)


def normal(*shape: int) -> mx.array:
    return mx.array((RANDOM.standard_normal(shape) / shape[-1] ** 0.5).astype(np.float32))


def numpy_of(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32)).astype(np.float64)


def relative(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def by_hand(made: Quantised, inputs: int) -> np.ndarray:
    """The values that a packed weight stands for, by MLX's published format."""
    words, scales, biases = np.array(made.packed), numpy_of(made.scales), numpy_of(made.biases)
    bits, group = 32 * words.shape[1] // inputs, inputs // scales.shape[1]
    codes = np.stack([words >> shift & (2**bits - 1) for shift in range(0, 32, bits)], axis=-1).reshape(-1, inputs)
    return codes * np.repeat(scales, group, axis=1) + np.repeat(biases, group, axis=1)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
@pytest.mark.parametrize(("bits", "error"), [(8, 0.006), (4, 0.095)])
@pytest.mark.parametrize("shape", [(7, 64), (5, 96), (300, 896), (1, 32)])
def test_packed_values_are_close_and_in_mlx_layout(
    dtype: mx.Dtype, bits: int, error: float, shape: tuple[int, int]
) -> None:
    weight = normal(*shape).astype(dtype)
    made = quantise(weight, bits)
    assert (made.packed.dtype, made.scales.dtype, made.biases.dtype) == (mx.uint32, dtype, dtype)
    values = by_hand(made, shape[1])
    assert relative(values, numpy_of(weight)) < error
    np.testing.assert_allclose(
        numpy_of(dequantise(*made, shape[1])), values, atol=1e-6 if dtype == mx.float32 else 0.02 * abs(values).max()
    )


@pytest.mark.parametrize("bits", [8, 4])
def test_every_value_is_packed_to_its_nearest_step(bits: int) -> None:
    weight = normal(40, 128).astype(mx.bfloat16)
    made = quantise(weight, bits)
    steps = np.repeat(numpy_of(made.scales), 64, axis=1)
    # Half a step; at a group's ends a whole rounding of the stored scale and bias more.
    off = np.abs(by_hand(made, 128) - numpy_of(weight)) / steps
    assert np.quantile(off, 0.97) <= 0.5 + 1e-4
    assert off.max() <= 0.5 + 2**bits * 2.0**-8


def test_bfloat16_scales_cost_next_to_nothing() -> None:
    weight = normal(256, 1024).astype(mx.bfloat16)
    exact, rounded = quantise(weight.astype(mx.float32), 8), quantise(weight, 8)
    errors = [relative(by_hand(made, 1024), numpy_of(weight)) for made in (exact, rounded)]
    theirs = Quantised(*mx.quantize(weight, group_size=64, bits=8))
    assert errors[1] < 1.05 * errors[0]
    assert relative(by_hand(theirs, 1024), numpy_of(weight)) > 1.2 * errors[1]


def test_large_weights_are_worked_on_in_pieces_to_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = normal(50, 64)
    whole = quantise(weight, 4)
    monkeypatch.setattr("weights.quantize._ROWS_AT_ONCE", 7 * 64)
    assert all(mx.array_equal(one, other) for one, other in zip(quantise(weight, 4), whole, strict=True))


def test_groups_of_equal_values_and_zeros() -> None:
    weight = mx.concatenate([mx.zeros((2, 64)), mx.full((2, 64), 3.25), normal(2, 64)])
    made = quantise(weight, 4)
    np.testing.assert_array_equal(by_hand(made, 64)[:4], numpy_of(weight)[:4])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_shows_in_its_groups_scale(bad: float) -> None:
    values = np.ones((2, 128), np.float32)
    values[1, 70] = bad
    made = quantise(mx.array(values), 8)
    finite = np.isfinite(np.array(made.scales)) & np.isfinite(np.array(made.biases))
    np.testing.assert_array_equal(finite, [[True, True], [True, False]])


@pytest.mark.parametrize("shape", [(4, 48), (4, 0)])
def test_widths_that_no_group_divides(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="cannot be quantised"):
        quantise(mx.zeros(shape), 8)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_product_without_the_dense_weight(bits: int) -> None:
    made, x = quantise(normal(96, 128), bits), normal(3, 5, 128)
    held = {"to_q.weight": made.packed, "to_q.scales": made.scales, "to_q.biases": made.biases}
    expected = numpy_of(x) @ by_hand(made, 128).T
    np.testing.assert_allclose(numpy_of(product(held, "to_q", x)), expected, atol=1e-5)
    np.testing.assert_allclose(numpy_of(x @ dense(held, "to_q", 128, mx.float32).T), expected, atol=1e-5)


def e4m3(codes: np.ndarray) -> np.ndarray:
    """What the codes of E4M3 stand for (OCP 8-bit floating point, revision 1.0, section 5)."""
    sign = np.where(codes >> 7, -1.0, 1.0)
    exponent, mantissa = (codes >> 3 & 15).astype(int), (codes & 7).astype(float)
    values = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    return sign * np.where(codes & 127 == 127, np.nan, values)


CODES = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
def test_every_code_of_8_bit_floats(dtype: mx.Dtype) -> None:
    scale = mx.array(0.0123, dtype=mx.float32)
    expected = mx.array(e4m3(CODES).astype(np.float32) * np.float32(0.0123)).astype(dtype)
    decoded = fp8.decode(mx.array(CODES), scale, dtype)
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(numpy_of(decoded), numpy_of(expected))
    np.testing.assert_array_equal(numpy_of(fp8.decode(mx.array(CODES), scale.reshape(1), dtype)), numpy_of(expected))


def test_encoding_uses_the_whole_range_and_rounds_to_the_nearest() -> None:
    weight = normal(64, 96)
    codes, scale = fp8.encode(weight)
    assert (codes.dtype, scale.dtype, scale.shape) == (mx.uint8, mx.float32, ())
    assert float(scale.item()) == pytest.approx(np.abs(numpy_of(weight)).max() / 448, rel=1e-6)
    table = np.sort(e4m3(CODES[:127]))
    scaled = numpy_of(weight) / float(scale.item())
    nearest = np.abs(np.abs(scaled)[..., None] - table).min(axis=-1)
    np.testing.assert_allclose(np.abs(e4m3(np.array(codes)) - scaled), nearest, atol=1e-4)
    again, factor = fp8.encode(fp8.decode(codes, scale, mx.float32))
    assert mx.array_equal(again, codes)
    assert float(factor.item()) == pytest.approx(float(scale.item()))
    assert not np.array(fp8.encode(mx.zeros((2, 3)))[0]).any()


def test_dense_finds_each_form() -> None:
    weight = normal(8, 64)
    codes, scale = fp8.encode(weight)
    held = {"a.weight": weight, "b.weight": codes, "b.weight_scale": scale}
    assert dense(held, "a", 64, mx.bfloat16) is weight
    assert mx.array_equal(dense(held, "b", 64, mx.bfloat16), fp8.decode(codes, scale, mx.bfloat16))


@pytest.mark.parametrize("group", [32, 64, 128])
def test_bytes_become_weights_with_one_rounding(group: int) -> None:
    """As MLX's kernels for GPUs have it; its loop for CPUs rounds the product to 16 bits, too."""
    weight = mx.random.normal((24, 256), key=mx.random.key(3))
    packed, scales, biases = quantise(weight, 8, group, mx.bfloat16)
    made = bytes_to_weights(packed, scales, biases).reshape(24, 256)
    exact = mx.dequantize(packed, scales.astype(mx.float32), biases.astype(mx.float32), group_size=group, bits=8)
    assert mx.array_equal(made, exact.astype(mx.bfloat16)).item()


def test_what_is_decoded_for_a_visit_is_decoded_once() -> None:
    weight = mx.random.normal((16, 64), key=mx.random.key(4))
    packed, scales, biases = quantise(weight, 4, 64, mx.float32)
    held = {"a.weight": packed, "a.scales": scales, "a.biases": biases}
    visit = Decoded(held)
    assert dense(visit, "a", 64, mx.float32) is dense(visit, "a", 64, mx.float32)
    assert mx.array_equal(dense(visit, "a", 64, mx.float32), dense(held, "a", 64, mx.float32)).item()


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("value", [0.0, 0.5, -3.0])
def test_a_group_of_equal_values_has_a_scale_to_divide_by(bits: int, value: float) -> None:
    """Nought divided by nought would be a code that depends on the processor."""
    made = quantise(mx.full((2, 64), value, dtype=mx.bfloat16), bits)
    assert mx.array_equal(made.scales, mx.ones_like(made.scales))
    assert not made.packed.any().item()
    assert mx.array_equal(dequantise(*made, 64), mx.full((2, 64), value, dtype=mx.bfloat16))
