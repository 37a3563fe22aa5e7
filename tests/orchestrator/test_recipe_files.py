"""Recipes from recipe.json, from a video's record, from the video; and files that are none of these."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.recipe import MAX_BYTES, Recipe, WeightsChoice
from orchestrator.recipe_files import read_recipe
from weights.errors import UsageError
from workers.video.codecs import codec
from workers.video.writer import VideoWriter

RECIPE = Recipe(
    prompt='A "red" <ball>\nbouncing, \u00e4\u4e16', negative_prompt="", preset="max", two_stage=True, temporal=True,
    height=64, width=96, frames=9, fps="24", scale="2", size=None, stage1_schedule="dev", steps_stage1=2,
    steps_stage2=3, cfg=5.0, guidance_rescale=0.0, stg=0.0, stg_blocks=(), seeds=(7,), weights=WeightsChoice(),
)  # fmt: skip


def video(path: Path, comment: str | None, name: str = "h264") -> Path:
    metadata = {} if comment is None else {"comment": comment}
    container = codec(name).containers[path.suffix]
    with VideoWriter(
        path, width=32, height=32, fps=Fraction(24), codec=name, metadata=metadata, container=container
    ) as made:
        made.write(np.zeros((2, 32, 32, 3), np.uint8))
    return path


@pytest.mark.parametrize(("suffix", "name"), [(".mp4", "h264"), (".mov", "prores"), (".mkv", "ffv1")])
def test_from_a_video(tmp_path: Path, suffix: str, name: str) -> None:
    made = video(tmp_path / f"a{suffix}", RECIPE.to_json(), name)
    renamed = made.rename(tmp_path / "whatever it is called")
    assert read_recipe(str(renamed)) == RECIPE


def test_from_a_record(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"kind": "ltx-relay video", "recipe": RECIPE.to_dict()}))
    assert read_recipe(str(tmp_path / "a.json")) == RECIPE
    (tmp_path / "b.json").write_text(RECIPE.to_json())
    assert read_recipe(str(tmp_path / "b.json")) == RECIPE


@pytest.mark.parametrize(
    ("comment", "words"),
    [
        (None, "no recipe"),
        ("made on holiday", "no recipe"),
        ('{"format": 1}', "cannot be read"),
        (json.dumps({**RECIPE.to_dict(), "output": "/etc/passwd"}), "'output'"),
        ("{" * 10_000, "cannot be read"),
        ('{"prompt": "' + "x" * (MAX_BYTES + 9) + '"}', "cannot be read"),
    ],
)
def test_a_video_without_a_good_recipe(tmp_path: Path, comment: str | None, words: str) -> None:
    path = video(tmp_path / "a.mp4", comment)
    with pytest.raises(UsageError) as error:
        read_recipe(str(path))
    assert words in error.value.message
    assert str(path) in error.value.message


MOV_OF_A_TERABYTE = b"\x00\x00\x00\x01moov" + (1 << 40).to_bytes(8, "big") + b"\xff" * 64


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x00", b"\xff\xfe\x00", b"#EXTM3U\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"\x00\x00\x00\x18ftypmp42" + bytes(1000), b"\x00\x00\x00\x18ftypmp42" + bytes(16) + MOV_OF_A_TERABYTE,
        b"\x1a\x45\xdf\xa3" + b"\xff" * 1000, b"RIFF\x00\x00\x00\x00AVI LIST", b'{"recipe": []}', b"[" * 100_000,
        b'{"recipe": {"recipe": {}}}', b'{"recipe": ' * 50_000,
    ],
)  # fmt: skip
def test_what_is_no_recipe(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(UsageError) as error:
        read_recipe(str(path))
    assert str(path) in error.value.message


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "absent", "\x00"):
        with pytest.raises(UsageError):
            read_recipe(str(tmp_path / name))
    with pytest.raises(UsageError, match="regular"):
        read_recipe("/dev/zero")


def test_a_cut_video(tmp_path: Path) -> None:
    """At whatever byte it ends: a recipe, or a sentence."""
    whole = video(tmp_path / "a.mp4", RECIPE.to_json()).read_bytes()
    found: list[Any] = []
    for size in range(0, len(whole), 97):
        (tmp_path / "cut.mp4").write_bytes(whole[:size])
        with suppress(UsageError):
            found.append(read_recipe(str(tmp_path / "cut.mp4")))
    assert all(recipe == RECIPE for recipe in found)
