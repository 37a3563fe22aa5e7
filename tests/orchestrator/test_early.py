"""Work that is begun early: its result, and its error where that is asked for."""

from __future__ import annotations

import threading

import pytest

from orchestrator.early import Early
from weights.errors import WeightsError


def test_it_is_under_way_before_its_result_is_wanted() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work() -> int:
        begun.set()
        assert go_on.wait(60)
        return 7

    early = Early(work)
    assert begun.wait(60)
    go_on.set()
    assert [early.result(), early.result()] == [7, 7]


def test_an_error_comes_where_the_result_is_wanted_or_never() -> None:
    def fail() -> None:
        raise WeightsError("The file is gone.")

    Early(fail)
    early = Early(fail)
    for _ in range(2):
        with pytest.raises(WeightsError, match="gone"):
            early.result()


def test_none_is_a_result() -> None:
    assert Early(lambda: None).result() is None
