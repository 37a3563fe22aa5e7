"""The tab key: runs, presets, codecs, stages; asked of the real program, as the shells' scripts do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import cli
from orchestrator.commands.complete import run_names

ROOT = Path(__file__).parents[2]


@pytest.fixture
def completed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], list[str]]:
    """What bash would offer for the last word of a line."""

    def complete(line: str) -> list[str]:
        monkeypatch.setenv("_LTX_RELAY_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
        assert cli.main([]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out.split()

    return complete


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ltx-relay pro", ["promote"]),
        ("ltx-relay generate --preset d", ["draft", "dev"]),
        ("ltx-relay generate --codec ", ["h264", "hevc", "prores", "ffv1"]),
        ("ltx-relay plan --stop-after stage", ["stage1", "stage2"]),
        ("ltx-relay generate --pipeline t", ["two-stage", "text-to-video"]),
        ("ltx-relay generate --on-d", ["--on-done"]),
    ],
)
def test_words_are_offered(completed: Callable[[str], list[str]], line: str, offered: list[str]) -> None:
    assert sorted(completed(line)) == sorted(offered)


def test_runs_are_offered_newest_first(
    completed: Callable[[str], list[str]],
    make_run: Callable[..., str],
    home_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = make_run("done")
    other = make_run("failed")
    offered = completed("ltx-relay runs show ")
    assert offered[0] == "last"
    assert set(offered[1:]) == {first, other}
    assert first in completed(f"ltx-relay resume {first[:9]}")
    monkeypatch.setenv("LTX_RELAY_HOME", "/nowhere")
    assert set(completed(f"ltx-relay decode --home {home_root} ")) == {"last", first, other}


def test_all_codecs_and_stages_are_among_them() -> None:
    from orchestrator.commands.options import CODECS
    from orchestrator.video_files import CONTAINERS

    assert tuple(CONTAINERS) == CODECS


def test_a_missing_home_offers_what_there_always_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from types import SimpleNamespace

    monkeypatch.setenv("LTX_RELAY_HOME", str(tmp_path / "gone"))
    assert run_names(SimpleNamespace(params={}), "") == ["last"]  # type: ignore[arg-type]
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize(("shell", "sign"), [("bash", "complete -o"), ("zsh", "#compdef ltx-relay"), ("fish", "fish")])
def test_the_scripts_of_the_shells_are_shown(shell: str, sign: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "orchestrator", "--show-completion", shell],
        cwd=ROOT,
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0
    assert sign in shown.stdout
    assert "_LTX_RELAY_COMPLETE" in shown.stdout
