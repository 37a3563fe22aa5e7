"""What is left of a run: inside the video and beside it, to make it again; previews and the report, to look at."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import SMALL
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


def test_previews_of_both_stages(made: Any, shared: Any) -> None:
    seen = {event["stage"]: event for event in made.of("preview")}
    assert set(seen) == {"stage1", "stage2"}
    for name, event in seen.items():
        assert (event["index"], event["total"]) == (3, 3)
        assert Path(event["path"]) == shared.runs()[0] / "previews" / f"{name}-0.png"
        assert Path(event["path"]).read_bytes().startswith(b"\x89PNG")
    assert list((shared.home / "colours").iterdir()), "the decode learnt how latents look"


def test_the_report_of_a_run(made: Any, shared: Any) -> None:
    path = shared.runs()[0] / "report.html"
    assert made.of("run_done")[0]["report"] == str(path)
    html = path.read_text()
    assert html.count("data:image/jpeg") == 8
    for said in ("A red ball bouncing on green grass", "ball.mp4", "one process that held everything", "stage 2"):
        assert said in html
    opened = shared("runs", "open", shared.runs()[0].name, "--print-path", DISPLAY=":0")
    assert (opened.code, opened.out) == (0, f"{path}\n")


def test_the_report_of_a_cached_run_has_its_pictures_and_takes_no_time(made: Any, shared: Any) -> None:
    """Without the libraries that computing needs; and made again where it is missing."""
    words = ["generate", "A red ball bouncing on green grass", *SMALL, "--output", "ball.mp4"]
    code = (
        f"import sys; from orchestrator.cli import main; assert main({words!r}) == 0; "
        "print(sorted({'mlx', 'numpy', 'av'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=shared.folder, env=shared.environment, capture_output=True, text=True
    )
    assert ended.stdout.splitlines()[-1] == "[]", ended.stderr
    report = shared.runs()[-1] / "report.html"
    assert report.read_text().count("data:image/jpeg") == 8
    report.unlink()
    assert shared("runs", "open").code == 0
    assert "from the cache" in report.read_text()


def test_a_failed_run_has_a_report_too(program: Any) -> None:
    ended = program.kill_worker(lambda event: event["event"] == "preview", "--no-retry", "--output", "ball.mp4")
    assert ended.code == 7
    [report] = [event["report"] for event in ended.of("error")]
    html = Path(report).read_text()
    assert "exit code 7" in html
    assert "ltx-relay resume" in html
    assert "data:image/png" in html, "how far it came"


def test_a_report_that_cannot_be_written_ends_no_run(program: Any) -> None:
    code = (
        "from orchestrator.report import write; from orchestrator import cli, relay_run; "
        "relay_run.write_report = lambda *a, **k: 1 / 0; "
        f"raise SystemExit(cli.main(['generate', 'a', *{SMALL!r}, '--stop-after', 'text']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=program.folder, env=program.environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert "There is no report of this run" in ended.stderr
