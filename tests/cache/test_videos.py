"""Videos: whole in the cache, whole at the user's path, and never over somebody else's file."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cache.durable import sweep, temporary_path
from cache.home import Home, open_home, sweep_home
from cache.videos import VideoObject, check_output, deliver, find_video, publish_video, same
from weights.errors import ArtifactError, DoesNotFit, RelayError, UsageError

KEY = "ab" * 32
CONTENT = bytes(range(256)) * 8_000  # two chunks of the copy


def make_video(home: Home, content: bytes = CONTENT, key: str = KEY) -> VideoObject:
    temporary = temporary_path(home.tmp, ".mp4")
    temporary.write_bytes(content)
    return publish_video(home, key, temporary, ".mp4")


@pytest.fixture
def video(home: Home) -> VideoObject:
    return make_video(home)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


def test_a_published_video_is_found(home: Home, video: VideoObject) -> None:
    assert video == VideoObject(KEY, home.object_path(KEY, ".mp4"), hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    assert video.path.read_bytes() == CONTENT
    assert find_video(home, KEY) == video
    assert find_video(home, "cd" * 32) is None
    assert list(home.tmp.iterdir()) == []
    assert json.loads((video.path.parent / f"{KEY}.video.json").read_text()) == {
        "file": f"{KEY}.mp4",
        "sha256": video.sha256,
        "bytes": len(CONTENT),
    }


def test_the_order_of_publishing(home: Home, order: Callable[[], list[str]]) -> None:
    temporary = home.tmp / "video.mp4"
    temporary.write_bytes(b"frames")
    (home.objects / "ab").mkdir()
    steps = order()
    publish_video(home, KEY, temporary, ".mp4")
    assert steps[:3] == ["fsync file of 6", f"replace -> {KEY}.mp4", "fsync folder"]
    record = steps[3].removeprefix("write ")
    assert steps[3:] == [f"write {record}", f"fsync file of {record}", f"replace -> {KEY}.video.json", "fsync folder"]


def test_publishing_what_is_no_video(home: Home) -> None:
    empty = home.tmp / "empty"
    empty.touch()
    with pytest.raises(ArtifactError, match="is empty"):
        publish_video(home, KEY, empty, ".mp4")
    with pytest.raises(RelayError, match="no such file"):
        publish_video(home, KEY, home.tmp / "absent", ".mp4")
    for suffix in ("mp4", "/x", ".mp4/../x", ""):
        with pytest.raises(UsageError):
            publish_video(home, KEY, empty, suffix)
    assert not (home.objects / "ab").exists()


def test_a_temporary_on_another_disk_is_brought_over(home: Home, small_disk: Path) -> None:
    temporary = small_disk / "video.mp4"
    temporary.write_bytes(b"frames" * 1000)
    video = publish_video(home, KEY, temporary, ".mp4")
    assert find_video(home, KEY) == video
    assert not temporary.exists()
    assert sorted(path.name for path in video.path.parent.iterdir()) == [f"{KEY}.mp4", f"{KEY}.video.json"]


@pytest.mark.parametrize("position", [0, 1000, len(CONTENT) - 1])
def test_a_flipped_bit_is_found(home: Home, video: VideoObject, position: int) -> None:
    with open(video.path, "r+b") as file:
        file.seek(position)
        file.write(bytes([CONTENT[position] ^ 16]))
    told: list[str] = []
    assert find_video(home, KEY, told.append) is None
    assert len(told) == 1
    assert "damaged" in told[0]
    assert not video.path.exists()
    assert len(list(video.path.parent.glob("*.corrupt"))) == 2
    assert make_video(home) == video, "made again"


def test_a_truncated_or_absent_video_is_found(home: Home, video: VideoObject) -> None:
    os.truncate(video.path, 100)
    assert find_video(home, KEY) is None
    make_video(home)
    video.path.unlink()
    told: list[str] = []
    assert find_video(home, KEY, told.append) is None
    assert "no such file" in told[0]


@pytest.mark.parametrize(
    "record",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"file": "../../../etc/passwd", "sha256": "x", "bytes": 1}',
        f'{{"file": "{KEY}/../x", "sha256": "x", "bytes": 1}}',
        f'{{"file": "{KEY}.mp4", "sha256": 7, "bytes": 1}}',
        f'{{"file": "{KEY}.mp4", "sha256": "x", "bytes": true}}',
        f'{{"file": "{KEY}.mp4", "sha256": "x", "bytes": 1e999}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_record_is_set_aside(home: Home, video: VideoObject, record: str) -> None:
    (video.path.parent / f"{KEY}.video.json").write_text(record)
    told: list[str] = []
    assert find_video(home, KEY, told.append) is None
    assert len(told) == 1
    assert find_video(home, KEY, told.append) is None
    assert len(told) == 1, "told once"


def test_a_video_without_its_record_does_not_count(home: Home, video: VideoObject) -> None:
    (video.path.parent / f"{KEY}.video.json").unlink()
    assert find_video(home, KEY) is None
    assert make_video(home, b"other") != video


def test_a_kill_anywhere_while_publishing(home: Home, everywhere: Callable[..., int]) -> None:
    temporary = home.tmp / "video.mp4"

    def prepare() -> None:
        for path in home.objects.glob("ab/*"):
            path.unlink()
        temporary.write_bytes(b"frames")

    def check(where: str) -> None:
        found = find_video(home, KEY)
        assert found is None or found.path.read_bytes() == b"frames", where
        sweep_home(home)
        assert not [path for path in home.root.rglob(".relay-*")], where
        assert not [path for path in home.root.rglob("*.corrupt")], where

    assert everywhere(lambda: publish_video(home, KEY, temporary, ".mp4"), check, prepare) >= 40


def test_same(place: Path, video: VideoObject) -> None:
    path = place / "ball.mp4"
    assert not same(path, video)
    path.write_bytes(CONTENT)
    assert same(path, video)
    path.write_bytes(CONTENT[:-1] + b"x")
    assert not same(path, video)
    path.write_bytes(CONTENT + b"x")
    assert not same(path, video)
    assert not same(place, video)
    (place / "link.mp4").symlink_to(video.path)
    assert same(place / "link.mp4", video)
    os.mkfifo(place / "pipe")
    assert not same(place / "pipe", video)


def test_delivery(place: Path, video: VideoObject, order: Callable[[], list[str]]) -> None:
    output = place / "ball.mp4"
    steps = order()
    deliver(video, output, overwrite=False)
    assert steps == [
        "fsync file of 0",  # the trial of the folder
        "write 1048576",
        f"write {len(CONTENT) - 1048576}",
        f"fsync file of {len(CONTENT)}",
        "link -> ball.mp4",
        "fsync folder",
    ]
    assert output.read_bytes() == CONTENT
    assert [path.name for path in place.iterdir()] == ["ball.mp4"]
    inode = output.stat().st_ino
    deliver(video, output, overwrite=False)
    deliver(video, output, overwrite=True)
    assert output.stat().st_ino == inode, "what is there already is left alone"


def test_another_file_is_kept_without_overwrite(place: Path, video: VideoObject) -> None:
    output = place / "ball.mp4"
    output.write_bytes(b"holiday")
    with pytest.raises(UsageError, match="exists already") as caught:
        deliver(video, output, overwrite=False)
    assert caught.value.exit_code == 2
    assert "--overwrite" in caught.value.advice
    assert output.read_bytes() == b"holiday"
    deliver(video, output, overwrite=True)
    assert output.read_bytes() == CONTENT
    assert [path.name for path in place.iterdir()] == ["ball.mp4"]


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("theirs", [b"holiday", CONTENT])
def test_a_file_that_appears_meanwhile_is_kept(
    place: Path, video: VideoObject, monkeypatch: pytest.MonkeyPatch, links: bool, theirs: bytes
) -> None:
    """The race: it was not there when we looked, and is when we finish."""
    output, link = place / "ball.mp4", os.link

    def rival(source: Any, target: Any) -> None:
        output.write_bytes(theirs)
        if not links:
            raise OSError(errno.EPERM, "no hard links here")
        link(source, target)

    monkeypatch.setattr(os, "link", rival)
    if theirs == CONTENT:
        deliver(video, output, overwrite=False)
    else:
        with pytest.raises(UsageError, match="exists already"):
            deliver(video, output, overwrite=False)
    assert output.read_bytes() == theirs
    assert [path.name for path in place.iterdir()] == ["ball.mp4"]


def test_without_hard_links(place: Path, video: VideoObject, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Any, target: Any) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(os, "link", refuse)
    deliver(video, place / "ball.mp4", overwrite=False)
    assert (place / "ball.mp4").read_bytes() == CONTENT
    assert [path.name for path in place.iterdir()] == ["ball.mp4"]


def test_a_kill_anywhere_while_delivering(place: Path, video: VideoObject, everywhere: Callable[..., int]) -> None:
    output = place / "ball.mp4"

    def prepare() -> None:
        output.unlink(missing_ok=True)

    def check(where: str) -> None:
        assert not output.exists() or output.read_bytes() == CONTENT, where
        deliver(video, output, overwrite=False)
        assert [path.name for path in place.iterdir()] == ["ball.mp4"], where

    assert everywhere(lambda: deliver(video, output, overwrite=False), check, prepare) >= 25

    def prepare_old() -> None:
        output.write_bytes(b"old")

    def check_old(where: str) -> None:
        assert output.read_bytes() in (b"old", CONTENT), where
        sweep(place)
        assert [path.name for path in place.iterdir()] == ["ball.mp4"], where

    assert everywhere(lambda: deliver(video, output, overwrite=True), check_old, prepare_old) >= 25


def test_links_are_followed_not_replaced(place: Path, video: VideoObject) -> None:
    (place / "real").mkdir()
    target, link = place / "real" / "clip.mp4", place / "latest.mp4"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with pytest.raises(UsageError, match="exists already"):
        deliver(video, link, overwrite=False)
    deliver(video, link, overwrite=True)
    assert link.is_symlink()
    assert target.read_bytes() == CONTENT
    target.unlink()
    with pytest.raises(UsageError, match="exists already"):
        deliver(video, link, overwrite=False)
    assert not target.exists()


def test_outputs_of_no_use(tmp_path: Path, place: Path, video: VideoObject) -> None:
    os.mkfifo(place / "pipe")
    (place / "file").touch()
    for output, words in (
        (tmp_path / "absent" / "ball.mp4", "does not exist"),
        (place / "file" / "ball.mp4", "is not a folder"),
        (place, "is a folder"),
        (place / "pipe", "not a regular file"),
        (Path("/dev/null"), "not a regular file"),
        (place / ("x" * 300), "cannot be written: file name too long"),
        (Path("/nul\0l"), "is no path"),
    ):
        for overwrite in (False, True):
            with pytest.raises(UsageError, match=words) as caught:
                check_output(output, overwrite)
            assert caught.value.exit_code == 2
            with pytest.raises(UsageError, match=words):
                deliver(video, output, overwrite)
    assert Path("/dev/null").is_char_device()


def test_an_output_is_checked_without_a_trace(place: Path) -> None:
    assert check_output(place / "ball.mp4") is False
    assert list(place.iterdir()) == []
    (place / "ball.mp4").touch()
    assert check_output(place / "ball.mp4") is True
    assert check_output(place / "ball.mp4", overwrite=True) is True
    (place / "link.mp4").symlink_to(place / "absent.mp4")
    assert check_output(place / "link.mp4") is True


def test_a_folder_that_cannot_be_written_to(place: Path, video: VideoObject, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "there.mp4").write_bytes(CONTENT)
    open_file = os.open

    def refuse(path: Any, flags: int, *mode: int) -> int:
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_file(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UsageError, match="cannot be written: permission denied"):
        check_output(place / "ball.mp4")
    with pytest.raises(UsageError, match="cannot be written: permission denied"):
        check_output(place / "there.mp4", overwrite=True)
    deliver(video, place / "there.mp4", overwrite=True)  # it is there already: nothing to write


def test_a_damaged_object_is_not_delivered(place: Path, video: VideoObject) -> None:
    with open(video.path, "r+b") as file:
        file.write(b"x")
    with pytest.raises(ArtifactError, match="its hash is another"):
        deliver(video, place / "ball.mp4", overwrite=False)
    video.path.unlink()
    with pytest.raises(ArtifactError, match="cannot be read"):
        deliver(video, place / "ball.mp4", overwrite=False)
    assert list(place.iterdir()) == []


def test_a_full_disk(home: Home, video: VideoObject, small_disk: Path) -> None:
    output = small_disk / "ball.mp4"
    with pytest.raises(DoesNotFit, match="too little") as caught:
        deliver(video, output, overwrite=False)
    assert caught.value.exit_code == 4
    output.write_bytes(b"old")
    with pytest.raises(DoesNotFit):
        deliver(video, output, overwrite=True)
    assert output.read_bytes() == b"old"
    assert [path.name for path in small_disk.iterdir()] == ["ball.mp4"]


def test_a_full_disk_of_the_home(tmp_path: Path, small_disk: Path) -> None:
    home = open_home(small_disk / "home")
    temporary = tmp_path / "video.mp4"
    temporary.write_bytes(CONTENT)
    with pytest.raises(DoesNotFit):
        publish_video(home, KEY, temporary, ".mp4")
    assert find_video(home, KEY) is None
    assert [path for path in home.objects.rglob("*") if path.is_file()] == []
