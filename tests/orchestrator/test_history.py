"""What earlier runs teach: bounded, of like runs only, and harmless when the file is not."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from orchestrator.history import HIGHEST, KEPT, LOWEST, Entry, ratio, read_history, remember, seconds

ENTRY = Entry("cpu", "stage1", 1000, 950, 77, 0.0, 2e9, 10.0)


def test_the_largest_of_the_recent_ratios_counts() -> None:
    entries = [replace(ENTRY, measured=measured) for measured in (1200, 940, 1010, 990, 960, 950)]
    assert ratio(entries, "cpu", "stage1", ENTRY.weights, 1000) == 1.01, "the first is too long ago"
    assert ratio(entries[:3], "cpu", "stage1", ENTRY.weights, 1000) == 1.2


@pytest.mark.parametrize(
    ("backend", "stage", "predicted"), [("metal", "stage1", 1000), ("cpu", "stage2", 1000), ("cpu", "stage1", 2100)]
)
def test_only_like_runs_count(backend: str, stage: str, predicted: int) -> None:
    assert ratio([replace(ENTRY, measured=1200)], backend, stage, ENTRY.weights, predicted) == 1.0


def test_the_same_weights_count_before_others() -> None:
    """A run in another dtype that was predicted badly must not spoil what is known of this one."""
    other = replace(ENTRY, weights=ENTRY.weights * 2, measured=1200)
    own = [replace(ENTRY, measured=950)]
    assert ratio([*own, other, other], "cpu", "stage1", ENTRY.weights, 1000) == 0.95
    assert ratio([other], "cpu", "stage1", ENTRY.weights, 1000) == 1.2, "better than nothing"


def test_the_correction_is_bounded() -> None:
    assert ratio([replace(ENTRY, measured=9000)], "cpu", "stage1", ENTRY.weights, 1000) == HIGHEST
    assert ratio([replace(ENTRY, measured=10)], "cpu", "stage1", ENTRY.weights, 1000) == LOWEST


def test_time_follows_the_work() -> None:
    entries = [replace(ENTRY, seconds=value) for value in (8.0, 10.0, 100.0)]
    assert seconds(entries, "cpu", "stage1", 77, 0.0, 4e9) == 20.0
    assert seconds(entries, "cpu", "stage1", 78, 0.0, 4e9) is None, "another model"
    assert seconds(entries, "cpu", "stage1", 77, 1.0, 4e9) is None, "streamed"
    assert seconds([replace(ENTRY, effort=0.0)], "cpu", "stage1", 77, 0.0, 4e9) is None, "it was resumed"


def test_entries_are_kept_in_order_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    assert read_history(path) == ()
    older = [asdict(replace(ENTRY, measured=index + 1)) for index in range(KEPT)]
    path.write_text(json.dumps({"format": 1, "entries": older}))
    for index in (KEPT, KEPT + 1):
        remember(path, replace(ENTRY, measured=index + 1))
    assert [entry.measured for entry in read_history(path)] == list(range(3, KEPT + 3))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format": 2, "entries": []}',
        '{"format": 1, "entries": {}}',
        '{"format": 1}',
        '{"format": 1, "entries": [1, null, {"stage": "text"}]}',
        "\x00" * 50,
        '{"format": 1, "entries": [' + "[" * 5000,
    ],
)
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "history.json"
    path.write_text(text)
    assert read_history(path) == ()
    remember(path, ENTRY)
    assert read_history(path) == (ENTRY,)


@pytest.mark.parametrize(
    "change",
    [
        {"measured": "950"},
        {"measured": True},
        {"measured": -1},
        {"seconds": None},
        {"effort": 1e40},
        {"backend": 3},
        {"predicted": 1.5},
        {"more": 1},
    ],
)
def test_an_entry_that_is_none_is_left_out(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "history.json"
    path.write_text(json.dumps({"format": 1, "entries": [{**asdict(ENTRY), **change}, asdict(ENTRY)]}))
    assert read_history(path) == (ENTRY,)


def test_a_file_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    remember(tmp_path / "file" / "history.json", ENTRY)
