"""Contents of a home, and what may go: the least recently used, and never what a run under way needs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cache.artifacts import Tensor, publish, set_aside
from cache.contents import entries, stage_of, touch, verify
from cache.home import Home, open_home
from cache.locks import hold
from cache.partial import drop_partial, piece, save_partial
from cache.prune import DEFAULT_LIMIT, keys_in_use, limit_from, parse_age, parse_size, prune, registration
from cache.runs import Run, create_run, delete_run, list_runs, open_run, under_way
from cache.state import StageState
from cache.videos import publish_video
from weights.errors import Interrupted, UsageError

HOUR = 3600.0
Make = Callable[[str, float], Path]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


@pytest.fixture
def make(home: Home) -> Make:
    """`make(letter, hours)`: an artifact of stage 1 that was used so long ago; its key is 64 times the letter."""

    def publish_old(letter: str, hours: float) -> Path:
        key = letter * 64
        path = home.object_path(key)
        publish(path, {"video": Tensor("F32", (100,), bytes(400))}, {"key": key, "stage": "stage1"})
        age(path, hours)
        return path

    return publish_old


def age(path: Path, hours: float) -> None:
    then = time.time() - hours * HOUR
    os.utime(path, (then, then))


def video(home: Home, letter: str, hours: float) -> None:
    temporary = home.tmp / "video"
    temporary.write_bytes(bytes(5000))
    made = publish_video(home, letter * 64, temporary, ".mp4")
    age(made.path, hours)
    age(made.path.with_name(letter * 64 + ".video.json"), hours)


def kept(home: Home) -> str:
    return "".join(sorted(entry.key[0] for entry in entries(home)))


def running(home: Home, letter: str) -> Run:
    run = create_run(home, {"prompt": "a"}, "a")
    run.update_state(stages={"stage1": StageState(keys=(letter * 64,))})
    return run


def test_entries_are_in_the_order_of_use(home: Home, make: Make) -> None:
    make("a", 3), make("b", 1), make("c", 2)
    video(home, "d", 5)
    save_partial(home, "e" * 64, 1, 3, {"latent": Tensor("F32", (1,), bytes(4))})
    set_aside(make("f", 0))
    (home.objects / "aa" / "README").write_text("not ours")
    found = entries(home)
    assert "".join(entry.key[0] for entry in found)[:4] == "dacb"
    assert {entry.key[0]: entry.kind for entry in found} == {
        **dict.fromkeys("abc", "artifact"), "d": "video", "e": "partial", "f": "damaged",
    }  # fmt: skip
    assert [len(entry.paths) for entry in found if entry.kind == "video"] == [2]
    assert {stage_of(entry) for entry in found if entry.kind != "damaged"} == {"stage1", "decode", "partial"}


def test_pieces_of_a_state_are_one_entry(home: Home) -> None:
    tensors = {"frames": Tensor("U8", (4,), bytes(4))}
    for index in range(3):
        save_partial(home, piece("a" * 64, index), 1, 1, tensors)
    save_partial(home, piece("b" * 64, 0), 1, 1, tensors)
    found = entries(home)
    assert sorted((entry.key[0], entry.kind, len(entry.paths)) for entry in found) == [
        ("a", "partial", 3), ("b", "partial", 1),
    ]  # fmt: skip
    damaged = home.partial_path(piece("a" * 64, 1))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert [bool(verify(home, entry)) for entry in sorted(found, key=lambda entry: entry.key)] == [True, False]
    drop_partial(home, "a" * 64)
    assert sorted(entry.kind for entry in entries(home)) == ["damaged", "partial"]
    assert prune(home, max_bytes=0).removed == 2
    assert not list(home.partial.iterdir())


def test_use_renews(home: Home, make: Make) -> None:
    path = make("a", 3)
    make("b", 1)
    touch(path)
    assert [entry.key[0] for entry in entries(home)] == ["b", "a"]
    touch(home.root / "gone")


def test_the_least_recently_used_go_first(home: Home, make: Make) -> None:
    for letter, hours in zip("abcd", (4, 3, 2, 1), strict=True):
        size = make(letter, hours).stat().st_size
    result = prune(home, max_bytes=2 * size)
    assert kept(home) == "cd"
    assert (result.removed, result.removed_bytes, result.kept, result.kept_bytes) == (2, 2 * size, 2, 2 * size)
    assert prune(home, max_bytes=2 * size).removed == 0
    prune(home, max_bytes=2 * size - 1)
    assert kept(home) == "d"
    prune(home, max_bytes=0)
    assert kept(home) == ""


def test_what_was_not_used_for_long_goes(home: Home, make: Make) -> None:
    make("a", 50), make("b", 47), make("c", -5)
    video(home, "d", 49)
    prune(home, max_age=48 * HOUR)
    assert kept(home) == "bc", "a file from the future, after a change of the clock, is not old"
    assert not list(home.objects.glob("dd/*")), "a video goes with its record"


def test_damaged_files_go_first_when_asked_or_when_there_is_no_room(home: Home, make: Make) -> None:
    make("a", 5)
    set_aside(make("b", 1))
    assert prune(home, max_bytes=10**9, damaged=False).removed == 0
    assert prune(home, max_bytes=10**9).removed == 1
    assert kept(home) == "a"
    set_aside(make("c", 1))
    assert prune(home, max_bytes=make("b", 1).stat().st_size * 2, damaged=False).removed == 1
    assert kept(home) == "ab", "nothing whole goes for the sake of what is damaged"


def test_a_run_under_way_keeps_what_it_needs(home: Home, make: Make) -> None:
    make("a", 5), make("b", 4)
    run = running(home, "a")
    assert keys_in_use(home) == {"a" * 64}
    result = prune(home, max_bytes=0, max_age=0)
    assert kept(home) == "a"
    assert result.protected_bytes == result.kept_bytes > 0
    run.update_state(status="done")
    prune(home, max_bytes=0)
    assert kept(home) == ""


def test_a_run_that_died_protects_nothing(home: Home, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    make("a", 5)
    run = running(home, "a")
    monkeypatch.setattr("cache.runs.alive", lambda mark: False)
    assert not under_way(run)
    prune(home, max_bytes=0)
    assert kept(home) == ""


def test_a_run_of_another_machine_counts_while_it_writes(
    home: Home, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("a", 5)
    run = running(home, "a")
    run.append_event({"event": "step"})
    monkeypatch.setattr("cache.runs.alive", lambda mark: None)
    prune(home, max_bytes=0)
    assert kept(home) == "a"
    age(run.folder / "events.jsonl", 25)
    prune(home, max_bytes=0)
    assert kept(home) == ""


def test_what_is_computed_just_now_stays(home: Home, make: Make) -> None:
    make("a", 5), make("b", 4)
    with hold(home.lock_path("a" * 64)):
        prune(home, max_bytes=0)
        assert kept(home) == "a"
        assert home.lock_path("a" * 64).exists()
    prune(home, max_bytes=0)
    assert kept(home) == ""
    assert [path.stem for path in home.locks.iterdir()] == ["prune"], "locks that nobody needs go, too"


def test_runs_do_not_register_while_results_are_removed(home: Home) -> None:
    with registration(home), pytest.raises(Interrupted), registration(home, stop=lambda: True):
        raise AssertionError("both at once")


def test_a_run_without_stages_or_with_damage_does_not_stop_pruning(home: Home, make: Make) -> None:
    make("a", 5)
    run = create_run(home, {"prompt": "a"}, "a")
    (run.folder / "state.json").write_text("{")
    prune(home, max_bytes=0)
    assert kept(home) == ""


def test_verify(home: Home, make: Make) -> None:
    path = make("a", 1)
    make("b", 1)
    video(home, "c", 1)
    save_partial(home, "d" * 64, 1, 3, {"latent": Tensor("F32", (1,), bytes(4))})
    assert [verify(home, entry) for entry in entries(home)] == [None] * 4
    for broken in (path, home.object_path("c" * 64, ".mp4"), home.partial_path("d" * 64)):
        raw = bytearray(broken.read_bytes())
        raw[-1] ^= 1
        broken.write_bytes(raw)
    problems = {entry.key[0]: verify(home, entry) for entry in entries(home)}
    assert {key for key, problem in problems.items() if problem} == {"a", "c", "d"}
    assert "damaged" in str(problems["a"])
    assert kept(home) == "abccd", "the video and its record are two damaged files"
    assert sorted(entry.kind for entry in entries(home)) == ["artifact", *["damaged"] * 4]


def test_verify_of_what_vanished_is_no_damage(home: Home, make: Make) -> None:
    path = make("a", 1)
    (entry,) = entries(home)
    path.unlink()
    assert verify(home, entry) is None


def test_a_run_is_deleted_but_not_its_results(home: Home, make: Make) -> None:
    make("a", 1)
    run = running(home, "a")
    with pytest.raises(UsageError, match="under way"):
        delete_run(home, run)
    run.update_state(status="done")
    delete_run(home, open_run(home, run.id))
    assert list_runs(home) == []
    assert not list(home.tmp.iterdir())
    assert kept(home) == "a"


def test_a_damaged_run_can_be_deleted(home: Home) -> None:
    run = create_run(home, {"prompt": "a"}, "a")
    (run.folder / "state.json").write_text("{")
    delete_run(home, open_run(home, run.id))
    assert list_runs(home) == []


@pytest.mark.parametrize(
    ("text", "size"),
    [("50GB", 50 * 10**9), ("1.5 TB", 15 * 10**11), ("800m", 8 * 10**8), ("0", 0), ("12", 12), ("3kB", 3000)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, "--max-size") == size


@pytest.mark.parametrize("text", ["", "many", "-1GB", "1e9", "5 GiB", "1GBB", "nan"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--max-size"):
        parse_size(text, "--max-size")


def test_ages() -> None:
    assert parse_age("30d", "--older-than") == 30 * 24 * HOUR
    assert parse_age("1.5h", "--older-than") == 5400
    for text in ("30", "d", "30 years", "-1d", ""):
        with pytest.raises(UsageError, match="--older-than"):
            parse_age(text, "--older-than")


def test_the_limit_of_the_environment() -> None:
    assert limit_from({}) == limit_from({"LTX_RELAY_CACHE_SIZE": " "}) == DEFAULT_LIMIT
    assert limit_from({"LTX_RELAY_CACHE_SIZE": "2GB"}) == 2 * 10**9
    assert limit_from({"LTX_RELAY_CACHE_SIZE": "none"}) is None
    with pytest.raises(UsageError, match="LTX_RELAY_CACHE_SIZE"):
        limit_from({"LTX_RELAY_CACHE_SIZE": "lots"})


def test_after_an_ordinary_run_the_records_of_all_others_are_not_read(home, make, monkeypatch):
    """A run's end must not take longer with each run that was ever made."""
    make("a", 1)
    for _ in range(3):
        create_run(home, {"prompt": "a ball"}, "a ball")
    monkeypatch.setattr("cache.prune.list_runs", lambda home: pytest.fail("the runs were read"))
    assert prune(home, max_bytes=1 << 30, damaged=False).removed == 0
    assert kept(home) == "a"


def test_a_list_of_runs_reads_each_record_once(home, monkeypatch):
    made = [create_run(home, {"prompt": "a ball"}, "a ball").id for _ in range(4)]
    read, state = [], Run.state
    monkeypatch.setattr(Run, "state", lambda run: (read.append(run.id), state(run))[1])
    assert sorted(summary.id for summary in list_runs(home)) == sorted(made)
    assert sorted(read) == sorted(made)
