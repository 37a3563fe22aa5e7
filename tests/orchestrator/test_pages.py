"""The help pages: whole at every width, with every command on them."""

from __future__ import annotations

import pytest

from orchestrator import cli

PAGES = (["--help"], ["generate", "--help"], ["weights", "download", "--help"], ["doctor", "--help"])


@pytest.mark.parametrize("width", ["30", "61", "62", "80", "200"])
@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_no_word_is_cut(
    words: list[str], width: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    assert cli.main(words) == 0
    page = capsys.readouterr().out
    assert "…" not in page
    assert max(map(len, page.splitlines())) <= int(width)


def test_every_command_is_on_the_first_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    page = capsys.readouterr().out
    names = "generate resume plan promote decode runs cache weights doctor --install-completion --show-completion"
    assert all(f" {name} " in page for name in names.split())
    assert cli.main(["weights", "--help"]) == 0
    page = capsys.readouterr().out
    assert all(f" {name} " in page for name in ("list", "download", "quantize", "verify"))
