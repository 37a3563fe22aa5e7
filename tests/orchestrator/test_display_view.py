"""Events folded into views, and the figures that are drawn from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.display.plain import stage_words
from orchestrator.display.stages import ASCII, UNICODE, stage_line, summary, title_lines
from orchestrator.display.view import RunView, StageView, fold, remark
from orchestrator.display.words import duration, file_size, frame_rate, memory_size, pace, printable, video_words

RECORDED = [json.loads(line) for line in (Path(__file__).parent / "data/max-run.jsonl").read_text().splitlines()]


def folded(events: list[dict]) -> RunView:
    view = RunView()
    for event in events:
        view = fold(view, event)
    return view


def stage(view: RunView, name: str) -> StageView:
    return next(stage for stage in view.stages if stage.name == name)


def test_a_whole_run_ends_with_every_stage_done_and_its_path() -> None:
    view = folded(RECORDED)
    assert [(s.name, s.status) for s in view.stages] == [
        (name, "done") for name in ("text", "stage1", "stage2", "temporal", "decode")
    ]
    assert view.paths == ("/home/ada/a-red-ball-bouncing-on-green-grass-0.mp4",)
    assert view.largest is not None
    assert view.largest.name == "stage2"
    assert summary(view) == "Done in 8m 06s; at most 21.9 GB of memory, in stage 2."


def test_time_left_follows_the_median_pace_and_the_clock() -> None:
    view = StageView("stage1", status="running")
    for index, seconds in enumerate((20.0, 10.0, 10.0), start=1):
        event = {"event": "step", "stage": "stage1", "index": index, "total": 10, "seconds": seconds, "time": 100.0}
        view = fold(RunView(stages=(view,)), event).stages[0]
    assert view.pace == 10.0
    assert view.time_left(now=100.0) == 70.0
    assert view.time_left(now=104.0) == 66.0
    assert view.time_left(now=99.0) == 70.0, "a clock that was set back adds nothing"
    assert view.fraction == pytest.approx(0.3)


def test_several_videos_count_together() -> None:
    started = {"event": "stage_started", "stage": "stage1", "items": 4, "time": 0.0}
    item = {"event": "item", "stage": "stage1", "index": 2, "total": 4, "time": 1.0}
    step = {"event": "step", "stage": "stage1", "index": 5, "total": 10, "seconds": 1.0, "time": 2.0}
    view = folded([started, item, step]).stages[0]
    assert view.fraction == pytest.approx((1 + 0.5) / 4)
    assert view.time_left(2.0) == 25.0


def test_a_retry_begins_the_stage_anew() -> None:
    first = [event for event in RECORDED if event.get("stage") == "text"][:20]
    again = {"event": "stage_started", "stage": "text", "pid": 9, "items": 1, "time": first[-1]["time"] + 1}
    view = folded([*first, again]).stages[0]
    assert (view.status, view.pid, view.index, view.recent, view.memory) == ("running", 9, 0, (), 0)


def test_base_videos_are_told_but_are_not_the_result() -> None:
    base = {"event": "video_done", "role": "base", "path": "/a/x.base.mp4"}
    view = folded([base, {"event": "video_done", "role": "video", "path": "/a/x.mp4"}])
    assert view.paths == ("/a/x.mp4",)
    assert remark(base) == "base video: /a/x.base.mp4"


def test_weights_that_stream_between_steps_do_not_hide_the_bar() -> None:
    step = {"event": "step", "stage": "stage1", "index": 1, "total": 3, "seconds": 1.0, "time": 1.0}
    view = folded([step, {"event": "loading", "stage": "stage1", "bytes": 5, "time": 2.0}])
    assert stage(view, "stage1").status == "running"


def test_cached_stages_and_a_video_that_is_there_already() -> None:
    started = {"event": "run_started", "stages": [{"name": "text", "cached": True, "items": 1}]}
    done = {"event": "video_done", "path": "/a.mp4", "cached": True}
    view = folded([started, done, {"event": "run_done", "seconds": 0.1}])
    assert view.stages[0].status == "cached"
    assert summary(view) == "Nothing to do: the video is there already."


def test_an_error_marks_the_stage_that_was_under_way() -> None:
    begun = RECORDED[: [e["event"] for e in RECORDED].index("stage_done") - 1]
    view = folded([*begun, {"event": "error", "exit_code": 7, "message": "no"}])
    assert [s.status for s in view.stages] == ["failed", "pending", "pending", "pending", "pending"]
    assert "stopped at layer 48 of 48" in stage_line(view.stages[0], 0.0, 80, UNICODE).plain


@pytest.mark.parametrize("glyphs", [ASCII, UNICODE])
@pytest.mark.parametrize("width", [12, 30, 50, 60, 79, 119])
def test_no_line_is_wider_than_asked_from_50_columns_on_and_the_name_is_always_there(
    width: int, glyphs: object
) -> None:
    view = RunView()
    for event in RECORDED:
        view = fold(view, event)
        for each in view.stages:
            line = stage_line(each, event["time"] + 0.3, width, glyphs)  # type: ignore[arg-type]
            assert each.name.replace("stage", "stage ") in line.plain
            assert width < 50 or line.cell_len <= width, line.plain
            assert "\n" not in line.plain
        assert glyphs is UNICODE or all(text.plain.isascii() for text in title_lines(view, ASCII, width))


def test_columns_stand_still_while_a_stage_runs() -> None:
    view, ends = RunView(), set()
    for event in RECORDED:
        view = fold(view, event)
        if event["event"] == "step" and event["stage"] == "stage1" and 2 < event["index"] < 15:
            ends.add(stage_line(stage(view, "stage1"), event["time"], 100, UNICODE).plain.index("/15"))
    assert len(ends) == 1


VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
)
KINDS = sorted(
    {event["event"] for event in RECORDED} | {"stage_waiting", "stage_cached", "retry", "error", "sample", "?"}
)


@given(
    st.lists(st.dictionaries(st.sampled_from(sorted({k for e in RECORDED for k in e})), VALUES), max_size=6), st.data()
)
def test_no_event_however_broken_ends_a_display(events: list[dict], data: st.DataObject) -> None:
    view = folded(RECORDED[:5])
    for event in events:
        event["event"], event["stage"] = (
            data.draw(st.sampled_from(KINDS)),
            data.draw(st.sampled_from(["text", "odd", None])),
        )
        view = fold(view, event)
        remark(event)
        for each in view.stages:
            stage_line(each, 1.0, 80, UNICODE)
            stage_words(each, str(event["event"]), 1.0)
        title_lines(view, UNICODE, 80)
        summary(view)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0.0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1m 00s"),
        (3599.6, "1h 00m"),
        (7384, "2h 03m"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_sizes_are_decimal_on_disk_and_binary_in_memory() -> None:
    assert file_size(26_085_417_216) == "26.1 GB"
    assert memory_size(24 << 30) == "24.0 GB"
    assert memory_size((1 << 30) - 1) == "1.0 GB"
    assert [file_size(n) for n in (0, 999, 1000, 999_999, 250_000_000)] == [
        "0 bytes",
        "999 bytes",
        "1 kB",
        "1 MB",
        "250 MB",
    ]


def test_paces_keep_the_digits_that_count() -> None:
    assert [pace(s) for s in (0.0042, 0.31, 12.34, 125.0)] == ["0.004 s", "0.31 s", "12.3 s", "2m 05s"]


def test_rates_and_videos() -> None:
    assert [frame_rate(r) for r in ("48", "48000/1001", 24.0, "?")] == ["48", "47.952", "24", "?"]
    assert video_words(1408, 960, 193, "48") == "1408x960, 193 frames at 48 fps (4.0 s)"


def test_control_characters_never_reach_the_terminal() -> None:
    assert printable("a\x1b[31m b\n\tc\x00\u202e") == "a?[31m b c??"
    assert printable("日本語 émigré 🦊") == "日本語 émigré 🦊"


def test_a_run_that_stopped_early_says_where_and_how_to_go_on() -> None:
    stopped = {"event": "stopped", "stage": "stage1", "message": "stopped here, as asked; to go on: ltx-relay promote"}
    assert remark(stopped) == stopped["message"]
    lora = {"path": "/a/style.safetensors", "strength": 0.8, "summary": "288 layers changed, rank 16"}
    loaded = {"event": "loaded", "stage": "stage1", "loras": [lora, {**lora, "strength": 1.0}, 7]}
    assert remark(loaded) == (
        "LoRA style.safetensors x0.8: 288 layers changed, rank 16; "
        "LoRA style.safetensors x1: 288 layers changed, rank 16"
    )
    assert remark({**loaded, "loras": []}) == remark({**loaded, "loras": 3}) == ""
    assert remark({"event": "contact_sheet", "path": "/r/stage1.png"}) == "contact sheet: /r/stage1.png"
    view = folded([{"event": "run_started", "stages": []}, stopped, {"event": "run_done", "seconds": 3.0}])
    assert summary(view) == "Done in 3.0 s.", "not: 0 videos"
