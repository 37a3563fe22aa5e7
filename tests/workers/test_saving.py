"""States are saved beside the computation: what is reported is on the disk, and nothing that went wrong is lost."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from cache.home import Home, open_home
from cache.partial import load_partial
from weights.errors import DoesNotFit, WorkerFailed
from workers.channel import EventChannel
from workers.context import Context, Stopped
from workers.protocol import Item, Job
from workers.stages import saving
from workers.stages.saving import Saver

pytestmark = pytest.mark.usefixtures("on_the_cpu")

KEY = "a" * 64
TOTAL = 3


class Steps(EventChannel):
    """Keeps which step was reported, and which was on the disk then."""

    def __init__(self, home: Home) -> None:
        super().__init__(None)
        self.home, self.seen = home, list[tuple[int, int]]()

    def emit(self, event: str, **fields: Any) -> None:
        if event == "step":
            saved = load_partial(self.home, KEY)
            assert saved is not None
            self.seen.append((fields["index"], saved.step))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


@pytest.fixture
def made(home: Home) -> tuple[Job, Context, Item, Steps]:
    item, channel = Item(KEY, ""), Steps(home)
    job = Job("stage1", (item,), (), str(home.root))
    return job, Context(job, channel), item, channel


def latent(step: int) -> mx.array:
    return mx.full((1, 2, 3), step, dtype=mx.float32)


def run(save: Saver, steps: range) -> None:
    for step in steps:
        save(step, TOTAL, latent(step), 0.0)


def test_a_step_is_reported_when_it_is_on_the_disk(home: Home, made: Any) -> None:
    job, context, item, channel = made
    with Saver(job, context, item) as save:
        run(save, range(1, TOTAL + 1))
    assert channel.seen == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize("failing", range(1, TOTAL + 1))
def test_a_failed_save_ends_the_stage_one_step_later_at_most(
    home: Home, made: Any, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, context, item, channel = made
    original = saving.save_partial

    def full(home: Home, key: str, step: int, *rest: Any) -> int:
        if step == failing:
            raise DoesNotFit("The disk is full.")
        return original(home, key, step, *rest)

    monkeypatch.setattr(saving, "save_partial", full)
    reached: list[int] = []

    def stage() -> None:
        with Saver(job, context, item) as save:
            for step in range(1, TOTAL + 1):
                reached.append(step)
                run(save, range(step, step + 1))

    with pytest.raises(DoesNotFit):
        stage()
    assert reached[-1] <= failing + 1
    assert channel.seen == [(step, step) for step in range(1, failing)]


def test_the_step_before_a_failure_is_saved_and_the_failure_is_what_is_said(
    home: Home, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, context, item, _ = made
    going_on = threading.Event()
    original = saving.save_partial

    def slow(*arguments: Any) -> int:
        assert going_on.wait(20)
        return original(*arguments)

    monkeypatch.setattr(saving, "save_partial", slow)

    def stage() -> None:
        with Saver(job, context, item) as save:
            run(save, range(1, 2))
            going_on.set()
            raise WorkerFailed("Step 2 gave values that are not finite.")

    with pytest.raises(WorkerFailed, match="not finite"):
        stage()
    saved = load_partial(home, KEY)
    assert saved is not None
    assert saved.step == 1


def test_a_stop_comes_after_the_step_that_was_under_way(home: Home, made: Any) -> None:
    job, context, item, channel = made

    def stage() -> None:
        with Saver(job, context, item) as save:
            run(save, range(1, 2))
            context.request_stop(signal.SIGTERM)
            run(save, range(2, TOTAL + 1))

    with pytest.raises(Stopped):
        stage()
    assert channel.seen == [(1, 1), (2, 2)]


def test_no_stop_comes_between_the_last_step_and_its_result(home: Home, made: Any) -> None:
    job, context, item, channel = made
    with Saver(job, context, item) as save:
        run(save, range(1, TOTAL))
        context.request_stop(signal.SIGTERM)
        run(save, range(TOTAL, TOTAL + 1))
    assert channel.seen[-1] == (TOTAL, TOTAL)
