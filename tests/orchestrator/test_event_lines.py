"""Whatever bytes come, events of the protocol come out, or a warning."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.event_lines import EventLines, parse_event
from workers.protocol import EVENTS

STEP = {"event": "step", "time": 1.0, "key": "k", "index": 1, "total": 2, "seconds": 0.5}


def line(**fields: Any) -> bytes:
    return json.dumps({**STEP, **fields}).encode() + b"\n"


def test_pieces_make_lines() -> None:
    lines, data = EventLines(), line(index=1) + line(index=2)
    events = [event for byte in data for event in lines.feed(bytes([byte]))]
    assert [event["index"] for event in events] == [1, 2]
    assert lines.finish() == []


@pytest.mark.parametrize(
    "damaged",
    [
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"step"',
        b"{}",
        b'{"event": 5}',
        b'{"event": "unknown"}',
        b'{"event": "step", "key": "k", "index": 1, "total": 2}',
        line(seconds="1"),
        line(seconds=float("nan")),
        line(seconds=float("inf")),
        line(seconds=True),
        line(index=1.5),
        line(index=None),
        line(key=5),
        b"[" * 100_000,
        b'{"event": "step", "index": ' + b"9" * 10_000 + b"}",
        b'{"event": "done", "seconds": 1, "mlx_peak": 0, "process_peak": 0, "bytes_read": [], "maxima": {}}',
    ],
    ids=lambda damaged: repr(damaged[:60]),
)
def test_a_damaged_line_is_a_warning_and_the_next_is_read(damaged: bytes) -> None:
    events = EventLines().feed(damaged.strip() + b"\n" + line())
    assert [event["event"] for event in events] == ["warning", "step"]


@pytest.mark.parametrize("piece", [1 << 12, 1 << 16, 1 << 30])
def test_a_huge_line_is_dropped_in_bounded_memory(piece: int) -> None:
    lines = EventLines(limit=10_000)
    data = line() + b"x" * 300_000 + b"\n" + line(index=2)
    events = []
    for start in range(0, len(data), piece):
        events += lines.feed(data[start : start + piece])
        assert len(lines._rest) <= 10_000
    assert [event["event"] for event in events] == ["step", "warning", "step"]


def test_the_end_of_a_huge_line_is_not_taken_for_an_event() -> None:
    lines = EventLines(limit=1000)
    events = lines.feed(b"x" * 2000) + lines.feed(line(index=1)) + lines.feed(line(index=2))
    assert [(event["event"], event.get("index")) for event in events] == [("warning", None), ("step", 2)]


def test_a_line_at_the_limit_is_read() -> None:
    whole = line()
    assert [event["event"] for event in EventLines(limit=len(whole) - 1).feed(whole)] == ["step"]
    assert [event["event"] for event in EventLines(limit=len(whole) - 2).feed(whole)] == ["warning"]


def test_a_line_that_was_cut_off_is_a_warning() -> None:
    lines = EventLines()
    assert lines.feed(line()[:-5]) == []
    assert [event["event"] for event in lines.finish()] == ["warning"]
    assert lines.finish() == []


def test_garbage_does_not_flood() -> None:
    lines = EventLines()
    events = lines.feed(b"x\n" * 1000) + lines.finish()
    assert len(events) == 6
    assert "995" in events[-1]["message"]


def test_empty_lines_are_nothing() -> None:
    assert EventLines().feed(b"\n \n\r\n") == []


def test_numbers_that_json_does_not_have_become_null() -> None:
    event = parse_event(b'{"event": "heartbeat", "time": NaN, "extra": Infinity}')
    assert event is not None
    assert event["extra"] is None
    assert event["time"] > 1e9


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([line(), b"\n", b"{", b'{"event":"done"}'])), max_size=9)
)
def test_any_bytes(pieces: list[bytes]) -> None:
    lines = EventLines(limit=100)
    for event in [event for piece in pieces for event in lines.feed(piece)] + lines.finish():
        assert event["event"] in EVENTS
        assert set(EVENTS[event["event"]]) <= set(event)
