"""What the displays write, on a terminal that is emulated here, into pipes and to programs."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.text import Text

from orchestrator.display import open_display
from orchestrator.display.keys import silence
from orchestrator.display.live import LiveDisplay
from orchestrator.display.machine import JsonDisplay, QuietDisplay, json_line
from orchestrator.display.plain import PlainDisplay
from orchestrator.display.screen import Screen
from orchestrator.display.streams import Stream, can_move_cursor

ROOT = Path(__file__).parents[2]
RECORDED = [json.loads(line) for line in (Path(__file__).parent / "data/max-run.jsonl").read_text().splitlines()]
VIDEO = "/home/ada/a-red-ball-bouncing-on-green-grass-0.mp4"


class Terminal(io.StringIO):
    """As much of a terminal as the displays use: rows without end, so that nothing scrolls away."""

    encoding = "utf-8"  # type: ignore[assignment]

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        super().__init__()
        self.columns, self.rows = columns, rows
        self.lines: list[str] = [""]
        self.row = self.column = 0
        self.writes = 0

    def isatty(self) -> bool:
        return True

    def size(self) -> tuple[int, int]:
        return self.columns, self.rows

    def write(self, text: str) -> int:
        self.writes += 1
        for part in re.findall(r"\x1b\[\??[0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
            if part == "\r":
                self.column = 0
            elif part == "\n":
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif part.startswith("\x1b["):
                self.control(part[2:-1], part[-1])
            else:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + part + line[self.column + len(part) :]
                self.column += len(part)
                assert self.column < self.columns, f"would wrap: {self.lines[self.row]!r}"
        return len(text)

    def control(self, argument: str, letter: str) -> None:
        if letter == "A":
            assert int(argument) <= self.row, "moved above the first line"
            self.row -= int(argument)
        elif letter == "K":
            self.lines[self.row] = self.lines[self.row][: self.column]
        elif letter == "J":
            self.lines[self.row] = self.lines[self.row][: self.column]
            del self.lines[self.row + 1 :]
        else:
            assert letter in "mhl", f"unexpected control {argument}{letter}"

    @property
    def shown(self) -> list[str]:
        return [line.rstrip() for line in self.lines]


def live(
    terminal: Terminal, stdout: io.StringIO | None = None, clock: Callable[[], float] | None = None
) -> LiveDisplay:
    return LiveDisplay(terminal, stdout, size=terminal.size, clock=clock or (lambda: 0.0), tick=None)


def test_a_recorded_run_on_a_terminal() -> None:
    terminal, stdout, now = Terminal(), io.StringIO(), [0.0]
    display = live(terminal, stdout, lambda: now[0])
    for event in RECORDED:
        now[0] = event["time"]
        display.event(event)
        assert sum("stage 1" in line and "Stage" not in line for line in terminal.shown) == 1, terminal.shown
    display.close()
    display.close()
    assert terminal.shown == [
        "  A red ball bouncing on green grass, slow motion, golden hour",
        "  1408x960, 193 frames at 48 fps (4.0 s) · max · seed 0",
        "",
        "  Stage 1 runs the distilled model (no dev checkpoint was found): 8 steps",
        "  without guidance.",
        "  ✓ text          13 s   peak   2.4 GB",
        "  ✓ stage 1     3m 13s   peak  21.3 GB",
        "  ✓ stage 2     3m 12s   peak  21.9 GB",
        "  ✓ temporal      13 s   peak   3.1 GB",
        "  ✓ decode        52 s   peak   6.2 GB",
        "",
        "  Done in 8m 06s; at most 21.9 GB of memory, in stage 2.",
        "",
    ]
    assert stdout.getvalue() == VIDEO + "\n"


def test_the_running_stage_shows_bar_step_pace_time_left_and_memory() -> None:
    terminal, now = Terminal(), [0.0]
    display = live(terminal, clock=lambda: now[0])
    for event in RECORDED:
        now[0] = event["time"]
        display.event(event)
        if event["event"] == "step" and event["stage"] == "stage1" and event["index"] == 9:
            break
    assert terminal.shown[6:] == [
        "  ● stage 1   ━━━━━━━━━━━━─────────  9/15   12.2 s/step   1m 13s left   19.2 GB",
        "  ○ stage 2",
        "  ○ temporal",
        "  ○ decode",
        "",
    ]


def test_nothing_is_written_when_nothing_changed() -> None:
    terminal = Terminal()
    display = live(terminal)
    for event in RECORDED[:4]:
        display.event(event)
    display.event({"event": "heartbeat", "stage": "text"})
    writes = terminal.writes
    display.event({"event": "heartbeat", "stage": "text"})
    assert terminal.writes == writes


def test_a_failed_run_keeps_what_was_and_says_where_it_stopped() -> None:
    terminal, stdout = Terminal(), io.StringIO()
    display = live(terminal, stdout)
    at = next(i for i, e in enumerate(RECORDED) if e["event"] == "step" and e["stage"] == "stage2")
    for event in RECORDED[: at + 1]:
        display.event(event)
    display.event({"event": "error", "exit_code": 7, "message": "It died.", "resume": "ltx-relay resume x"})
    display.close()
    assert terminal.shown[-4:] == [
        "  ✓ text          13 s   peak   2.4 GB",
        "  ✓ stage 1     3m 13s   peak  21.3 GB",
        "  ✗ stage 2   stopped at step 1 of 3",
        "",
    ]
    assert stdout.getvalue() == ""


def test_remarks_stand_above_the_stages_wrapped_and_whole() -> None:
    terminal = Terminal(columns=60)
    display = live(terminal)
    display.event(RECORDED[0])
    message = "The worker ran out of memory; it goes on with /a/rather-long-path-that-is-not-broken/tiles.json"
    display.event({"event": "retry", "stage": "text", "message": message})
    assert terminal.shown[3:6] == [
        "  The worker ran out of memory; it goes on with",
        "  /a/rather-long-path-that-is-not-broken/tiles.json",
        "  ○ text",
    ]


def test_the_command_that_goes_on_has_a_line_of_its_own_where_both_have_no_room() -> None:
    terminal = Terminal(columns=60)
    display = live(terminal)
    display.event(RECORDED[0])
    command = "ltx-relay promote 20261126-a-yellow-star-cf1b 0 1 2 3"
    message = f"stopped here, as asked; to go on: {command}"
    display.event({"event": "stopped", "stage": "stage1", "message": message})
    assert terminal.shown[3:5] == ["  stopped here, as asked; to go on:", f"  {command}"]


def test_a_low_window_shows_the_last_lines_only() -> None:
    terminal = Terminal(rows=5)
    display = live(terminal)
    display.event(RECORDED[0])
    assert terminal.shown[3:] == ["  ○ stage 2", "  ○ temporal", "  ○ decode", ""]


def test_after_the_window_got_narrower_the_cursor_goes_up_by_the_rows_that_the_lines_take_now() -> None:
    size, written = [(80, 24)], io.StringIO()
    screen = Screen(written, lambda: size[0])
    screen.draw([Text("x" * 70), Text("short")])
    size[0] = (30, 24)
    written.truncate(0)
    screen.draw([Text("y" * 70), Text("short")])
    assert "\r\x1b[4A\x1b[J" in written.getvalue(), "70 cells take 3 rows of 30, and the short line one"
    assert "y" * 29 in written.getvalue()
    assert "y" * 30 not in written.getvalue()


@settings(max_examples=30)
@given(st.lists(st.lists(st.text(alphabet="ab日é", max_size=50), max_size=5), max_size=6), st.integers(20, 60))
def test_the_screen_shows_the_last_block_and_everything_above_once(blocks: list[list[str]], columns: int) -> None:
    terminal = Terminal(columns=10_000)
    screen = Screen(terminal, lambda: (columns, 24))
    for number, block in enumerate(blocks):
        screen.draw([Text(line) for line in block], above=[Text(f"<{number}>")])
    above = [f"<{number}>" for number in range(len(blocks))]
    last = blocks[-1] if blocks else []
    assert terminal.shown[: len(above)] == above
    assert len(terminal.shown) == len(above) + len(last) + 1
    assert all(Text(line).cell_len < columns for line in terminal.shown)


def test_a_terminal_without_utf8_gets_ascii() -> None:
    terminal = Terminal()
    terminal.encoding = "ISO-8859-1"  # type: ignore[assignment]
    display = live(terminal)
    for event in RECORDED:
        display.event(event)
    display.close()
    assert "\n".join(terminal.shown).isascii()


def test_plain_lines() -> None:
    stderr, stdout = io.StringIO(), io.StringIO()
    display = PlainDisplay(stderr, stdout)
    for event in RECORDED:
        display.event(event)
    display.close()
    lines = stderr.getvalue().splitlines()
    assert lines[:6] == [
        "prompt: A red ball bouncing on green grass, slow motion, golden hour",
        "video: 1408x960, 193 frames at 48 fps (4.0 s), run 20260921-143320-a-red-ball-bouncing-7c1e",
        "Stage 1 runs the distilled model (no dev checkpoint was found): 8 steps without guidance.",
        "text: started, process 4101, 26.4 GB of weights",
        "text: layer 1/48, 0.32 s each, 15 s left",
        "text: layer 25/48, 0.21 s each, 4.8 s left, 2.2 GB",
    ]
    assert lines[-2:] == [
        "decode: done in 52 s, peak 6.2 GB",
        "Done in 8m 06s; at most 21.9 GB of memory, in stage 2.",
    ]
    assert len(lines) < 50
    assert stdout.getvalue() == VIDEO + "\n"


def test_json_is_every_event_and_nothing_else() -> None:
    stdout = io.StringIO()
    display = JsonDisplay(stdout)
    for event in RECORDED:
        display.event(event)
    display.close()
    assert [json.loads(line) for line in stdout.getvalue().splitlines()] == RECORDED


def test_json_lines_are_strict_ascii_and_take_anything() -> None:
    line = json_line({"a": float("nan"), "b": (1, Path("/x")), "é": "日\n", 3: {"inf": float("inf")}})
    assert line.isascii()
    assert line.count("\n") == 1
    assert json.loads(line) == {"a": None, "b": [1, "/x"], "é": "日\n", "3": {"inf": None}}


def test_quiet_is_the_path_only_and_paths_keep_their_bytes() -> None:
    raw = io.BytesIO()
    stdout = io.TextIOWrapper(raw, encoding="ascii")
    display = QuietDisplay(stdout)
    display.note("not shown")
    for event in RECORDED[:-2]:
        display.event(event)
    display.event({"event": "video_done", "path": os.fsdecode(b"/t/caf\xc3\xa9\xff.mp4"), "role": "video"})
    display.close()
    assert raw.getvalue() == b"/t/caf\xc3\xa9\xff.mp4\n"


def test_a_stream_whose_reader_left_is_given_up_without_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    file = os.fdopen(writer, "w")
    stream = Stream(file)
    stream.write("lost\n")
    stream.write_path("/lost")
    assert stream.file is None
    with suppress(BrokenPipeError):
        file.close()


def test_characters_that_the_encoding_lacks_are_escaped() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    Stream(file).write("é ✓\n")
    assert raw.getvalue() == b"\\xe9 \\u2713\n"


@pytest.mark.parametrize(
    ("term", "moves"), [("xterm-256color", True), ("dumb", False), ("", False), ("unknown", False)]
)
def test_only_a_terminal_that_can_is_drawn_on(term: str, moves: bool) -> None:
    assert can_move_cursor(Terminal(), {"TERM": term}) is moves
    assert not can_move_cursor(io.StringIO(), {"TERM": "xterm"})


def test_the_display_follows_the_flags_and_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(open_display(json=True), JsonDisplay)
    assert isinstance(open_display(quiet=True), QuietDisplay)
    assert isinstance(open_display(), PlainDisplay)
    monkeypatch.setattr(sys, "stderr", Terminal())
    display = open_display()
    assert isinstance(display, LiveDisplay)
    display.close()


def test_on_a_real_pseudo_terminal_the_path_is_the_last_line() -> None:
    """The player in a process of its own, with both outputs on one terminal, as a user sees it."""
    leader, follower = os.openpty()
    script, events = ROOT / "tests/orchestrator/play_events.py", ROOT / "tests/orchestrator/data/max-run.jsonl"
    command = [sys.executable, str(script), str(events), "--speed", "5000"]
    environment = {**os.environ, "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen(command, stdout=follower, stderr=follower, stdin=follower, env=environment) as process:
        os.close(follower)
        output = b""
        while True:
            try:
                piece = os.read(leader, 1 << 16)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            output += piece
    os.close(leader)
    assert process.returncode == 0
    assert output.decode().rstrip().rpartition("\x1b[?2026l")[2].strip() == VIDEO


KEYS = """
import os, sys, termios
from orchestrator.display.keys import silence
terminal = os.fdopen(os.open(os.ttyname(int(sys.argv[1])), os.O_RDWR), "w")  # the terminal of this new session now
def echoes(): return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)
before = echoes()
restore = silence(terminal)
during = echoes()
restore()
print(before, during, echoes())
"""


def test_the_echo_is_off_only_while_lines_are_drawn() -> None:
    leader, follower = os.openpty()
    command = [sys.executable, "-c", KEYS, str(follower)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, pass_fds=[follower], env=environment, start_new_session=True, capture_output=True, text=True
    )
    os.close(leader)
    os.close(follower)
    assert done.stdout == "True False True\n", done.stderr


def test_a_terminal_of_another_session_is_left_alone() -> None:
    leader, follower = os.openpty()
    with open(follower, "w") as terminal:
        restore = silence(terminal)
        assert termios.tcgetattr(terminal)[3] & termios.ECHO
        restore()
    os.close(leader)
