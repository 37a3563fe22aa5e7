"""The choice: the fastest holding that fits, tiles that nothing transient moves, and advice that was tried."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cache.home import open_home
from orchestrator import prepare as preparation
from orchestrator.history import Entry
from orchestrator.machine import Machine
from orchestrator.memory import Holding, host_bytes
from orchestrator.memory_advice import changes
from orchestrator.memory_backends import BACKENDS, CPU, CUDA, METAL
from orchestrator.memory_budget import Budget, budget
from orchestrator.memory_plan import StageMemory, holding_words, more_frugal, smaller_tiles, with_holding
from orchestrator.memory_tiles import Tiles
from orchestrator.plan_report import describe
from orchestrator.planning import check_memory
from orchestrator.recipe import WeightsChoice
from orchestrator.settings import Settings
from tests.orchestrator.memory_machines import GB, H100, LINUX, MAC, machine, planned, recipe_for, write_full_size
from weights.errors import DoesNotFit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_full_size(tmp_path_factory.mktemp("full"))


def stage2(folder: Path, on: Machine = MAC, **asked: Any) -> StageMemory:
    _, stages, _ = planned(folder, recipe_for(folder, **asked), on)
    found: StageMemory = stages["stage2"]
    return found


def test_a_32_gb_mac_streams_some_blocks_of_both_transformers(folder: Path) -> None:
    """26.09 GB in 21.3 GB."""
    recipe, stages, given = planned(folder, recipe_for(folder), MAC)
    assert all(memory.fits for memory in stages.values())
    for name in ("stage1", "stage2"):
        kept = stages[name].holding.resident_blocks
        assert 20 < kept < 47
        one_more = with_holding(stages[name], METAL, Holding(kept + 1, pace="parts"))
        assert not one_more.fits, "as many stay as there is room for"
        assert stages[name].holding.params == {
            "pace": "parts",
            "residency": {"resident_blocks": kept, "prefetch": 1},
        }
    check_memory(recipe, stages, list(stages), given)


def test_a_large_card_holds_everything(folder: Path) -> None:
    _, stages, _ = planned(folder, recipe_for(folder), H100)
    fast = Holding(pace="ahead", keep_text=True)
    assert [memory.holding for memory in stages.values()] == [Holding(), fast, fast, Holding(), Holding()]
    assert stages["stage1"].holding.params == {"pace": "ahead", "keep_text": True}


def test_blocks_are_evaluated_in_parts_before_any_is_streamed(folder: Path) -> None:
    """A GPU that waits for moments is faster than one that waits for the disk."""
    memory, found = 80 * GB, []
    for _ in range(5):
        found.append(stage2(folder, H100, memory=memory))
        assert found[-1].expected <= memory
        memory = found[-1].expected - GB // 4
    assert [stage.holding for stage in found[:4]] == [
        Holding(pace="ahead", keep_text=True),
        Holding(keep_text=True),
        Holding(),
        Holding(pace="parts"),
    ]
    assert found[4].holding.resident_blocks in range(40, 48)


@pytest.mark.parametrize("on", [MAC, H100, LINUX], ids=lambda machine: machine.backend)
def test_every_budget_is_kept_or_said_to_be_too_small(folder: Path, on: Machine) -> None:
    before = -1
    for size in (3, 4, 6, 8, 12, 16, 22, 32, 64):
        recipe, stages, given = planned(folder, recipe_for(folder, memory=size * GB), on)
        for memory in stages.values():
            assert memory.fits == (memory.expected <= size * GB)
        kept = stages["stage1"].holding.resident_blocks
        kept = stages["stage1"].work.blocks if kept is None else kept
        assert kept >= before, "more memory never means fewer blocks"
        before = kept
        if not all(memory.fits for memory in stages.values()):
            with pytest.raises(DoesNotFit):
                check_memory(recipe, stages, list(stages), given)
            check_memory(recipe, stages, [name for name, memory in stages.items() if memory.fits], given)


def test_tiles_follow_the_stated_budget_alone(folder: Path) -> None:
    """Neither what is free nor what was measured before moves a tile: bits would change."""
    entry = Entry("cpu", "decode", 10 * GB, 13 * GB, 1, 0.0, 1.0, 1.0)
    recipe = recipe_for(folder)
    chosen = {planned(folder, recipe, LINUX, free, (entry,) * 8)[0].tiles for free in (1, 9, 64)}
    assert len(chosen) == 1
    assert planned(folder, recipe, machine("cpu", 63.9))[0].tiles in chosen
    assert planned(folder, recipe, machine("cpu", 8))[0].tiles not in chosen
    assert planned(folder, replace(recipe, memory=6 * GB), LINUX)[0].tiles not in chosen
    assert planned(folder, replace(recipe, tiles=(256, 64, 64, 24)), LINUX)[0].tiles == (256, 64, 64, 24)


def test_calibration_moves_residency(folder: Path) -> None:
    recipe = recipe_for(folder, memory=16 * GB)
    plain = planned(folder, recipe, H100)[1]["stage2"]
    history = (Entry("cuda", "stage2", 16 * GB, int(17.6 * GB), 1, 0.0, 1.0, 1.0),)
    careful = planned(folder, recipe, H100, history=history)[1]["stage2"]
    assert careful.holding.resident_blocks < plain.holding.resident_blocks
    assert careful.fits
    assert careful.expected == pytest.approx(1.1 * careful.prediction.peak, rel=0.01)


def test_the_advice_fits(folder: Path) -> None:
    """Each setting that the message names is planned with, and fits."""
    recipe, stages, given = planned(folder, recipe_for(folder, size=(3840, 2160), memory=8 * GB), H100)
    with pytest.raises(DoesNotFit) as caught:
        check_memory(recipe, stages, list(stages), given)
    message, advice = caught.value.message, caught.value.advice
    assert caught.value.exit_code == 4
    assert re.search(r"Stage 2 needs about [\d.]+ GB .* budget is 8.0 GB \(--memory\): [\d.]+ GB too little", message)
    choices = re.findall(r"--[^;.]+", advice.removeprefix("Any of these would fit: "))
    assert {choice.split()[0] for choice in choices} == {"--memory", "--frames", "--height"}
    for choice in choices:
        words = choice.split()
        named = dict(zip(words[::2], words[1::2], strict=True))
        asked: dict[str, Any] = {"size": (3840, 2160), "memory": 8 * GB}
        if "--memory" in named:
            asked["memory"] = int(named["--memory"].removesuffix("GB")) * GB
        if "--frames" in named:
            asked["frames"] = int(named["--frames"])
        if "--height" in named:
            asked |= {"size": None, "height": int(named["--height"]), "width": int(named["--width"])}
        again, stages, given = planned(folder, recipe_for(folder, **asked), H100)
        check_memory(again, stages, list(stages), given)


def test_a_machine_that_is_busy_is_told_to_state_less(folder: Path) -> None:
    """Its tiles are for all of its memory; with a stated budget they are smaller, and it fits."""
    recipe, stages, given = planned(folder, recipe_for(folder), LINUX, available=12)
    assert not stages["decode"].fits
    with pytest.raises(DoesNotFit, match=r"85% of the 12\.0 GB that are available") as caught:
        check_memory(recipe, stages, ["decode"], given)
    assert "--memory 10GB" in caught.value.advice


def test_no_more_is_advised_than_the_machine_has(folder: Path) -> None:
    asked = {"size": (3840, 2160), "memory": 8 * GB}
    recipe, stages, given = planned(folder, recipe_for(folder, **asked), machine("cuda", 128, card=9))
    with pytest.raises(DoesNotFit) as caught:
        check_memory(recipe, stages, list(stages), given)
    needed = max(memory.expected for memory in stages.values())
    assert needed > 9 * GB
    assert "--memory" not in caught.value.advice


def test_less_than_a_gigabyte_is_stated_as_it_is(folder: Path) -> None:
    recipe, stages, _ = planned(folder, recipe_for(folder), LINUX)
    worst = replace(stages["stage2"], budget=Budget(int(0.6 * GB), "85% of what is available"))
    words, other = next(changes(recipe, worst))
    assert words == "--memory 614MB"
    assert other.memory == 614 << 20


def test_what_is_cached_need_not_fit(folder: Path) -> None:
    recipe, stages, given = planned(folder, recipe_for(folder, memory=2 * GB), LINUX)
    assert not stages["stage2"].fits
    check_memory(recipe, stages, [], given)


@pytest.mark.parametrize(
    ("on", "asked", "source"),
    [
        (MAC, None, "Metal"),
        (H100, None, "card"),
        (LINUX, None, "available"),
        (MAC, 5 * GB, "--memory"),
        (machine("metal", 32), None, "available"),
    ],
)
def test_where_the_budget_comes_from(on: Machine, asked: int | None, source: str) -> None:
    found = budget(asked, on, 20 * GB)
    assert source in found.source
    if asked is not None:
        assert found.bytes == asked
    elif on.working_set:
        assert found.bytes == on.working_set
    elif on.device_memory:
        assert 70 * GB < found.bytes < on.device_memory
    else:
        assert found.bytes == pytest.approx(BACKENDS[on.backend].share * 20 * GB, rel=1e-6)


def test_limits_keep_mlx_within_the_budget(folder: Path) -> None:
    memory = stage2(folder)
    limits = memory.limits(METAL)
    assert limits.memory is not None
    assert memory.prediction.arrays <= limits.memory <= memory.budget.bytes - METAL.base
    assert limits.cache == METAL.cache
    assert limits.wired == memory.prediction.largest.weights
    assert memory.limits(CUDA).wired is None
    on_card = stage2(folder, H100).limits(CUDA)
    assert on_card.memory is not None
    assert on_card.cache == on_card.memory - stage2(folder, H100).prediction.arrays > 10 * GB
    assert with_holding(memory, METAL, Holding(0, 0, spare=True)).limits(METAL).cache == 0


def test_what_is_tried_after_a_failure_takes_less_each_time(folder: Path) -> None:
    for memory in (stage2(folder), stage2(folder, H100)):
        backend = METAL if memory.prediction.base else CUDA
        steps = more_frugal(memory, backend, gpu=False)
        peaks = [memory.prediction.peak, *(with_holding(memory, backend, step).prediction.peak for step in steps)]
        assert peaks == sorted(peaks, reverse=True)
        assert len(set(peaks)) == len(peaks) == (4 if memory.holding.pace == "parts" else 5)
        assert steps[-1] == Holding(0, 0, pace="parts", spare=True)
        assert steps[-2].resident_blocks == 0
    nothing_left = with_holding(memory, backend, steps[-1])
    assert more_frugal(nothing_left, backend, gpu=False) == ()


def test_the_watchdog_gets_short_command_buffers_first(folder: Path) -> None:
    memory = stage2(folder)
    first, *rest = more_frugal(memory, METAL, gpu=True)
    assert first == replace(memory.holding, spare=True)
    assert all(step.spare for step in rest)


def test_a_stage_without_blocks_can_only_spare(folder: Path) -> None:
    stages = planned(folder, recipe_for(folder), MAC)[1]
    assert more_frugal(stages["temporal"], METAL, gpu=False) == (Holding(spare=True),)
    assert more_frugal(stages["temporal"], CPU, gpu=False) == (), "a CPU keeps no cache that could be spared"


def test_smaller_tiles_take_less_and_end(folder: Path) -> None:
    decode = planned(folder, recipe_for(folder), MAC)[1]["decode"]
    tiles: Tiles | None = decode.work.tiles
    for _ in range(20):
        before, tiles = tiles, smaller_tiles(replace(decode.work, tiles=tiles), METAL)
        if tiles is None:
            break
        assert tiles != before
    assert tiles is None


def test_how_weights_are_held_in_words(folder: Path) -> None:
    work = stage2(folder).work
    assert holding_words(work, Holding()) == "in memory"
    assert holding_words(work, Holding(12)) == "12 of 48 blocks in memory, the rest streamed"
    assert holding_words(replace(work, bits=4), Holding(0)) == "streamed, 4 bits"


def test_a_plan_starts_no_worker_and_reads_no_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = open_home(tmp_path / "home")
    monkeypatch.setattr(preparation, "probe", lambda *_: LINUX)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    settings = Settings(prompt="a fox", weights=WeightsChoice(model=str(folder)), memory=12 * GB)
    report = describe(preparation.prepare(settings, home=home, output=tmp_path / "a.mp4"))
    assert report.fits
    assert report.budget == 12 * GB
    assert report.seconds is None, "nothing is known about the time before the first run"
    assert [stage.name for stage in report.stages if stage.memory["predicted"] > 11 * GB] == ["stage1", "stage2"]
    assert report.rooms[0].needed > 50_000_000
    assert report.to_dict()["rooms"][0]["place"] == str(home.root)


def test_the_choice_is_recorded_in_the_recipe(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a recipe gives the same bits on a machine with other memory."""
    home = open_home(tmp_path / "home")
    keys = []
    recorded = None
    for size in (64, 16):
        small = machine("cpu", size)
        monkeypatch.setattr(preparation, "probe", lambda *_, small=small: small)
        settings = Settings(prompt="a fox", weights=WeightsChoice(model=str(folder)), tiles=recorded)
        prepared = preparation.prepare(settings, home=home, output=tmp_path / "a.mp4")
        recorded = prepared.recipe.tiles
        assert recorded is not None
        assert prepared.relay[-1].params["tiles"] == Tiles.from_recipe(recorded).as_params()
        keys.append(prepared.relay[-1].items[0].key)
    assert keys[0] == keys[1]


def test_frames_of_a_card_have_to_fit_its_host(folder: Path) -> None:
    """193 frames of 4K: rows of 128 frames take 20 GB beside the card."""
    recipe = recipe_for(folder, size=(3840, 2160))
    large, small = (planned(folder, recipe, machine("cuda", host, card=80))[1]["decode"].work for host in (128, 16))
    assert host_bytes(large) > 18 * GB
    assert host_bytes(small) < 0.8 * 16 * GB
    assert large.tiles != small.tiles
