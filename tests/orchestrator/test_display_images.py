"""Pictures in terminals: only where the environment says that they are shown, whole, and at few moments."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.commands.open import has_screen
from orchestrator.display.images import LIMIT, iterm, kitty, protocol, read_png
from orchestrator.display.live import LiveDisplay

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TERM": "xterm-kitty"}, kitty),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, kitty),
        ({"TERM_PROGRAM": "ghostty"}, kitty),
        ({"TERM_PROGRAM": "iTerm.app"}, iterm),
        ({"TERM_PROGRAM": "WezTerm"}, iterm),
        ({"LC_TERMINAL": "iTerm2"}, iterm),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, None),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"}, None),
        ({"TERM": "tmux-256color", "TERM_PROGRAM": "iTerm.app"}, None),
        ({"TERM": "screen", "STY": "1", "TERM_PROGRAM": "WezTerm"}, None),
        ({"LTX_RELAY_IMAGES": "none", "TERM": "xterm-kitty"}, None),
        ({"LTX_RELAY_IMAGES": "kitty", "TMUX": "x"}, kitty),
        ({"LTX_RELAY_IMAGES": "what"}, None),
        ({}, None),
    ],
)
def test_who_shows_pictures(environment: dict[str, str], expected: Any) -> None:
    assert protocol(environment) is expected


def test_kittys_pieces() -> None:
    pieces = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", kitty(PNG, 7))
    assert all(len(data) <= 4096 for _, data in pieces)
    assert base64.b64decode("".join(data for _, data in pieces)) == PNG
    assert pieces[0][0] == "a=T,f=100,q=2,r=7,m=1"
    assert [control for control, _ in pieces[1:]] == ["m=1"] * (len(pieces) - 2) + ["m=0"]


def test_iterms_file() -> None:
    match = re.fullmatch(r"\x1b\]1337;File=size=(\d+);height=7;[^:]*inline=1:([^\x07]*)\x07\r\n", iterm(PNG, 7))
    assert match is not None
    assert int(match[1]) == len(PNG)
    assert base64.b64decode(match[2]) == PNG


def test_only_png_of_bounded_size(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for content in (b"", b"GIF89a", PNG[:8] + bytes(LIMIT)):
        path.write_bytes(content)
        assert read_png(str(path)) is None
    assert read_png(str(tmp_path / "absent")) is None
    assert read_png("\x00") is None


def play(path: Path, images: Any, steps: int = 15) -> str:
    terminal = io.StringIO()
    display = LiveDisplay(terminal, None, size=lambda: (80, 24), clock=lambda: 0.0, tick=None, images=images)
    stages = [{"name": "stage1", "items": 1}]
    display.event({"event": "run_started", "time": 0.0, "run": "r", "stages": stages})
    for index in range(1, steps + 1):
        step = {"time": float(index), "stage": "stage1", "index": index, "total": steps}
        display.event({"event": "step", "seconds": 1.0, **step})
        display.event({"event": "preview", "path": str(path), **step})
    display.close()
    return terminal.getvalue()


def test_four_pictures_in_a_stage(tmp_path: Path) -> None:
    path = tmp_path / "stage1-0.png"
    path.write_bytes(PNG)
    assert play(path, iterm).count("\x1b]1337;") == 4
    assert play(path, iterm, steps=2).count("\x1b]1337;") == 2
    assert str(tmp_path) not in play(path, iterm)
    path.unlink()
    assert "1337" not in play(path, iterm)


def test_elsewhere_their_folder_once(tmp_path: Path) -> None:
    folder = tmp_path / "x"  # short enough for a line or not
    text = play(folder / "stage1-0.png", None)
    assert text.count("previews in") == 1
    assert "\x1b]1337" not in text
    assert "\x1b_G" not in text


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        ({}, "linux", False), ({"DISPLAY": ":0"}, "linux", True), ({"WAYLAND_DISPLAY": "w"}, "linux", True),
        ({}, "darwin", True), ({"SSH_CONNECTION": "a"}, "darwin", False),
    ],
)  # fmt: skip
def test_where_a_browser_can_be(environment: dict[str, str], platform: str, expected: bool) -> None:
    assert has_screen(environment, platform) is expected
