"""A file where the output is to go: what is said of it is true, whatever the cache still holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cache.home import open_home
from cache.videos import VideoObject
from orchestrator.prepare import check_outputs
from weights.errors import UsageError

KEY = "0" * 64


def test_without_the_result_it_may_be_this_very_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, there = open_home(tmp_path / "home"), tmp_path / "a.mp4"
    check_outputs({KEY: there}, home)
    there.write_bytes(b"a video")
    with pytest.raises(UsageError, match="exists already; nothing was changed") as caught:
        check_outputs({KEY: there}, home)
    assert "--overwrite" in str(caught.value.advice)

    made = VideoObject(KEY, there, hashlib.sha256(b"a video").hexdigest(), 7)
    monkeypatch.setattr("orchestrator.prepare.find_video", lambda home, key: made)
    check_outputs({KEY: there}, home)
    there.write_bytes(b"another")
    with pytest.raises(UsageError, match="exists and is not this video; nothing was changed"):
        check_outputs({KEY: there}, home)
