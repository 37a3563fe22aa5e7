"""What is left beside and inside a finished video, and that it makes the video again."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from weights.tiny_model import tiny_folder


@pytest.fixture(scope="module")
def made(shared: Any) -> Any:
    result = shared.generate("--output", "ball.mp4")
    assert result.code == 0, result.err
    return result


def record(folder: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((folder / name).read_text()))


def test_the_record_says_how_the_video_was_made(made: Any, shared: Any) -> None:
    found = record(shared.folder, "ball.json")
    assert found["video"]["sha256"] == hashlib.sha256((shared.folder / "ball.mp4").read_bytes()).hexdigest()
    assert found["recipe"]["prompt"] == "A red ball bouncing on green grass"
    assert found["settings"]["base"] == [96, 64]
    done = {event["stage"]: event for event in made.of("stage_done")}
    assert list(found["keys"]) == list(found["stages"]) == list(done)
    for name, stage in found["stages"].items():
        assert stage["process_peak"] == done[name]["process_peak"]
        assert stage["seconds"] == done[name]["seconds"]
    assert found["keys"]["decode"] == made.of("video_done")[0]["key"]
    assert {"ltx-relay", "mlx", "python"} <= set(found["versions"])
    assert made.of("video_done")[0]["record"] == str(shared.folder / "ball.json")


def test_the_video_alone_makes_it_again_elsewhere(made: Any, shared: Any, program: Any) -> None:
    """In a fresh home, within another budget, from files in another place: the same bytes."""
    shutil.copytree(tiny_folder(), program.folder / "weights")
    arguments = ("--model", str(program.folder / "weights"), "--memory", "6GB", "--keep-base", "--json")
    recipe = ("--recipe", str(shared.folder / "ball.mp4"))
    other = program("generate", *recipe, *arguments, "--output", "again.mp4")
    assert other.code == 0, other.err
    assert (program.folder / "again.mp4").read_bytes() == (shared.folder / "ball.mp4").read_bytes()
    again = shared("generate", "--recipe", str(program.folder / "again.mp4"), "--output", "third.mp4", "--json")
    assert not again.of("stage_started")


def test_a_record_makes_it_again(made: Any, shared: Any) -> None:
    again = shared("generate", "--recipe", "ball.json", "--output", "by-record.mp4", "--json")
    assert again.code == 0, again.err
    assert not again.of("stage_started")
    assert (shared.folder / "by-record.mp4").read_bytes() == (shared.folder / "ball.mp4").read_bytes()


def test_the_record_of_the_first_making_stays(made: Any, shared: Any) -> None:
    before = (shared.folder / "ball.json").read_bytes()
    assert shared.generate("--output", "ball.mp4").code == 0
    assert (shared.folder / "ball.json").read_bytes() == before


def test_files_of_others_stay(made: Any, shared: Any) -> None:
    for name in ("mine.json", "full.json", "full.mp4.json"):
        (shared.folder / name).write_text('{"precious": 1}')
    assert shared.generate("--output", "mine.mp4", "--overwrite").of("video_done")[0]["record"].endswith(".mp4.json")
    assert record(shared.folder, "mine.mp4.json")["video"]["file"] == "mine.mp4"
    full = shared.generate("--output", "full.mp4")
    assert full.code == 0
    assert "full.json" in full.of("warning")[-1]["message"]
    for name in ("mine.json", "full.json", "full.mp4.json"):
        assert (shared.folder / name).read_text() == '{"precious": 1}'


def test_every_video_of_a_sweep_and_of_another_codec_has_its_own(made: Any, shared: Any) -> None:
    stopped = shared.generate("--seed", "0,5", "--stop-after", "stage1")
    assert stopped.code == 0, stopped.err
    assert shared("promote", "last", "0", "5", "--output", "sweep.mp4").code == 0
    for seed in (0, 5):
        found = record(shared.folder, f"sweep-{seed}.json")
        assert (found["video"]["seed"], found["recipe"]["seeds"]) == (seed, [seed])
    assert shared("decode", "last", "--seed", "5", "--codec", "ffv1", "--output", "sweep-5.mkv").code == 0
    assert record(shared.folder, "sweep-5.json")["video"]["file"] == "sweep-5.mp4", "another video's record stays"
    assert record(shared.folder, "sweep-5.mkv.json")["video"]["codec"] == "ffv1"
    again = shared("generate", "--recipe", "sweep-5.mkv", "--output", "five.mkv", "--json")
    assert again.code == 0, again.err
    assert not again.of("stage_started")


def test_a_video_without_recipe_is_refused(shared: Any) -> None:
    (shared.folder / "other.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(64))
    refused = shared("generate", "--recipe", "other.mp4", "--output", "no.mp4")
    assert refused.code == 2
    assert "other.mp4" in refused.err
    assert "Traceback" not in refused.err
