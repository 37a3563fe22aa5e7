"""The convolution against its definition, in both formulations: paddings, odd sizes, pieces, dtypes."""

from __future__ import annotations

import itertools

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from workers.networks import host
from workers.networks.convolution import Space, Time, conv3d

pytestmark = pytest.mark.usefixtures("on_the_cpu")

SIZES = [(1, 1, 1), (1, 2, 5), (3, 4, 1), (5, 7, 6)]
TIMES: tuple[Time, ...] = ("causal", "centred", "zeros")
SPACES: tuple[Space, ...] = ("zeros", "reflect")


@pytest.fixture(params=["host", "mlx"])
def formulation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "mlx":
        monkeypatch.setattr(host, "applies", lambda x: False)


def inputs(
    size: tuple[int, int, int], taps: int, channels: int = 3, outputs: int = 4
) -> dict[str, NDArray[np.float32]]:
    generator = np.random.default_rng(sum(size))
    kernel = (outputs, taps, 3, 3, channels) if taps > 1 else (outputs, 3, 3, channels)
    return {
        "x": generator.standard_normal((1, *size, channels)).astype(np.float32),
        "c.weight": generator.standard_normal(kernel).astype(np.float32),
        "c.bias": generator.standard_normal(outputs).astype(np.float32),
    }


def pad(x: NDArray[np.float32], axis: int, mode: str, before: int, after: int) -> NDArray[np.float32]:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (before, after)
    return np.pad(x, widths, mode="edge" if mode == "reflect" and x.shape[axis] == 1 else mode)  # type: ignore[call-overload,no-any-return]


def by_definition(
    x: NDArray[np.float32], weight: NDArray[np.float32], bias: NDArray[np.float32], time: str, space: str
) -> NDArray[np.float32]:
    weight = weight if weight.ndim == 5 else weight[:, None]
    if weight.shape[1] == 3:
        before, after, mode = {"causal": (2, 0, "edge"), "centred": (1, 1, "edge"), "zeros": (1, 1, "constant")}[time]
        x = pad(x, 1, mode, before, after)
    for axis in (2, 3):
        x = pad(x, axis, "reflect" if space == "reflect" else "constant", 1, 1)
    frames, height, width = (x.shape[1] - weight.shape[1] + 1, x.shape[2] - 2, x.shape[3] - 2)
    result = np.zeros((1, frames, height, width, len(bias)), np.float64) + bias
    for t, i, j in itertools.product(range(weight.shape[1]), range(3), range(3)):
        part = x[:, t : t + frames, i : i + height, j : j + width].astype(np.float64)
        result += part @ weight[:, t, i, j].T
    return result.astype(np.float32)


@pytest.mark.usefixtures("formulation")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("taps", [1, 3])
def test_is_the_convolution(size: tuple[int, int, int], time: Time, space: Space, taps: int) -> None:
    values = inputs(size, taps)
    arrays = {name: mx.array(value) for name, value in values.items()}
    result = np.array(conv3d(arrays, "c", arrays["x"], time, space))
    expected = by_definition(values["x"], values["c.weight"], values["c.bias"], time, space)
    np.testing.assert_allclose(result, expected, atol=2e-5)


@pytest.mark.parametrize("limit", [1, 9 * 3 * 6 * 2, 9 * 3 * 6 * 3])
def test_pieces_change_nothing(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row at a time, and pieces that do not divide the height."""
    values = {name: mx.array(value) for name, value in inputs((5, 7, 6), 3).items()}
    whole = np.array(conv3d(values, "c", values["x"], "centred", "reflect"))
    monkeypatch.setattr(host, "_PATCH_FLOATS", limit)
    np.testing.assert_allclose(np.array(conv3d(values, "c", values["x"], "centred", "reflect")), whole, atol=1e-5)


def test_takes_arrays_of_any_layout() -> None:
    """Lazy and transposed, as a loader or a slice leaves them."""
    values = inputs((3, 4, 5), 3)
    expected = by_definition(values["x"], values["c.weight"], values["c.bias"], "causal", "zeros")
    as_in_file = mx.array(np.ascontiguousarray(np.moveaxis(values["c.weight"], -1, 1)))
    weights = {"c.weight": as_in_file.transpose(0, 2, 3, 4, 1), "c.bias": mx.array(values["c.bias"])}
    x = mx.array(np.ascontiguousarray(values["x"].transpose(0, 4, 3, 2, 1))).transpose(0, 4, 3, 2, 1)
    np.testing.assert_allclose(np.array(conv3d(weights, "c", x, "causal", "zeros")), expected, atol=2e-5)


def test_the_input_is_left_alone() -> None:
    values = {name: mx.array(value) for name, value in inputs((2, 4, 4), 3).items()}
    before = np.array(values["x"])
    mx.eval(conv3d(values, "c", values["x"], "centred", "reflect"))
    host.silu(values["x"])
    assert (np.array(values["x"]) == before).all()


def test_bfloat16_stays_bfloat16() -> None:
    values = {name: mx.array(value).astype(mx.bfloat16) for name, value in inputs((2, 4, 4), 3).items()}
    assert conv3d(values, "c", values["x"], "centred", "reflect").dtype == mx.bfloat16


@pytest.mark.filterwarnings("error")
def test_silu_of_extremes() -> None:
    x = mx.array([-1e30, -200.0, -1.0, 0.0, 1.0, 200.0, 1e30])
    expected = [0.0, 0.0, -0.26894143, 0.0, 0.7310586, 200.0, 1e30]
    np.testing.assert_allclose(np.array(host.silu(x)), expected, rtol=1e-6)
