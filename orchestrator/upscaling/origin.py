"""Whether a video is one that we made: then its latent, as long as the cache has it, is better than its pictures.

A video in a file went through a video encoder, whose losses the VAE's encoder would take for picture. What a run of
ours decoded is known by the file's hash, wherever the file lies by now.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from cache.home import Home
from cache.records import read_json
from cache.runs import Run, list_runs
from orchestrator.upscaling.recipe import FromRun
from weights.errors import RelayError
from weights.header import read_header
from workers.protocol import Item, Job


@dataclass(frozen=True)
class Origin:
    """fps: at which the video plays; size: its width and height. vae: fingerprint of the decoder's file."""

    latent: FromRun
    fps: Fraction
    size: tuple[int, int]
    vae: str


def find_origin(home: Home, sha256: str, size: int) -> Origin | None:
    """The newest run whose video has this hash and so many bytes, and whose latent is still there."""
    for summary in list_runs(home):
        run = Run(home.run_folder(summary.id))
        for job, item in _decoded(run):
            if not _is_video(home, item.key, sha256, size):
                continue
            found = _origin(home, run, job, item)
            if found is not None:
                return found
    return None


def _decoded(run: Run) -> Iterator[tuple[Job, Item]]:
    """What its decode worker was asked to make, if it had one."""
    try:
        job = Job.from_json(run.job_path("decode").read_text(encoding="utf-8"))
    except (OSError, ValueError, RelayError):
        return
    if job.stage == "decode" and "crop" not in job.params:  # pieces of an upscaled video are no videos
        yield from ((job, item) for item in job.items)


def _is_video(home: Home, key: str, sha256: str, size: int) -> bool:
    if not re.fullmatch(r"[0-9a-f]{64}", key):
        return False
    record = home.object_path(key).with_name(f"{key}.video.json")
    try:
        found = read_json(record, what="record of a video")
    except RelayError:
        return False
    return found.get("sha256") == sha256 and found.get("bytes") == size


def _origin(home: Home, run: Run, job: Job, item: Item) -> Origin | None:
    """None when the latent is gone, or the record is not as we write it."""
    try:
        path = Path(item.inputs["latent"])
        key = path.name.removesuffix(".safetensors")
        if not re.fullmatch(r"[0-9a-f]{64}", key) or home.object_path(key) != path:
            return None
        _, _, frames, rows, columns = read_header(path).tensors["video"].shape
        width, height = map(int, job.params["size"])
        latent = FromRun(run.id, key, (frames, rows, columns))
        return Origin(latent, Fraction(str(item.params["fps"])), (width, height), job.use("vae_decoder").fingerprint)
    except (LookupError, ValueError, TypeError, ArithmeticError, OSError, RelayError):
        return None
