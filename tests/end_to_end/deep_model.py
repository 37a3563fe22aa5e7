"""The tiny model with many more blocks that do nothing: its videos to the bit, and a hundred times its memory."""

from __future__ import annotations

import json
from pathlib import Path

from tests.weights.sparse import pack
from weights.architecture.transformer import BLOCKS
from weights.header import read_header
from weights.tiny_model import tiny_folder

PREFIX = "model.diffusion_model."
BLOCK_BYTES = 3_226_496
"""Of one block in float32."""


def write_deep_model(folder: Path, blocks: int) -> Path:
    """A folder for `--model`. The added blocks are zeros (a hole in the file), so that each adds zero to its input."""
    folder.mkdir()
    (folder / "gemma-tiny").symlink_to(tiny_folder() / "gemma-tiny")
    tiny = tiny_folder() / "ltx-2-tiny-dev.safetensors"
    header = read_header(tiny)
    data = tiny.read_bytes()[header.header_size :]
    config = json.loads(header.metadata["config"])
    first = config["transformer"]["num_layers"]
    config["transformer"]["num_layers"] = blocks
    entries: dict[str, object] = {"__metadata__": {**header.metadata, "config": json.dumps(config)}}
    end = len(data)
    for name, info in header.tensors.items():
        offsets = [info.start - header.header_size, info.end - header.header_size]
        entries[name] = {"dtype": info.dtype, "shape": info.shape, "data_offsets": offsets}
    for index in range(first, blocks):
        for name, info in header.tensors.items():
            block, _, rest = name.removeprefix(f"{PREFIX}{BLOCKS}").partition(".")
            if name.startswith(f"{PREFIX}{BLOCKS}") and block == "0":
                size = info.end - info.start
                entry = {"dtype": info.dtype, "shape": info.shape, "data_offsets": [end, end + size]}
                entries[f"{PREFIX}{BLOCKS}{index}.{rest}"] = entry
                end += size
    path = folder / "ltx-2-deep-dev.safetensors"
    start = pack(entries, data)
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(len(start) - len(data) + end)
    return folder
