"""Quantise: a copy of a checkpoint, or of a text encoder's folder, with its blocks' linear layers in 8 or 4 bits.

No stage of a run: `ltx-relay weights quantize` starts it. The copy gets its name when it is whole and on the disk.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from cache.durable import (
    commit,
    make_folder,
    publish_bytes,
    publish_chunks,
    publish_text,
    remove,
    temporary_path,
    write_error,
)
from weights.catalogue import CHECKPOINT
from weights.header_folder import CONFIG, INDEX
from weights.header_json import read_json
from weights.quantize_file import chunks
from weights.quantize_plan import QUANTIZATION, FilePlan, QuantizePlan, plan, stated
from workers.context import Context
from workers.protocol import Job


def run(job: Job, context: Context) -> None:
    """The one item's `output` is the copy; `bits` in the job's parameters."""
    (item,), (use,) = job.items, job.weights
    began = time.monotonic()
    planned, output = plan(Path(use.path), job.params["bits"]), Path(item.output)
    context.emit("loading", role=use.role, path=use.path, bytes=sum(file.source.file_size for file in planned.files))
    progress = Progress(context, item.key, planned.layers)
    if planned.kind == CHECKPOINT:
        write(planned.files[0], output, progress)
    else:
        write_folder(planned, output, progress)
    context.emit("artifact", key=item.key, path=item.output, bytes=planned.size, seconds=time.monotonic() - began)


class Progress:
    """A step for each layer."""

    def __init__(self, context: Context, key: str, total: int) -> None:
        self.context, self.key, self.total = context, key, total
        self.done, self.stepped = 0, time.monotonic()

    def layer(self, name: str) -> None:
        now = time.monotonic()
        self.done += 1
        self.context.step(self.key, self.done, self.total, now - self.stepped)
        self.stepped = now
        self.context.check_stop()

    def read(self, path: Path, size: int) -> None:
        self.context.record_read(path, size)
        self.context.heartbeat()


def write(file: FilePlan, output: Path, progress: Progress) -> None:
    publish_chunks(output, chunks(file, on_read=progress.read, on_layer=progress.layer), file.size)


def write_folder(planned: QuantizePlan, output: Path, progress: Progress) -> None:
    """Shard by shard, with an index of the new names; tokenizer and other small files are copied."""
    folder = temporary_path(output.parent, ".folder")
    try:
        make_folder(folder)
        names: dict[str, str] = {}
        for file in planned.files:
            write(file, folder / file.source.path.name, progress)
            names |= dict.fromkeys(json.loads(file.header[8:]), file.source.path.name)
        names.pop("__metadata__")
        config = {**read_json(planned.path / CONFIG), QUANTIZATION: stated(planned.bits)}
        publish_text(folder / CONFIG, json.dumps(config, indent=2))
        if (planned.path / INDEX).exists():
            total = sum(file.size - len(file.header) for file in planned.files)
            index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(names.items()))}
            publish_text(folder / INDEX, json.dumps(index, indent=2))
        for entry in sorted(planned.path.iterdir()):
            if entry.suffix != ".safetensors" and entry.name not in (CONFIG, INDEX) and entry.is_file():
                publish_bytes(folder / entry.name, entry.read_bytes())
        commit(folder, output)
    except BaseException as error:
        remove(folder)
        if isinstance(error, OSError):
            raise write_error(error, output, planned.size) from error
        raise
