"""Trying again: in which order, how often, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.heal import entry, record, run_healing, tile_sentence
from orchestrator.memory_backends import CPU, CUDA, METAL
from orchestrator.memory_plan import StageMemory
from orchestrator.memory_tiles import Tiles
from tests.orchestrator.memory_machines import GB, H100, MAC, planned, recipe_for, write_full_size


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StageMemory]:
    folder = write_full_size(tmp_path_factory.mktemp("full"))
    found: dict[str, StageMemory] = planned(folder, recipe_for(folder), H100)[1]
    return found


def end(code: int, **more: Any) -> Any:
    return SimpleNamespace(code=code, mlx_peak=7 * GB, process_peak=8 * GB, seconds=3.0, **more)


def heal(memory: StageMemory, codes: list[int], backend: Any = METAL) -> tuple[Any, list[StageMemory], list[str]]:
    """The last end, how each worker held its weights, and what was said in between."""
    started: list[StageMemory] = []
    said: list[str] = []

    def start(now: StageMemory) -> Any:
        started.append(now)
        return end(codes[len(started) - 1])

    last, now = run_healing(memory, backend, start, lambda memory, end, sentence: said.append(sentence))
    assert now is started[-1]
    return last, started, said


def test_a_worker_that_ends_well_is_started_once(stages: dict[str, StageMemory]) -> None:
    last, started, said = heal(stages["stage2"], [0])
    assert (last.code, len(started), said) == (0, 1, [])


@pytest.mark.parametrize("code", [2, 3, 4, 7, 130])
def test_other_ends_are_not_tried_again(stages: dict[str, StageMemory], code: int) -> None:
    assert heal(stages["stage2"], [code])[0].code == code


def test_fewer_blocks_then_none_then_nothing_to_spare(stages: dict[str, StageMemory]) -> None:
    last, started, said = heal(stages["stage2"], [5, 5, 5, 5, 0])
    assert last.code == 0
    assert [memory.holding.resident_blocks for memory in started] == [None, None, 24, 0, 0]
    assert [memory.holding.pace for memory in started] == ["ahead", *["parts"] * 4]
    assert [memory.holding.spare for memory in started] == [False, False, False, False, True]
    assert said[0].endswith("trying from its last step with each block computed part by part.")
    assert said[1] == (
        "Stage 2 ran out of memory; trying from its last step with its weights 24 of 48 blocks in memory, "
        "the rest streamed."
    )
    assert "one block at a time" in said[3]


def test_a_back_end_that_never_runs_ahead_of_itself_first_takes_one_block_at_a_time(
    stages: dict[str, StageMemory],
) -> None:
    _, started, said = heal(stages["stage2"], [5, 0], CPU)
    assert [(memory.holding.pace, memory.holding.resident_blocks) for memory in started][1] == ("whole", None)
    assert said == ["Stage 2 ran out of memory; trying from its last step with one block computed at a time."]


def test_it_ends_when_nothing_is_left(stages: dict[str, StageMemory]) -> None:
    last, started, _ = heal(stages["stage2"], [5] * 9)
    assert (last.code, len(started)) == (5, 5)
    last, started, _ = heal(stages["text"], [5] * 9, CPU)
    assert (last.code, len(started)) == (5, 1)


def test_the_gpus_watchdog_is_answered_with_short_buffers(stages: dict[str, StageMemory]) -> None:
    last, started, said = heal(stages["stage2"], [6, 0])
    assert (last.code, started[1].holding.spare, started[1].holding.resident_blocks) == (0, True, None)
    assert said == ["The GPU gave up on stage 2; trying from its last step with no cache and short command buffers."]


def test_smaller_tiles_are_said_to_change_the_video(stages: dict[str, StageMemory]) -> None:
    sentence = tile_sentence(stages["decode"], end(5), Tiles(256, 64, None, 24))
    assert "in smaller tiles (256 pixels x all frames)" in sentence
    assert "a key of its own" in sentence


@pytest.mark.parametrize(("backend", "peak"), [(CUDA, 7 * GB), (METAL, 8 * GB), (CPU, 8 * GB)])
def test_what_is_measured_is_what_was_predicted(stages: dict[str, StageMemory], backend: Any, peak: int) -> None:
    """On a card MLX's own count, elsewhere the process."""
    notes = record(stages["stage2"], end(0), backend, 2)["memory"]
    assert (notes["measured"], notes["tries"]) == (peak, 2)
    assert notes["predicted"] == stages["stage2"].expected


def test_an_entry_tells_how_much_was_streamed(stages: dict[str, StageMemory]) -> None:
    kept: Callable[..., Any] = lambda memory: entry(memory, end(0), CUDA, 5.0)  # noqa: E731
    whole = kept(stages["stage2"])
    _, started, _ = heal(stages["stage2"], [5, 5, 0])
    half = kept(started[-1])
    assert (whole.streamed, half.streamed) == (0.0, 0.5)
    assert whole.weights == half.weights, "it is the same model, however it is held"
    assert half.predicted < whole.predicted


def test_a_mac_that_streams_already_goes_on_from_there(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = write_full_size(tmp_path_factory.mktemp("again"))
    memory = planned(folder, recipe_for(folder), MAC)[1]["stage1"]
    kept = memory.holding.resident_blocks
    assert kept is not None
    _, started, _ = heal(memory, [5, 5, 0])
    assert [one.holding.resident_blocks for one in started] == [kept, kept // 2, 0]
