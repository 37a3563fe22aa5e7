"""A prompt in the place of a command; a mistyped command never becomes one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator import cli
from orchestrator.commands.bare import with_command

COMMANDS = ("generate", "resume", "plan", "runs")


@pytest.mark.parametrize(
    "line",
    [
        ["a fox"],
        ["a fox", "--pipeline", "two-stage"],
        ["--preset", "draft", "a fox"],
        ["--json", "a fox", "plan"],
        ["runs of a fox"],
        ["--prompt", "fox"],
        ["--seed", "3", "--prompt=fox"],
    ],
)
def test_a_prompt_is_generated(line: list[str]) -> None:
    assert with_command(line, COMMANDS) == ["generate", *line]


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["fox"],
        ["rnus", "--negative-prompt", "a b"],
        ["generate", "a fox"],
        ["plan", "a fox"],
        ["--json", "runs", "a fox"],
        ["--help"],
        ["--version", "a fox"],
        ["--help", "a fox"],
        ["--show-completion=bash", "a fox"],
        ["--json"],
        ["-a fox"],
    ],
)
def test_anything_else_stays_as_it_is(line: list[str]) -> None:
    assert with_command(line, COMMANDS) == line


def test_one_word_is_no_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rnus"]) == 2
    assert "after `generate` if it is one word" in capsys.readouterr().err


def test_a_prompt_without_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["a", "red", "ball", "--model", "tiny"]) == 2
    assert "a prompt goes in quotes" in capsys.readouterr().err


def test_a_current_folder_that_was_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = Path.cwd()
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    try:
        (tmp_path / "gone").rmdir()
        assert cli.main(["weights", "list"]) == 2
    finally:
        os.chdir(here)
    assert "The current folder is not there any more." in capsys.readouterr().err
