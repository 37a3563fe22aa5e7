"""The bundled tiny model laid out as the guide says: `weights/ltx-2/` with the official names, nowhere "tiny"."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

from weights.tiny_model import tiny_folder

NAMES = {
    "ltx-2-19b-dev.safetensors": "ltx-2-tiny-dev.safetensors",
    "ltx-2-19b-distilled.safetensors": "ltx-2-tiny-dev.safetensors",
    "ltx-2-19b-distilled-lora-384.safetensors": "ltx-2-tiny-distilled-lora.safetensors",
    "ltx-2-spatial-upscaler-x2-1.0.safetensors": "ltx-2-tiny-spatial-upscaler-x2.safetensors",
    "ltx-2-temporal-upscaler-x2-1.0.safetensors": "ltx-2-tiny-temporal-upscaler-x2.safetensors",
}
"""Official name -> the tiny file that stands for it. A distilled tiny checkpoint is not bundled; dev's tensors do."""


def without_version(source: Path) -> bytes:
    """The file with a header like the 19B's, which says no version: else it would have the tiny model's sizes."""
    data = source.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    del header["__metadata__"]["model_version"]
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data[8 + length :]


def lay_out(folder: Path, without: tuple[str, ...] = ()) -> Path:
    """Writes the files into `folder`, but those whose names begin with one of `without`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tiny in NAMES.items():
        if not name.startswith(without):
            (folder / name).write_bytes(without_version(tiny_folder() / tiny))
    shutil.copytree(tiny_folder() / "gemma-tiny", folder / "gemma-3-12b")
    return folder
