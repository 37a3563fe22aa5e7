"""Runs: their ids, what they say about themselves, and what damage to their files does (a sentence, nothing more)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache import runs
from cache.durable import publish_text
from cache.home import Home, open_home, sweep_home
from cache.processes import alive
from cache.records import LIMIT, read_json, sealed
from cache.runs import Run, create_run, list_runs, open_run, slugify
from cache.state import FORMAT, RunState, StageState
from weights.errors import ArtifactError, DoesNotFit, UsageError

RECIPE = {"prompt": "Ein roter Ball \u2014 \udcff", "cfg": 5.0, "seeds": [1, 2], "image": None}


@pytest.fixture
def run(home: Home) -> Run:
    return create_run(home, RECIPE, "A red ball")


def test_a_new_run_is_complete(home: Home, run: Run) -> None:
    assert run.id.split("-")[2:5] == ["a", "red", "ball"]
    assert runs._ID.fullmatch(run.id)
    assert run.recipe() == RECIPE
    state = run.state()
    assert (state.status, state.outputs, state.stages) == ("running", (), {})
    assert alive(state.owner) is True
    assert {path.name for path in run.folder.iterdir()} == {"recipe.json", "state.json", "logs", "jobs", "previews"}
    for path in (run.log_path("text"), run.job_path("text"), run.previews / "x.png", run.report_path):
        assert path.parent.is_dir()
        assert path.is_relative_to(run.folder)
    assert list(home.tmp.iterdir()) == []


def test_ids_sort_by_time_and_are_unique(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_795_000_000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    made = []
    for step in (0.0, 0.25, 0.25, 1.0, 86_400.0):
        now[0] += step
        made.append(create_run(home, RECIPE, "zebra" if step == 0.25 else "ant").id)
    assert made[0].startswith("20261118-")
    assert len(set(made)) == 5
    assert [made[0][:15], made[3][:15], made[4][:15]] == sorted({run_id[:15] for run_id in made})
    assert [summary.id for summary in list_runs(home)] == made[::-1], "the newest first, also within a second"
    assert open_run(home, "last").id == made[-1]


def test_a_name_that_is_taken_is_not_taken_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_795_000_000.0)
    tokens = iter(["aaaa", "aaaa", "bbbb"])
    real = runs.secrets.token_hex
    monkeypatch.setattr(runs.secrets, "token_hex", lambda size: next(tokens) if size == 2 else real(size))
    first, second = create_run(home, {"n": 1}, "x"), create_run(home, {"n": 2}, "x")
    assert (first.id[-4:], second.id[-4:]) == ("aaaa", "bbbb")
    assert (first.recipe(), second.recipe()) == ({"n": 1}, {"n": 2})


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("A red ball, bouncing!", "a-red-ball-bouncing"),
        ("  Über-Größe 4K ", "uber-groe-4k"),
        ("紅い球", ""),
        ("", ""),
        ("../../etc/passwd", "etc-passwd"),
        ("a" * 100, "a" * 40),
        ("one two three four five six seven eight nine", "one-two-three-four-five-six-seven-eight"),
        ("\udcff\x00", ""),
    ],
)
def test_slugs(home: Home, text: str, slug: str) -> None:
    assert slugify(text) == slug
    assert runs._ID.fullmatch(create_run(home, {}, text).id)


@given(st.text())
def test_a_slug_is_always_fit_for_an_id(text: str) -> None:
    slug = slugify(text)
    assert len(slug) <= 40
    assert not slug or all(word.isalnum() and word.isascii() and word == word.lower() for word in slug.split("-"))


def test_a_recipe_that_json_cannot_hold_is_refused(home: Home) -> None:
    with pytest.raises(UsageError, match="must be JSON"):
        create_run(home, {"cfg": float("nan")}, "x")
    assert list(home.runs.iterdir()) == []
    assert list(home.tmp.iterdir()) == []


def test_a_kill_anywhere_leaves_a_whole_run_or_none(home: Home, everywhere: Callable[..., int]) -> None:
    def check(where: str) -> None:
        for summary in list_runs(home):
            assert summary.status == "interrupted", (where, summary)
            assert open_run(home, summary.id).recipe() == RECIPE
        sweep_home(home)
        assert list(home.tmp.iterdir()) == [], where
        assert {path.name for path in home.runs.iterdir()} == {summary.id for summary in list_runs(home)}

    assert everywhere(lambda: create_run(home, RECIPE, "x"), check, lambda: None) >= 40


def test_runs_are_found_by_a_prefix(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no run yet"):
        open_run(home, "last")
    monkeypatch.setattr("time.time", lambda: 1_795_000_000.0)
    first = create_run(home, RECIPE, "ant")
    second = create_run(home, RECIPE, "bee")
    assert open_run(home, first.id).folder == first.folder
    assert open_run(home, first.id[:-5]) == first
    with pytest.raises(UsageError, match=r"beginning of 2 runs: .*ant.*, .*bee") as caught:
        open_run(home, first.id[:8])
    assert caught.value.exit_code == 2
    for unknown in ("", "nonsense", "..", "../runs", "/", second.id + "x", "\0", "*", "x" * 10_000):
        with pytest.raises(UsageError, match="There is no run"):
            open_run(home, unknown)


def test_other_things_in_the_folder_are_no_runs(home: Home, run: Run) -> None:
    (home.runs / ".DS_Store").touch()
    (home.runs / "notes").mkdir()
    (home.runs / "20261122-193000-file-0000").touch()
    assert [summary.id for summary in list_runs(home)] == [run.id]
    assert open_run(home, "last") == run


def test_the_state_of_stages(run: Run) -> None:
    run.update_stage("text", status="cached", keys=["k"], artifacts=["/objects/k"])
    run.update_stage("stage1", pid=7)
    run.update_stage("stage1", status="computed", seconds=1.5, bytes_read={"/w": 26_085_417_216}, mlx_peak=2**40)
    run.update_state(stages={"stage2": StageState(notes={"tiles": [1, 2]})})
    state = run.state()
    assert list(state.stages) == ["text", "stage1", "stage2"]
    assert state.stages["text"] == StageState("cached", ("k",), ("/objects/k",))
    assert state.stages["stage1"] == StageState(
        "computed", pid=7, seconds=1.5, mlx_peak=2**40, bytes_read={"/w": 26_085_417_216}
    )
    assert state.stages["stage2"].notes == {"tiles": [1, 2]}
    assert state.updated >= state.created
    with pytest.raises(TypeError):
        run.update_stage("text", colour="red")
    with pytest.raises(ValueError, match="no status of a stage"):
        run.update_stage("text", status="great")
    with pytest.raises(ValueError, match="no status of a run"):
        run.update_state(status="great")
    assert run.state() == state


def test_the_status_of_a_run(home: Home, run: Run) -> None:
    run.update_state(outputs=[Path("/a.mp4"), "/b.mp4"])
    assert run.state().outputs == ("/a.mp4", "/b.mp4")
    assert run.status() == "running"
    run.update_state(status="failed")
    assert (run.status(), run.state().owner) == ("failed", "")
    child = os.fork()
    if child == 0:
        run.update_state(status="running")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert run.state().status == "running"
    assert run.status() == "interrupted", "nobody is left who runs it"
    assert list_runs(home)[0].status == "interrupted"
    run.update_state(status="done")
    assert run.status() == "done"


def test_a_run_is_gone_on_with_by_one_process(run: Run) -> None:
    run.update_state(status="failed")
    reading, writing = os.pipe()
    claimed, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(writing)
            run.claim()
            os.write(told, b"1")
            os.read(reading, 1)  # until the parent closes its end
        finally:
            os._exit(0)
    os.close(reading)
    os.close(told)
    assert os.read(claimed, 1) == b"1"
    os.close(claimed)
    with pytest.raises(UsageError, match="still under way"):
        run.claim()
    os.close(writing)
    os.waitpid(child, 0)
    run.claim()
    assert alive(run.state().owner) is True


def test_nan_among_the_figures_does_not_damage_the_state(run: Run) -> None:
    run.update_stage("text", notes={"maxima": [float("nan"), float("inf")]})
    assert run.state().stages["text"].notes == {"maxima": ["nan", "inf"]}


def test_changes_from_threads_and_processes_are_all_kept(run: Run) -> None:
    def change(worker: int) -> None:
        for n in range(10):
            run.update_stage(f"{worker} {n}", pid=n)

    children = []
    for worker in range(3):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                change(worker)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    threads = [threading.Thread(target=change, args=(worker,)) for worker in (3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert len(run.state().stages) == 50


def test_a_kill_anywhere_leaves_the_old_or_the_new_state(run: Run, everywhere: Callable[..., int]) -> None:
    def check(where: str) -> None:
        assert run.state().outputs in (("old",), ("new",)), where

    kills = everywhere(lambda: run.update_state(outputs=["new"]), check, lambda: run.update_state(outputs=["old"]))
    assert kills >= 25


def test_events_come_back_in_order(run: Run) -> None:
    assert list(run.read_events()) == []
    events = [{"event": "step", "index": n, "words": "a\nb é"} for n in range(20)]
    for event in events:
        run.append_event(event)
    assert list(run.read_events()) == events
    run.append_event({"maximum": float("inf"), "path": Path("/x"), "nested": [{"nan": float("nan")}]})
    line = (run.folder / "events.jsonl").read_text().splitlines()[-1]
    assert json.loads(line, parse_constant=pytest.fail) == {
        "maximum": "inf",
        "path": "/x",
        "nested": [{"nan": "nan"}],
    }


def test_events_of_several_processes_never_mix(run: Run) -> None:
    children = []
    for worker in range(4):
        child = os.fork()
        if child == 0:
            for n in range(100):
                run.append_event({"worker": worker, "n": n, "filler": "x" * (n * 37)})
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    events = list(run.read_events())
    assert len(events) == 400
    assert all([event["n"] for event in events if event["worker"] == worker] == list(range(100)) for worker in range(4))


def test_an_event_is_one_write(run: Run, watch: Callable[..., Any]) -> None:
    run.append_event({"event": "first"})
    calls = watch()
    run.append_event({"event": "step", "filler": "x" * 10_000})
    assert [name for name, _ in calls.made] == ["open", "write", "close"]
    assert calls.made[0][1][1] & os.O_APPEND


def test_a_torn_line_costs_only_itself(run: Run) -> None:
    for n in range(3):
        run.append_event({"n": n})
    path = run.folder / "events.jsonl"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        before = list(run.read_events())
        assert before == [{"n": n} for n in range(len(before))]
        run.append_event({"n": "next"})
        assert list(run.read_events()) == [*before, {"n": "next"}], length


def test_nonsense_among_the_events_is_left_out(run: Run) -> None:
    lines = [b'{"n": 1}', b"", b"nonsense", b"[1]", b"\xff\xfe", b"[" * 200_000, b'{"x": "' + b"y" * 3_000_000 + b'"}']
    (run.folder / "events.jsonl").write_bytes(b"\n".join([*lines, b"1" * 5000, b'{"n": 2}']))
    assert list(run.read_events()) == [{"n": 1}, {"n": 2}]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_can_be_events_recipe_and_state(run: Run, content: bytes) -> None:
    (run.folder / "events.jsonl").write_bytes(content)
    list(run.read_events())
    for name, read in (("recipe.json", run.recipe), ("state.json", run.state)):
        path = run.folder / name
        good = path.read_bytes()
        for raw in (content, good[: len(good) // 2] + content + good[len(good) // 2 :]):
            path.write_bytes(raw)
            with contextlib.suppress(ArtifactError, UsageError):
                read()
        path.write_bytes(good)


def test_no_flipped_bit_makes_another_recipe_or_state(run: Run) -> None:
    run.update_stage("text", status="computed", keys=("0" * 64,), notes={"tries": 1})
    for name, read in (("recipe.json", run.recipe), ("state.json", run.state)):
        path, whole = run.folder / name, read()
        good = path.read_bytes()
        for at in range(len(good)):
            path.write_bytes(good[:at] + bytes([good[at] ^ 1 << at % 7]) + good[at + 1 :])
            with contextlib.suppress(ArtifactError, UsageError):
                assert read() == whole, at
        path.write_bytes(good)


DAMAGE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_state_with_a_wrong_field_is_damaged_or_equal_in_kind(run: Run, data: st.DataObject) -> None:
    whole = RunState("done", 1.0, 2.0, "", ("/a",), {"text": StageState("computed", pid=3)}).to_json()
    target = data.draw(st.sampled_from([whole, whole["stages"]["text"]]))
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(DAMAGE)
    (run.folder / "state.json").write_text(json.dumps(sealed(whole)))
    try:
        state = run.state()
    except (ArtifactError, UsageError):
        return
    assert isinstance(state, RunState)
    run.update_state(status="done")
    assert run.state().stages == state.stages


def test_damaged_runs_are_listed_and_say_so(home: Home, run: Run) -> None:
    path = run.folder / "state.json"
    path.write_text("{")
    [summary] = list_runs(home)
    assert (summary.status, summary.id) == ("damaged", run.id)
    assert str(path) in summary.problem
    assert open_run(home, run.id).recipe() == RECIPE, "the recipe alone rebuilds the run"
    path.unlink()
    assert list_runs(home)[0].status == "damaged"
    with pytest.raises(ArtifactError, match="no such file"):
        run.state()
    (run.folder / "recipe.json").write_text("[]")
    with pytest.raises(ArtifactError, match="no JSON object"):
        run.recipe()


def test_a_newer_run_is_refused(home: Home, run: Run) -> None:
    state = json.loads((run.folder / "state.json").read_text())
    (run.folder / "state.json").write_text(json.dumps({"format": FORMAT + 1, "shape": "unknown"}))
    with pytest.raises(UsageError, match="newer version"):
        open_run(home, run.id)
    assert list_runs(home)[0].status == "newer"
    with pytest.raises(UsageError, match="newer version"):
        run.update_state(status="done")
    (run.folder / "state.json").write_text(json.dumps(state))
    assert open_run(home, "last") == run


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "damaged"),
        (b"\xff", "damaged"),
        (b'{"x": NaN}', "NaN is no JSON number"),
        (b'{"x": -Infinity}', "no JSON number"),
        (b'{"x": 1e999}', "too large"),
        (b'{"x": ' + b"9" * 5000 + b"}", "damaged"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'"text"', "no JSON object"),
        (b" " * (LIMIT + 1), "larger than"),
    ],
)
def test_json_that_cannot_be_trusted(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "recipe.json"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=words):
        read_json(path, what="recipe")
    with pytest.raises(UsageError, match="The recipe"):
        read_json(path, what="recipe", error=UsageError)


def test_a_ten_gigabyte_recipe_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    with open(path, "wb") as file:
        file.truncate(10_000_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError, match="larger than"):
            read_json(path, what="recipe")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_what_is_no_file_is_no_json(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "absent", Path("nul\0l"), Path("/dev/zero")):
        with pytest.raises(ArtifactError):
            read_json(path, what="recipe")


def test_a_full_disk(small_disk: Path) -> None:
    home = open_home(small_disk / "home")
    run = create_run(home, RECIPE, "x")
    with pytest.raises(DoesNotFit):
        create_run(home, {"prompt": "x" * 2_000_000}, "x")
    assert list(home.tmp.iterdir()) == []
    assert len(list_runs(home)) == 1
    (small_disk / "filler").write_bytes(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize))
    before = run.state()
    with pytest.raises(DoesNotFit):
        run.update_state(outputs=["/x" * 5000])
    with pytest.raises(DoesNotFit):
        run.append_event({"filler": "x" * 100_000})
    assert run.state() == before
    (small_disk / "filler").unlink()
    run.append_event({"event": "last"})
    assert list(run.read_events())[-1] == {"event": "last"}


def test_a_run_of_another_machine_is_interrupted_when_it_was_silent_for_a_day(home: Home) -> None:
    """A Mac is another machine too, once its host name has changed with the network."""
    run = create_run(home, {"prompt": "a"}, "a")
    run.append_event({"event": "step"})
    publish_text(run.folder / "state.json", runs._json({**run.state().to_json(), "owner": "00000000-1-1"}))
    assert run.status() == "running"
    (summary,) = list_runs(home)
    assert summary.status == "running"
    long_ago = time.time() - 25 * 3600
    os.utime(run.folder / "events.jsonl", (long_ago, long_ago))
    assert run.status() == "interrupted"
    (summary,) = list_runs(home)
    assert summary.status == "interrupted"
