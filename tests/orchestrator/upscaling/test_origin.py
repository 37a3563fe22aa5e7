"""A video of ours is known by its content; what cannot be used is passed over without a word of trouble."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cache.artifacts import Tensor, publish
from cache.home import Home, open_home
from cache.runs import create_run
from cache.videos import publish_video
from orchestrator.upscaling.origin import find_origin
from workers.protocol import Item, Job, WeightsUse

KEY, LATENT = "d" * 64, "e" * 64
CONTENT = b"the very video"
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def job_of(home: Home) -> Job:
    item = Item(
        KEY, str(home.object_path(KEY, ".mp4")), {"latent": str(home.object_path(LATENT))}, {"fps": "24", "seed": 0}
    )
    uses = (WeightsUse("statistics", "a", "fp"), WeightsUse("vae_decoder", "a", "fp"))
    return Job("decode", (item,), uses, str(home.root), params={"size": [96, 64]})


def made(home: Home, job: Job | str | None = None) -> str:
    """A home with a run, its video and its latent; the run's id."""
    temporary = home.tmp / "video"
    temporary.write_bytes(CONTENT)
    publish_video(home, KEY, temporary, ".mp4")
    data = bytes(128 * 2 * 2 * 3 * 4)
    publish(home.object_path(LATENT), {"video": Tensor("F32", (1, 128, 2, 2, 3), data)}, {"key": LATENT, "stage": "x"})
    run = create_run(home, {"format": 1, "prompt": "a"}, "a")
    job = job or job_of(home)
    run.job_path("decode").write_text(job if isinstance(job, str) else job.to_json())
    return run.id


def test_the_run_and_its_latent_are_found_by_content(home: Home) -> None:
    run = made(home)
    found = find_origin(home, SHA, len(CONTENT))
    assert found is not None
    assert (found.latent.run, found.latent.key, found.latent.shape) == (run, LATENT, (2, 2, 3))
    assert (found.fps, found.size, found.vae) == (24, (96, 64), "fp")


def test_another_video_is_not(home: Home) -> None:
    made(home)
    assert find_origin(home, "0" * 64, len(CONTENT)) is None
    assert find_origin(home, SHA, 1) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda job: "{",
        lambda job: json.dumps({"format": 99}),
        lambda job: replace(job, stage="temporal"),
        lambda job: replace(job, params={}),
        lambda job: replace(job, params={"size": ["a", "b"]}),
        lambda job: replace(job, params={**job.params, "crop": [0, 0, 1, 1]}),
        lambda job: replace(job, weights=()),
        lambda job: replace(job, items=(replace(job.items[0], inputs={}),)),
        lambda job: replace(job, items=(replace(job.items[0], inputs={"latent": "/etc/passwd"}),)),
        lambda job: replace(job, items=(replace(job.items[0], key="../../x"),)),
        lambda job: replace(job, items=(replace(job.items[0], params={"fps": "0/0"}),)),
    ],
)
def test_records_that_cannot_be_used_are_passed_over(home: Home, change: Callable[[Job], Job | str]) -> None:
    made(home, change(job_of(home)))
    assert find_origin(home, SHA, len(CONTENT)) is None


def test_a_latent_that_is_gone_is_not_used(home: Home) -> None:
    made(home)
    home.object_path(LATENT).unlink()
    assert find_origin(home, SHA, len(CONTENT)) is None


def test_no_runs_no_origin(home: Home) -> None:
    assert find_origin(home, SHA, len(CONTENT)) is None
