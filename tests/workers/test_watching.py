"""Previews while a latent is denoised: there, seldom enough, and without a trace in the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import mlx.core as mx
import numpy as np
import pytest

from workers.context import Context
from workers.protocol import Item, Job
from workers.sampling.denoise import denoise
from workers.sampling.schedules import ltx2_sigmas
from workers.stages import watching
from workers.stages.watching import Learner, Viewer, shown, video_frame
from workers.video.colours import read_equations

SHAPE = (3, 2, 4)
ITEM = Item("a" * 64, "", {}, {"seed": 7})


class Recorder:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def emit(self, event: str, **fields: Any) -> None:
        self.events.append({"event": event, **fields})


def job(folder: Path, **preview: str) -> Job:
    asked = {"folder": str(folder), "map": str(folder / "none.safetensors"), **preview}
    return Job("stage1", (ITEM,), (), "/home", params={"shape": list(SHAPE), "preview": asked})


def predict(latent: mx.array, sigma: float) -> mx.array:
    return mx.tanh(latent.astype(mx.float32)) * sigma


def made(folder: Path, channel: Recorder, clock: Any, watched: bool = True, steps: int = 6) -> np.ndarray:
    asked = job(folder) if watched else Job("stage1", (ITEM,), (), "/home", params={"shape": list(SHAPE)})
    latent = mx.array(np.random.default_rng(0).standard_normal((1, 24, 128)).astype(np.float32))
    with Viewer(asked, Context(asked, channel), ITEM, clock=clock) as view:  # type: ignore[arg-type]
        result = denoise(view.watch(predict), latent, ltx2_sigmas(steps), on_step=view.after(lambda *_: None))
    return np.array(result)


def test_the_result_is_the_same(tmp_path: Path) -> None:
    watched = made(tmp_path, Recorder(), lambda: 0.0)
    alone = made(tmp_path, Recorder(), lambda: 0.0, watched=False)
    assert watched.tobytes() == alone.tobytes()


def test_the_first_and_the_last_step_are_shown_and_others_when_it_is_time(tmp_path: Path) -> None:
    channel = Recorder()
    made(tmp_path, channel, lambda: 5.0)  # the clock stands still
    assert [event["index"] for event in channel.events] == [1, 6]
    assert {event["path"] for event in channel.events} == {str(tmp_path / "stage1-7.png")}
    with av.open(str(tmp_path / "stage1-7.png")) as png:
        picture = next(png.decode(video=0)).to_ndarray(format="rgb24")
    assert picture.shape == (2 * 4 * 10, 4 * 4 * 3 * 10, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stage1-7.png"], "nothing half-written"


def test_a_dear_preview_waits_a_hundred_times_as_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def slow(*_: Any) -> np.ndarray:
        now[0] += 0.1
        return np.zeros((8, 16, 3), np.uint8)

    monkeypatch.setattr(watching, "colours", slow)
    asked, channel = job(tmp_path), Recorder()
    with Viewer(asked, Context(asked, channel), ITEM, clock=lambda: now[0]) as view:  # type: ignore[arg-type]
        step = view.after(lambda *_: None)
        for done in range(1, 100):
            view.watch(predict)(mx.zeros((1, 24, 128)), 1.0)
            step(done, 100, mx.zeros(1), 0.0)
            if view._pending is not None:
                view._pending.result()
            now[0] += 3.0
    # Each takes 0.3 s (three frames), so there is one in 30 s, not one in 3 s.
    assert 9 <= len(channel.events) <= 11


@pytest.mark.parametrize("folder", ["absent", "file"])
def test_a_preview_that_fails_fails_nothing(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("")
    channel = Recorder()
    assert np.isfinite(made(tmp_path / folder, channel, lambda: 0.0)).all()
    assert not channel.events


def test_a_decode_teaches_the_map(tmp_path: Path) -> None:
    """Frames come in chunks of any length; those of a run before were cut, and are only counted."""
    frames = np.random.default_rng(1).integers(0, 256, (17, 64, 128, 3), np.uint8)
    latent = mx.array(np.random.default_rng(2).standard_normal((1, 128, 3, 2, 4)).astype(np.float32))

    def learnt(name: str, cut: int) -> Any:
        learner = Learner(str(tmp_path / name), latent)
        learner.take(frames[:cut, 8:-8], whole=False)
        for at in range(cut, 17, 3):
            learner.take(frames[at : at + 3])
        learner.finish()
        return read_equations(tmp_path / name)

    assert learnt("whole", 0).cells == 3 * 8
    assert learnt("resumed", 4).cells == 2 * 8
    np.testing.assert_allclose(learnt("again", 0).inner, learnt("third", 0).inner)
    assert [video_frame(index) for index in range(3)] == [0, 4, 12]
    Learner(None, latent).take(frames)
    wrong = Learner(str(tmp_path / "odd"), latent)
    wrong.take(frames[:, :50])
    wrong.finish()
    assert not (tmp_path / "odd").exists()


def test_few_frames_are_shown_once() -> None:
    assert (shown(1), shown(2), shown(13)) == ((0,), (0, 1), (0, 6, 12))
