"""`weights list`: every place that `generate` searches, what each file is, and which presets could run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import cli
from tests.official import NAMES, lay_out

DISTILLED = "ltx-2-19b-distilled.safetensors"


@pytest.fixture
def listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """The JSON of the list, in an empty folder and with an empty Hugging Face cache, `hf`."""
    monkeypatch.chdir(tmp_path)
    for name in ("LTX_RELAY_WEIGHTS", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))

    def run(*words: str) -> dict[str, Any]:
        assert cli.main(["weights", "list", *words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def ready(document: dict[str, Any]) -> dict[str, bool]:
    return {one["preset"]: one["ready"] for one in document["presets"]}


def test_each_file_with_its_stages(listed: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "weights/ltx-2")
    document = listed()
    found = {Path(file["path"]).name: (file["kind"], file["version"], file["stages"]) for file in document["files"]}
    assert found == {
        "ltx-2-19b-dev.safetensors": ("checkpoint", "2.0", ["text", "stage1", "decode"]),
        DISTILLED: ("checkpoint", "2.0", ["text", "stage1", "stage2", "decode"]),
        "ltx-2-19b-distilled-lora-384.safetensors": ("lora", "2.0", ["stage2"]),
        "ltx-2-spatial-upscaler-x2-1.0.safetensors": ("spatial-upscaler", "2.0", ["stage2"]),
        "ltx-2-temporal-upscaler-x2-1.0.safetensors": ("temporal-upscaler", "2.0", ["temporal"]),
        "gemma-3-12b": ("gemma", None, ["text"]),
    }
    assert ready(document) == dict.fromkeys(("draft", "dev", "two-stage", "max"), True)
    (whole,) = (one["uses"] for one in document["presets"] if one["preset"] == "max")
    everywhere = ["text", "stage1", "stage2", "temporal", "decode"]  # with stage 2's and temporal's statistics
    assert sorted(whole[str(folder / "ltx-2-19b-dev.safetensors")]) == sorted(everywhere)
    assert whole[str(folder / DISTILLED)] == ["stage2"]


def test_the_hugging_face_cache_with_its_links(listed: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Snapshots of links into blobs, found by HF_HOME; the revision that `main` names counts."""
    source = lay_out(tmp_path / "source")
    for repository, names in (
        ("models--Lightricks--LTX-2", [name for name in NAMES if name != DISTILLED]),
        ("models--google--gemma-3-12b-it-qat-q4_0-unquantized", ["gemma-3-12b"]),
    ):
        root = tmp_path / "hf/hub" / repository
        revision = "b" * 40
        for folder in (root / "blobs", root / "refs", root / "snapshots" / revision, root / "snapshots" / ("c" * 40)):
            folder.mkdir(parents=True)
        (root / "refs/main").write_text(revision)
        for name in names:
            for file in sorted((source / name).iterdir()) if (source / name).is_dir() else [source / name]:
                file.rename(root / "blobs" / file.name)
                (root / "snapshots" / revision / file.name).symlink_to(Path("../../blobs") / file.name)
    document = listed()
    assert ready(document) == dict.fromkeys(("draft", "dev", "two-stage", "max"), True)
    assert all("/snapshots/bbbb" in file["path"] for file in document["files"])


def test_the_variable_comes_after_the_folder_here(
    listed: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path / "elsewhere")
    monkeypatch.setenv("LTX_RELAY_WEIGHTS", str(tmp_path / "elsewhere"))
    assert listed()["folders"] == [str(tmp_path / "weights/ltx-2"), str(tmp_path / "elsewhere")]
    assert ready(listed())["max"]


def test_what_is_not_usable_and_what_lacks(
    listed: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lay_out(tmp_path / "w", without=("ltx-2-temporal", "ltx-2-19b-distilled"))
    (folder / "ltx-2-19b-distilled.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    document = listed("w")
    assert [Path(broken["path"]).name for broken in document["unusable"]] == [DISTILLED]
    assert ready(document) == {"draft": False, "dev": True, "two-stage": False, "max": False}
    assert cli.main(["weights", "list", "w"]) == 0
    text = capsys.readouterr().out
    assert "not usable" in text
    assert "dev       ready" in text
    assert "weights download" in text


def test_nothing_there_is_no_error(listed: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert listed()["files"] == []
    assert cli.main(["weights", "list"]) == 0
    assert "no such folder" in capsys.readouterr().out


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["weights", "list", str(tmp_path / "gone")]) == 3
    assert "is not there" in capsys.readouterr().err
