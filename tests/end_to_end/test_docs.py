"""Every command in the README and in docs/ is run, as it stands there, in a folder and a home of its own per page.

The tiny model's files stand in for LTX-2's own, under the official names; where a command names no size, it makes a
small video, because two cores run this.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import cli
from tests.end_to_end.conftest import Program
from tests.official import lay_out

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_RUN = {
    "pip install": "installs",
    "uv sync": "installs",
    "uv run ltx-relay weights download": "fetches 80 GB; tests/end_to_end/test_download.py has a hub of its own",
    "uv run pytest -n 2": "this very suite",
    "apt-get install": "changes the machine",
}
SMALL = ("--height", "64", "--width", "96", "--frames", "9")
SIZES = {"--height", "--width", "--size", "--frames", "-H", "-W"}
PLACES = {"FOLDER": "weights/ltx-2", "FILE": "weights/ltx-2/ltx-2-19b-dev.safetensors", "...": "A red ball"}
MAKERS = {"generate", "plan"}
UPSCALERS = {"upscale-temporal", "upscale-spatial"}


def commands(page: Path) -> list[list[str]]:
    """The words of each command line in the page's ```bash blocks."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def test_pages_have_commands() -> None:
    assert len(commands(ROOT / "README.md")) > 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page(page: Path, program: Program) -> None:
    lay_out(program.folder / "weights" / "ltx-2")
    for words in commands(page):
        line = shlex.join(words)
        if any(line.startswith(beginning) for beginning in NOT_RUN):
            continue
        if words[:2] == ["uv", "run"]:
            words = words[2:]
        if words[:2] == ["python", "-m"]:
            check_module(words[2:])
            continue
        assert words[0] == "ltx-relay", line
        if words[1] in UPSCALERS and not (program.folder / words[2]).exists():
            assert program.generate("--output", words[2]).code == 0
        if words[1] == "resume":
            program.kill_worker(lambda event: event["event"] == "step" and event["stage"] == "stage1")
        result = program(*arguments(words[1:]))
        assert result.code == 0, f"{line}\n{result.err}"


def arguments(words: list[str]) -> list[str]:
    """As they stand, but for names that stand for others; a video of LTX-2's own size is planned and not made."""
    words = [PLACES.get(word, word) for word in words]
    if words[0] not in MAKERS and " " not in words[0]:
        return words
    if SIZES.isdisjoint(words):
        return [*words, *SMALL]
    return ["plan", *(words[1:] if words[0] in MAKERS else words)]


def check_module(words: list[str]) -> None:
    """Programs that take hours: that they are there, and know these flags."""
    shown = subprocess.run(
        [sys.executable, "-m", words[0], "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert shown.returncode == 0, shown.stderr
    for word in words[1:]:
        assert not word.startswith("--") or word in shown.stdout, f"{words[0]} has no {word}"


def inline_commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for line in re.findall(r"`ltx-relay ([^`]+)`", text):
            yield page.name, line


@pytest.mark.parametrize(("page", "line"), sorted(set(inline_commands())))
def test_a_command_in_a_sentence_exists(
    page: str, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all its flags; it may leave things out (`...`)."""
    monkeypatch.setenv("COLUMNS", "200")
    words = shlex.split(line)
    names = [word for word in words if re.fullmatch("[a-z][a-z-]*", word)][:2]
    for count in (2, 1, 0):
        if cli.main([*names[:count], "--help"]) == 0:
            break
    shown = capsys.readouterr().out
    for word in words:
        assert not word.startswith("--") or re.search(rf"{word}\b", shown), f"{page}: no {word} in {line}"
