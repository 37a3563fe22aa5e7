"""One command makes a video: five processes, each with its own weights, and the same bits every time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

STAGES = ["text", "stage1", "stage2", "temporal", "decode"]


@pytest.fixture(scope="module")
def made(shared: Any) -> Any:
    result = shared.generate("--output", "ball.mp4")
    assert result.code == 0, result.err
    return result


def test_the_video_is_what_was_asked(made: Any, shared: Any, read_video: Callable[[Path], Any]) -> None:
    (video,) = made.of("video_done")
    assert video["path"] == str(shared.folder / "ball.mp4")
    found = read_video(shared.folder / "ball.mp4")
    assert found.frames.shape == (17, 128, 192, 3)
    assert (found.rate, found.codec, found.pixel_format) == (48, "h264", "yuv420p")
    assert found.frames.std() > 20, "a picture, not a flat colour"
    recipe = json.loads(found.metadata["comment"])
    assert recipe["prompt"] == "A red ball bouncing on green grass"
    assert recipe["seeds"] == [0]


def test_five_processes_each_with_its_own_tensors(made: Any, shared: Any) -> None:
    done = made.of("stage_done")
    assert [event["stage"] for event in done] == STAGES
    assert len({event["pid"] for event in done}) == 5
    read = {event["stage"]: {Path(path).name: n for path, n in event["bytes_read"].items()} for event in done}
    dev, lora = "ltx-2-tiny-dev.safetensors", "ltx-2-tiny-distilled-lora.safetensors"
    assert {stage: set(files) for stage, files in read.items()} == {
        "text": {"model.safetensors", dev},
        "stage1": {dev},
        "stage2": {dev, lora, "ltx-2-tiny-spatial-upscaler-x2.safetensors"},
        "temporal": {dev, "ltx-2-tiny-temporal-upscaler-x2.safetensors"},
        "decode": {dev},
    }
    weights = Path(made.of("loading")[-1]["path"])
    expected = {
        "text": ("text_embedding_projection.", "model.diffusion_model.video_embeddings_connector."),
        "stage1": ("model.diffusion_model.",),
        "temporal": ("vae.per_channel_statistics.",),
        "decode": ("vae.decoder.", "vae.per_channel_statistics."),
    }
    for stage, prefixes in expected.items():
        assert read[stage][dev] == stored_bytes(weights, prefixes, stage), stage


def stored_bytes(path: Path, prefixes: tuple[str, ...], stage: str) -> int:
    """Bytes of the tensors with these prefixes; the connector's are not the transformer's."""
    total = 0
    with safe_open(path, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118
            connector = ".video_embeddings_connector." in name
            if name.startswith(prefixes) and not (stage == "stage1" and connector):
                shape = file.get_slice(name).get_shape()
                count = 2
                for length in shape:
                    count *= length
                total += count
    return total


def test_runs_show_says_what_each_stage_did(made: Any, shared: Any) -> None:
    shown = json.loads(shared("runs", "show", "last", "--json").out)
    assert shown["status"] == "done"
    for stage, event in zip(shown["stages"], made.of("stage_done"), strict=True):
        assert (stage["name"], stage["status"], stage["pid"]) == (event["stage"], "computed", event["pid"])
        assert stage["seconds"] > 0
        assert stage["process_peak"] > 10 << 20
        assert stage["bytes_read"] == event["bytes_read"]
        assert all(Path(path).is_file() for path in stage["artifacts"])


def test_memory_over_time_is_kept_with_the_run(made: Any, shared: Any) -> None:
    """From inside (MLX and the system) and from outside, under the limits that the job names; the peak is above all."""
    folder = shared.runs()[0]
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [event for event in events if event["event"] == "memory"] == made.of("memory")
    peaks = {event["stage"]: event for event in made.of("stage_done")}
    for event in made.of("memory"):
        done = peaks[event["stage"]]
        assert 0 <= event["mlx_active"] <= event["mlx_peak"] <= done["mlx_peak"]
        assert 10 << 20 < event["process"] <= done["process_peak"]
    samples = [event for event in events if event["event"] == "sample"]  # none of a worker that is done in 0.2 s
    assert all(event["resident"] <= event["peak"] <= peaks[event["stage"]]["process_peak"] for event in samples)
    for name in STAGES:
        limits = json.loads((folder / "jobs" / f"{name}.json").read_text())["limits"]
        assert limits["memory"] > peaks[name]["mlx_peak"] > 0
        assert limits["cache"] is not None


def test_the_json_stream_can_be_followed(made: Any) -> None:
    kinds = [event["event"] for event in made.events]
    assert kinds[0] == "run_started"
    assert kinds[-1] == "run_done"
    assert {"stage_started", "loading", "loaded", "step", "memory", "stage_done", "video_done"} <= set(kinds)
    steps = [(event["index"], event["total"]) for event in made.of("step") if event["stage"] == "stage1"]
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert len({event["run"] for event in made.events}) == 1


def test_the_same_again_computes_nothing(made: Any, shared: Any) -> None:
    again = shared.generate("--output", "ball.mp4")
    assert again.code == 0
    assert [event["stage"] for event in again.of("stage_cached")] == STAGES
    assert not again.of("stage_started")


def test_a_removed_video_comes_back_without_computing(made: Any, shared: Any) -> None:
    video = shared.folder / "ball.mp4"
    before = video.read_bytes()
    video.unlink()
    assert not shared.generate("--output", "ball.mp4").of("stage_started")
    assert video.read_bytes() == before


def test_a_late_change_reuses_every_earlier_stage(made: Any, shared: Any) -> None:
    result = shared.generate("--no-temporal", "--output", "base.mp4")
    assert [event["stage"] for event in result.of("stage_started")] == ["decode"]
    assert (result.of("video_done")[0]["frames"], result.of("video_done")[0]["fps"]) == (9, "24")


def test_a_foreign_file_is_not_overwritten(made: Any, shared: Any) -> None:
    (shared.folder / "mine.mp4").write_text("precious")
    refused = shared("generate", "A red ball bouncing on green grass", "--model", "tiny", "--output", "mine.mp4")
    assert refused.code == 2
    assert "mine.mp4" in refused.err
    assert (shared.folder / "mine.mp4").read_text() == "precious"
    allowed = shared.generate("--output", "mine.mp4", "--overwrite")
    assert allowed.code == 0
    assert (shared.folder / "mine.mp4").read_bytes() == (shared.folder / "ball.mp4").read_bytes()


def test_two_fresh_homes_give_the_same_bytes(made: Any, shared: Any, program: Any) -> None:
    other = program.generate("--output", "ball.mp4")
    assert (program.folder / "ball.mp4").read_bytes() == (shared.folder / "ball.mp4").read_bytes()
    for one in made.of("stage_done"):
        assert one["stage"] in [event["stage"] for event in other.of("stage_done")]
    first = {path.name: path.read_bytes() for path in (shared.home / "objects").glob("*/*.safetensors")}
    second = {path.name: path.read_bytes() for path in (program.home / "objects").glob("*/*.safetensors")}
    assert len(second) == 4
    assert second == {name: first[name] for name in second}


def test_a_sweep_loads_each_network_once(shared: Any) -> None:
    result = shared.generate("--seed", "7,8", "--output", "sweep.mp4")
    started = [event["stage"] for event in result.of("stage_started")]
    assert started == ["stage1", "preview", "stage2", "temporal", "decode"], "the text is shared"
    assert [event["role"] for event in result.of("loading") if event["stage"] == "stage1"] == ["transformer"]
    paths = [Path(event["path"]).name for event in result.of("video_done")]
    assert paths == ["sweep-7.mp4", "sweep-8.mp4"]
    single = shared.generate("--seed", "8", "--output", "eight.mp4")
    assert not single.of("stage_started"), "a seed's video does not depend on its neighbours"


def test_keep_base_keeps_the_video_before_the_temporal_upscaler(
    shared: Any, made: Any, read_video: Callable[[Path], Any]
) -> None:
    result = shared.generate("--keep-base", "--output", "both.mp4")
    assert {event["role"] for event in result.of("video_done")} == {"video", "base"}
    assert len(read_video(shared.folder / "both.base.mp4").frames) == 9
    assert len(read_video(shared.folder / "both.mp4").frames) == 17


@pytest.mark.parametrize(("codec", "suffix"), [("hevc", ".mp4"), ("prores", ".mov"), ("ffv1", ".mkv")])
def test_codecs(shared: Any, made: Any, codec: str, suffix: str, read_video: Callable[[Path], Any]) -> None:
    result = shared.generate("--codec", codec, "--output", f"{codec}{suffix}")
    assert [event["stage"] for event in result.of("stage_started")] == ["decode"]
    assert len(read_video(shared.folder / f"{codec}{suffix}").frames) == 17


def test_a_final_size_is_cut_from_the_middle(shared: Any, made: Any, read_video: Callable[[Path], Any]) -> None:
    arguments = (
        "--model",
        "tiny",
        "--size",
        "180x100",
        "--frames",
        "9",
        "--steps-stage1",
        "2",
        "--preset",
        "two-stage",
    )
    assert shared("generate", "a blue square", *arguments, "--output", "cut.mp4").code == 0
    assert read_video(shared.folder / "cut.mp4").frames.shape[1:3] == (100, 180)


def test_draft_is_one_stage_of_the_distilled_model(shared: Any, made: Any) -> None:
    arguments = ("--model", "tiny", "--preset", "draft", "--height", "64", "--width", "96", "--frames", "9", "--json")
    result = shared("generate", "A red ball bouncing on green grass", *arguments, "--output", "draft.mp4")
    assert result.code == 0, result.err
    assert [event["stage"] for event in result.of("stage_started")] == ["stage1", "decode"]
    assert len([event for event in result.of("step") if event["stage"] == "stage1"]) == 8
    (read,) = [event["bytes_read"] for event in result.of("stage_done") if event["stage"] == "stage1"]
    assert any("distilled-lora" in path for path in read)
