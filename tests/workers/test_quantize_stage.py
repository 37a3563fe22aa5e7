"""A quantised text encoder's folder gets its name when everything in it is on the disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cache import durable
from weights.quantize_plan import plan
from weights.tiny_model import tiny_folder
from workers.channel import EventChannel
from workers.context import Context
from workers.protocol import Item, Job, WeightsUse
from workers.stages import quantize

pytestmark = pytest.mark.usefixtures("on_the_cpu")


def test_every_file_is_synced_before_the_folder_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, output = tiny_folder() / "gemma-tiny", tmp_path / "gemma-copy"
    synced: set[int] = set()
    original, commit = os.fsync, durable.commit

    def fsync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        original(descriptor)

    def named(temporary: Path, path: Path) -> None:
        for file in temporary.iterdir() if temporary.is_dir() else ():
            assert file.stat().st_ino in synced, file.name
        commit(temporary, path)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(durable.fcntl, "F_FULLFSYNC", None, raising=False)
    monkeypatch.setattr(quantize, "commit", named)
    job = Job("quantize", (Item("k", str(output)),), (WeightsUse("gemma", str(source), ""),), "", params={"bits": 8})
    channel: Any = EventChannel(None)
    quantize.run(job, Context(job, channel))
    assert {path.name for path in output.iterdir()} == {path.name for path in source.iterdir()}
    (found,) = plan(source, 8).files
    assert (output / "model.safetensors").stat().st_size == found.size
    for path in source.iterdir():
        if path.name.startswith("tokenizer"):
            assert (output / path.name).read_bytes() == path.read_bytes()
