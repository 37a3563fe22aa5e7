"""Reports: what the events say, drawn where it belongs, and nothing from outside that a browser would obey."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.report.facts import MAX_POINTS, Facts, facts_of, thinned
from orchestrator.report.markup import ticks
from orchestrator.report.page import Pictures, page
from tests.orchestrator.report_events import GB, STAGES, events, record, started, worker

VOID = {"meta", "br", "img"}


class Page(HTMLParser):
    """A page taken apart; fails where a tag is not closed in its place."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, str] = {}
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        elif tag == "br":
            self.handle_data("\n")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in {*self.open, ""}:
            self.words[tag] = self.words.get(tag, "") + data


def facts(**changes: Any) -> Facts:
    return facts_of(record(**changes), events())


def harmless(html: str) -> Page:
    parsed = Page(html)
    for tag, attributes in parsed.tags:
        assert tag not in ("script", "iframe", "object", "embed", "link", "form", "base")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "action", "data", "xlink:href"):
            assert (attributes.get(name) or "data:image/").startswith(("data:image/", "file:///")), attributes
    assert "url(" not in html
    assert "@import" not in html
    return parsed


def test_the_clock_and_the_workers() -> None:
    found = facts()
    assert [worker.stage for worker in found.workers] == [*list(STAGES)[:-1], "decode", "decode"]
    assert [worker.how for worker in found.workers] == ["done"] * 4 + ["retried", "done"]
    for worker_, (seconds, *_) in zip(found.workers, STAGES.values(), strict=False):
        if worker_.how == "done":
            assert worker_.ended - worker_.began == pytest.approx(seconds)
    assert all(one.ended <= other.began for one, other in zip(found.workers, found.workers[1:], strict=False))
    assert found.largest is not None
    assert found.largest.name == "stage2"
    assert [kind for kind, _, _ in found.remarks] == ["retry"]


def test_a_run_that_was_resumed_stands_still_in_between() -> None:
    first = [started(1000.0), *worker("text", 1001.0, 0.5)]
    error = {"event": "error", "time": 1030.0, "exit_code": 130, "message": "Stopped.", "advice": ""}
    second = [started(90_000.0), *worker("text", 90_001.0), {"event": "stage_done", "time": 90_049.0, "stage": "text"}]
    found = facts_of(record("done"), [*first, error, *second])
    assert found.sessions == (0.0, 30.0)
    assert found.seconds == pytest.approx(79.0)
    assert [w.how for w in found.workers] == ["failed", "done"]
    assert found.error is None, "it went on"
    assert "resumed 1x" in page(found)
    stopped = facts_of(record("interrupted"), [*first, error])
    html = page(stopped)
    assert "exit code 130" in html
    assert "ltx-relay resume 20261126-090000-a-red-fox-0000" in html


def test_the_page_shows_what_was_made_and_how() -> None:
    html = page(facts(), Pictures({"/home/someone/fox.mp4": [b"\xff\xd8jpeg"] * 8}))
    parsed = harmless(html)
    words = parsed.words[""]
    assert parsed.words["h1"] == "A red fox trots through fresh snow, low sun, its breath visible"
    for said in (
        "done", "1408\u00d7960", "193 frames at 48 fps", "fox.mp4", "23.1 GB", "24.9 GB", "97.7 GB", "+3%", "15 steps",
        "0.8", "bfloat16", "Apple M3 Max", "31 of 48 blocks", "Tried again", "ran out of memory", "--recipe", "0" * 63,
    ):  # fmt: skip
        assert said in words, said
    assert len([tag for tag, _ in parsed.tags if tag == "img"]) == 8
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_a_video_from_a_video_names_its_own_command() -> None:
    recipe = {
        "kind": "upscale-temporal", "title": "upscale-temporal clip.mp4", "video": "/home/someone/a clip.mp4",
        "weights": {"model": "/weights/ltx-2", "model_version": None}, "dtype": "auto", "codec": "prores",
        "sound": False, "chunk": 97, "tiles": [0, 64, 0, 24],
    }  # fmt: skip
    told = events()
    del told[0]["monolith"]
    html = page(facts_of(record(recipe=recipe), told))
    chart = html[html.index('class="yaxis"') : html.index('class="legend"')]
    assert chart.index('class="plot"') < chart.index("</div><span></span><span></span><div") < chart.index('"axis"')
    parsed = harmless(html)
    assert "one process" not in parsed.words[""].lower().replace("one process after the other", "")
    assert parsed.words["h1"] == "upscale-temporal clip.mp4"
    words = parsed.words[""]
    assert "None" not in words
    assert "generate" not in words
    command = "ltx-relay upscale-temporal '/home/someone/a clip.mp4' --model /weights/ltx-2"
    assert f"{command} --codec prores --chunk 97 --no-sound" in words


def test_an_exceeded_prediction_is_seen() -> None:
    raw = record()
    raw["stages"][1]["notes"]["memory"]["measured"] = 30 * GB
    assert 'class="over">-25%' in page(facts_of(raw, events()))


HOSTILE = [
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "' onload='x", "</title><script>x</script>",
    "a\u202eevil\u202c", "\x1b[31m\x00\x07", "]]><!--", "&lt;&#60;", "javascript:alert(1)", "x" * 20_000, "\ud800",
    "\u2028",
    "{{7*7}} ${x} %s", "\u0639\u0631\u0628\u064a \u05e2\u05d1", "\U0001f468\u200d\U0001f469\u200d\U0001f467",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_what_comes_from_outside_is_only_shown(text: str) -> None:
    """In every place where a prompt, a path, a message or a name may be."""
    raw = record("failed", folder=f"/home/{text}", outputs=[f"/{text}"], run=text)
    raw["recipe"] |= {name: text for name in ("prompt", "negative_prompt", "preset", "codec", "noise", "fps")}
    raw["recipe"] |= {"weights": {"model": text}, "loras": [[text, 1.0, text]], "seeds": [text], "tiles": [text] * 4}
    raw["stages"][0] |= {"name": text, "keys": (text,), "log": text}
    raw["stages"][0]["notes"]["memory"]["holding"] = text
    told = events()
    told[0] |= {"versions": {text: text}, "machine": {"device": text}, "budget": {"bytes": 9, "source": text}}
    told[0]["monolith"] = {"parts": [{"stage": text, "role": text, "bytes": 9}]}
    for event in told[1:]:
        event |= {name: text for name in ("message", "stage", "fps") if name in event}
        if event["event"] == "video_done":
            event |= {"path": f"/{text}", "role": text}
    error = {"event": "error", "time": 1795664000.0, "message": text, "advice": text, "resume": text, "exit_code": text}
    html = page(facts_of(raw, [*told, error]), Pictures(previews=((text, b"\x89PNG"),)))
    parsed = harmless(html)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x09\x0b-\x1f\x7f\ud800-\udfff\u2028]", html)
    if text.isprintable() and len(text) < 100:
        assert parsed.words["h1"] == text


@given(st.text(max_size=200), st.text(max_size=50))
def test_any_text(prompt: str, path: str) -> None:
    raw = record(folder=f"/{path}")
    raw["recipe"]["prompt"] = prompt
    harmless(page(facts_of(raw, [{"event": "warning", "time": 1.0, "message": path, "stage": prompt}])))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def odd(event: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The event with some fields left out, and some that are anything."""
    fields = {name: JUNK | st.just(value) for name, value in event.items() if name != "event"}
    return st.fixed_dictionaries({"event": st.just(event["event"])}, optional=fields)


@given(st.lists(st.sampled_from(events()).flatmap(odd), max_size=12))
def test_odd_events_never_break_a_report(told: list[dict[str, Any]]) -> None:
    harmless(page(facts_of(record(), told)))


@given(st.floats(1e-3, 1e15), st.sampled_from([10.0, 1024.0]))
def test_ticks_are_few_and_within(highest: float, base: float) -> None:
    found = ticks(highest, 5, base)
    assert found[0] == 0
    assert found[-1] <= highest
    assert 1 <= len(found) <= 12


def test_long_runs_stay_one_page() -> None:
    points = [(float(at), at % 977, "stage1") for at in range(100_000)]
    found = thinned(points)
    assert len(found) <= MAX_POINTS
    assert max(size for _, size, _ in found) == 976
