"""The card is woken where there is one to wake, and what happens then is nobody's trouble."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx
import mlx.core as mx
import pytest

import workers.stages
from workers import waking

pytestmark = pytest.mark.usefixtures("on_the_cpu")


class Card:
    """Looks like MLX on a CUDA card, and computes on the CPU."""

    DeviceType = mx.DeviceType
    bfloat16 = mx.bfloat16
    metal = SimpleNamespace(is_available=lambda: False)

    def __init__(self, gpu: bool = True, error: Exception | None = None) -> None:
        self.calls: list[str] = []
        self.gpu, self.error = gpu, error

    def default_device(self) -> Any:
        return SimpleNamespace(type=mx.DeviceType.gpu if self.gpu else mx.DeviceType.cpu)

    def ones(self, *shape: Any) -> mx.array:
        if self.error is not None:
            raise self.error
        return mx.ones(*shape)

    def conv3d(self, *arrays: mx.array) -> mx.array:
        self.calls.append("convolution")
        return mx.conv3d(*arrays)

    def eval(self, array: mx.array) -> None:
        mx.eval(array)
        self.calls.append("computed")


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch):
    def be(card: Card) -> Card:
        monkeypatch.setitem(sys.modules, "mlx.core", card)
        monkeypatch.setattr(mlx, "core", card)
        return card

    return be


@pytest.mark.parametrize(
    ("stage", "calls"), [("stage1", ["computed"]), ("decode", ["computed", "convolution", "computed"])]
)
def test_products_and_where_there_are_some_convolutions(pretend, stage, calls):
    card = pretend(Card())
    thread = waking.wake_the_card(stage)
    assert thread is not None
    assert thread.daemon
    thread.join()
    assert card.calls == calls


def test_without_a_card_nothing_is_woken(pretend):
    before = threading.active_count()
    assert waking.wake_the_card("decode") is None
    assert waking.wake_the_card("decode") is None
    pretend(Card(gpu=False))
    assert waking.wake_the_card("decode") is None
    assert threading.active_count() == before


def test_a_card_that_cannot_be_woken_is_the_stages_to_report(pretend, monkeypatch):
    said = []
    monkeypatch.setattr(threading, "excepthook", said.append)
    pretend(Card(error=RuntimeError("out of memory")))
    thread = waking.wake_the_card("decode")
    assert thread is not None
    thread.join()
    assert said == []


def test_the_stages_with_convolutions_are_stages():
    folder = Path(next(iter(workers.stages.__path__)))
    assert {path.stem for path in folder.glob("*.py")} >= waking.CONVOLVING
