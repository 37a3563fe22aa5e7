"""A file where a video is to go: what is said of it is true, whatever the cache still holds; and a name nobody chose is
never another video's."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.home import Home, open_home
from cache.videos import VideoObject
from orchestrator.outputs import check_outputs, unless_taken
from orchestrator.video_files import is_called, stem_of
from orchestrator.video_records import KIND, recorded_video
from weights.errors import UsageError

KEY, BASE, OTHER = "0" * 64, "1" * 64, "2" * 64
CONTENT = {KEY: b"this video", BASE: b"its base", OTHER: b"another"}
Cached = Callable[..., None]


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch) -> Cached:
    """`cached(KEY, ...)`: the cache has the videos of these keys and no others."""

    def hold(*keys: str) -> None:
        monkeypatch.setattr(
            "orchestrator.outputs.find_video", lambda home, key: made(key, Path("/none")) if key in keys else None
        )

    hold()
    return hold


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "videos"
    found.mkdir()
    return found


def made(key: str, path: Path) -> VideoObject:
    return VideoObject(key, path, hashlib.sha256(CONTENT[key]).hexdigest(), len(CONTENT[key]))


def write_record(path: Path, key: str, place: Path | None = None) -> None:
    video = made(key, path)
    entry = {"file": path.name, "sha256": video.sha256, "bytes": video.bytes}
    record = {"kind": KIND, "format": 1, "video": entry, "keys": {"text": "3" * 64, "decode": key}}
    (place or path.with_suffix(".json")).write_text(json.dumps(record))


def alone(path: Path) -> Mapping[str, Path]:
    return {KEY: path}


def with_base(path: Path) -> Mapping[str, Path]:
    return {KEY: path, BASE: path.with_suffix(".base.mp4")}


def test_without_the_result_it_may_be_this_very_video(folder: Path, home: Home, cached: Cached) -> None:
    there = folder / "a.mp4"
    check_outputs({KEY: there}, home)
    there.write_bytes(CONTENT[KEY])
    with pytest.raises(UsageError, match="exists already; nothing was changed") as caught:
        check_outputs({KEY: there}, home)
    assert "--overwrite" in str(caught.value.advice)

    cached(KEY)
    check_outputs({KEY: there}, home)
    there.write_bytes(CONTENT[OTHER])
    with pytest.raises(UsageError, match="exists and is not this video; nothing was changed"):
        check_outputs({KEY: there}, home)


@given(taken=st.sets(st.integers(1, 12)), own=st.none() | st.integers(1, 12))
def test_the_name_is_this_videos_or_the_first_that_is_free(taken: set[int], own: int | None) -> None:
    """taken: numbers whose names another video has; own: the number whose name this one has."""
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        folder, home = Path(place), Home(Path("/nowhere"))
        patch.setattr("orchestrator.outputs.find_video", lambda home, key: made(key, Path("/none")))
        names = {number: folder / ("a-0.mp4" if number == 1 else f"a-0-{number}.mp4") for number in range(1, 15)}
        for number in taken - {own}:
            names[number].write_bytes(CONTENT[OTHER])
        if own is not None:
            names[own].write_bytes(CONTENT[KEY])
        there = taken | ({own} if own else set())
        found = unless_taken(names[1], alone, home)
        assert found == (names[own] if own and 1 in there else names[min(set(names) - there)])


def test_the_base_is_looked_at_too(folder: Path, home: Home, cached: Cached) -> None:
    cached(KEY, BASE)
    path = folder / "a-0.mp4"
    path.write_bytes(CONTENT[KEY])
    assert unless_taken(path, with_base, home) == path, "the base is new, and its place is free"
    (folder / "a-0.base.mp4").write_bytes(CONTENT[OTHER])
    assert unless_taken(path, with_base, home) == folder / "a-0-2.mp4"
    (folder / "a-0-2.base.mp4").symlink_to(folder / "nothing")
    assert unless_taken(path, with_base, home) == folder / "a-0-3.mp4"


def test_a_video_that_the_cache_has_no_more_is_known_by_its_record(folder: Path, home: Home, cached: Cached) -> None:
    path = folder / "a-0.mp4"
    path.write_bytes(CONTENT[KEY])
    assert unless_taken(path, alone, home) == folder / "a-0-2.mp4", "nobody knows what it is"
    write_record(path, KEY)
    assert unless_taken(path, alone, home) == path
    path.write_bytes(CONTENT[KEY] + b" cut")
    assert unless_taken(path, alone, home) == folder / "a-0-2.mp4", "no longer what the record says"
    write_record(path, OTHER)
    path.write_bytes(CONTENT[OTHER])
    assert unless_taken(path, alone, home) == folder / "a-0-2.mp4"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"kind": "ltx-relay video", "video": [], "keys": 3}', "\x00"])
def test_what_is_no_record_says_nothing(folder: Path, text: str) -> None:
    (folder / "a.json").write_text(text)
    assert recorded_video(folder / "a.mp4") is None
    write_record(folder / "a.mp4", KEY, folder / "a.mp4.json")
    found = recorded_video(folder / "a.mp4")
    assert found is not None
    assert found.key == KEY
    assert recorded_video(folder / "b.mp4") is None


@pytest.mark.parametrize("name", ["[a]-0.mp4", "a-0-2.mp4", "ü (1)-0.mkv"])
def test_odd_names_get_numbers_too(folder: Path, home: Home, cached: Cached, name: str) -> None:
    path = folder / name
    path.mkdir()
    for other in ("a-0-2-x.mp4", "a-0-02.mp4", "a-0-99999999999999999999.mp4", "ab-0-2.mp4"):
        (folder / other).touch()
    assert unless_taken(path, alone, home) == folder / f"{path.stem}-2{path.suffix}"


@pytest.mark.parametrize(
    ("name", "prompt", "seed", "default"),
    [
        ("a-fox-3.mp4", "A fox!", 3, True), ("a-fox-3-2.mkv", "A fox!", 3, True), ("a-fox-3-12.mp4", "A fox!", 3, True),
        ("a-fox-4.mp4", "A fox!", 3, False), ("fox.mp4", "A fox!", 3, False), ("my-a-fox-3.mp4", "A fox!", 3, False),
        ("a-fox-3-b.mp4", "A fox!", 3, False), ("a-fox-3.base.mp4", "A fox!", 3, False), ("video-0.mp4", "狐", 0, True),
    ],
)  # fmt: skip
def test_what_nobody_named(name: str, prompt: str, seed: int, default: bool) -> None:
    assert is_called(Path("/v") / name, f"{stem_of(prompt)}-{seed}") is default
