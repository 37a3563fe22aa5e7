"""The recipe survives its JSON and refuses what is none; a person is told what changes, and what cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.recipe import WeightsChoice, recipe_from_dict
from orchestrator.upscaling.facts import Facts, SoundTrack
from orchestrator.upscaling.recipe import FromRun, UpscaleRecipe, is_upscale, upscale_from_dict
from orchestrator.upscaling.words import copied, notes, refuse
from tests.orchestrator.upscaling.facts_of import plain
from weights.errors import UsageError

RECIPE = UpscaleRecipe(
    kind="upscale-temporal",
    video="/videos/clip.mp4",
    sha256="b" * 64,
    weights=WeightsChoice(model="tiny"),
    chunk=97,
    tiles=(512, 64, 64, 24),
    from_run=FromRun("20260101-000000-a-ball-0000", "c" * 64, (4, 2, 3)),
)
AUDIO = SoundTrack(1, "audio", "aac", "eng", fits=True)
SUBTITLE = SoundTrack(2, "subtitle", "subrip", "", fits=False)


def test_a_recipe_comes_back_from_its_json() -> None:
    raw = json.loads(json.dumps(RECIPE.to_dict()))
    assert is_upscale(raw)
    assert upscale_from_dict(raw) == RECIPE
    assert raw["title"] == "upscale-temporal clip.mp4"


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.update(format=99),
        lambda raw: raw.update(unknown=1),
        lambda raw: raw.update(tiles=[1, 2, 3]),
        lambda raw: raw.update(tiles="512x64"),
        lambda raw: raw.update(weights=None),
        lambda raw: raw.update(from_run={"run": "a"}),
        lambda raw: raw.pop("video"),
    ],
)
def test_what_is_no_recipe_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    raw = json.loads(json.dumps(RECIPE.to_dict()))
    change(raw)
    with pytest.raises(UsageError):
        upscale_from_dict(raw)


def test_generate_refuses_such_a_recipe_by_name() -> None:
    with pytest.raises(UsageError, match="upscale-temporal"):
        recipe_from_dict(RECIPE.to_dict())


def said(facts: Facts, size: tuple[int, int] = (96, 64), sound: bool = True) -> str:
    return "\n".join(notes(facts, size, "h264", sound))


def test_a_plain_video_needs_no_words() -> None:
    assert said(plain(tracks=(AUDIO,))) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"missing": 7}, "7 frames that it promises are not there"),
        ({"broken_off": True}, "breaks off"),
        ({"damaged": 1}, "1 packet could not be decoded"),
        ({"other_sizes": 2}, "another size"),
        ({"frames": 1}, "nothing to put between"),
        ({"rotation": 90}, "stored upright"),
        ({"alpha": True}, "transparency"),
        ({"depth": 10}, "10 bits"),
        ({"interlaced": True}, "interlaced"),
        ({"rate": None}, "keeps its own time"),
        ({"tracks": (SUBTITLE,)}, "subtitle 2 (subrip) is left out"),
        ({"others": 2}, "2 streams of other kinds"),
        ({"width": 95}, "95x64 becomes 96x64"),
    ],
)
def test_what_changes_is_said(change: dict[str, Any], words: str) -> None:
    assert words in said(plain(**change))


def test_sound_that_was_not_wanted_is_mentioned() -> None:
    assert "left out, as asked" in said(plain(tracks=(AUDIO,)), sound=False)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused_with_a_way_out(transfer: int, name: str) -> None:
    with pytest.raises(UsageError, match=name) as caught:
        refuse(plain(transfer=transfer), Path("clip.mp4"))
    assert "tonemap" in caught.value.advice
    refuse(plain(), Path("clip.mp4"))


def test_sound_that_the_container_cannot_hold_is_refused() -> None:
    facts = plain(tracks=(AUDIO, SUBTITLE, replace(AUDIO, index=3, codec="wmav2", fits=False)))
    with pytest.raises(UsageError, match=r"sound track 3 \(wmav2, eng\).*\.mp4") as caught:
        copied(facts, True, Path("out.mp4"))
    assert ".mkv" in caught.value.advice
    assert "--no-sound" in caught.value.advice
    assert copied(facts, False, Path("out.mp4")) == ()
    assert copied(plain(tracks=(AUDIO, SUBTITLE)), True, Path("out.mp4")) == (AUDIO,)
