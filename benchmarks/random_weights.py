"""Full-size weights files with random content, in the official layout, from the inventories in tests/data.

    uv run python -m benchmarks.random_weights FOLDER

Writes what the video path of LTX-2 19B reads: the checkpoint's video tensors (30.7 GB; the distilled one is a hard link
to it, as random weights are alike), both upscalers, Gemma 3 12B's text tensors (23.5 GB) with the tiny model's
tokenizer, and the distilled LoRA (7.5 GB), beside the others in a folder FOLDER-lora that has no distilled checkpoint.
For measuring time and memory only: what such a model makes is noise.

Matrices are N(0, 1/inputs), norms are near their neutral value, biases and tables are small, so that activations stay
of the order of one. The decoder's last layer is much smaller: its noise is faint, so that a video encoder takes as long
for it as for a calm picture. Values are pieces of one pool of random numbers at odd offsets.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import math
import os
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).parent.parent
INVENTORIES = ROOT / "tests" / "data" / "inventories"
TOKENIZER = ROOT / "weights" / "tiny" / "gemma-tiny"
POOL = (1 << 23) + 9
BYTES = {"F32": 4, "BF16": 2}
PIECE = 1 << 22

CHECKPOINT_PARTS = (
    "model.diffusion_model.",
    "text_embedding_projection.",
    "vae.",
)
AUDIO = ("audio_", "av_ca_", "video_to_audio_attn", "scale_shift_table_a2v_ca_")


def inventory(name: str) -> dict[str, Any]:
    with gzip.open(INVENTORIES / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        return dict(json.load(file))


def is_video(name: str) -> bool:
    """Whether the video path reads it; audio parts are left out of the file altogether."""
    if not name.startswith(CHECKPOINT_PARTS):
        return False
    inner = name.removeprefix("model.diffusion_model.")
    if inner.startswith("transformer_blocks."):
        inner = inner.split(".", 2)[2]
    return not inner.startswith(AUDIO)


class Pool:
    """Standard normal numbers; a tensor's values depend on its name alone."""

    def __init__(self) -> None:
        self.normal = np.random.Generator(np.random.Philox(0)).standard_normal(POOL, dtype=np.float32)
        self.kinds: dict[tuple[float, float, str], bytes] = {}

    def pieces(self, name: str, dtype: str, shape: list[int]) -> Iterator[memoryview]:
        """The bytes of a tensor."""
        scale, offset = scale_of(name, shape)
        key = (scale, offset, dtype)
        if key not in self.kinds:
            if len(self.kinds) > 8:
                self.kinds.pop(next(iter(self.kinds)))
            self.kinds[key] = as_bytes(self.normal * np.float32(scale) + np.float32(offset), dtype)
        pool, size, left = memoryview(self.kinds[key]), BYTES[dtype], math.prod(shape)
        state = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        while left:
            start = (state % (POOL // 2)) | 1
            state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
            take = min(left, POOL - start)
            yield pool[start * size : (start + take) * size]
            left -= take


def as_bytes(values: npt.NDArray[np.float32], dtype: str) -> bytes:
    if dtype == "F32":
        return values.tobytes()
    bits = values.view(np.uint32)
    return ((bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16).astype(np.uint16).tobytes()


def scale_of(name: str, shape: list[int]) -> tuple[float, float]:
    """(standard deviation, mean) of a tensor's values."""
    last = name.rsplit(".", 1)[-1]
    if ".per_channel_statistics." in name:
        return 0.1, 1.0
    if last == "kernel":  # a blur: all weights alike
        return 0.0, 1.0 / math.prod(shape)
    if last == "learnable_registers":
        return 1.0, 0.0
    if name.endswith(".lora_B.weight"):  # the product is a tenth of a weight
        return 0.1 / math.sqrt(shape[1]), 0.0
    if name == "vae.decoder.conv_out.conv.weight":
        return 0.02 / math.sqrt(math.prod(shape[1:])), 0.0
    if last == "weight" and len(shape) == 1:
        # Gemma's norms multiply by one plus the weight.
        return 0.05, 0.0 if name.startswith("language_model.") else 1.0
    if len(shape) <= 1 or "table" in last:
        return 0.02, 0.0
    return 1.0 / math.sqrt(math.prod(shape[1:])), 0.0


def write(path: Path, tensors: Mapping[str, list[Any]], metadata: dict[str, str], pool: Pool) -> None:
    head: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + math.prod(shape) * BYTES[dtype]
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb", buffering=PIECE) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, (dtype, shape) in tensors.items():
            for piece in pool.pieces(name, dtype, shape):
                file.write(piece)
    print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size:,} bytes", flush=True)


def metadata_of(document: Mapping[str, Any]) -> dict[str, str]:
    found = {"format": "pt"}
    if document["metadata"].get("config") is not None:
        found["config"] = json.dumps(document["metadata"]["config"])
    if document["metadata"].get("model_version"):
        found["model_version"] = document["metadata"]["model_version"]
    return found


def write_video_path(folder: Path, pool: Pool) -> None:
    """The checkpoint under both its names, and the upscalers."""
    for name in (
        "ltx-2-19b-dev",
        "ltx-2-spatial-upscaler-x2-1.0",
        "ltx-2-temporal-upscaler-x2-1.0",
    ):
        document = inventory(name)
        tensors = document["tensors"]
        if name.endswith("-dev"):
            tensors = {key: value for key, value in tensors.items() if is_video(key)}
        write(folder / f"{name}.safetensors", tensors, metadata_of(document), pool)
    os.link(folder / "ltx-2-19b-dev.safetensors", folder / "ltx-2-19b-distilled.safetensors")


def write_lora(folder: Path, beside: Path, pool: Pool) -> None:
    """The LoRA in a folder of its own, with links to everything but the distilled checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "ltx-2-19b-distilled-lora-384"
    document = inventory(name)
    write(folder / f"{name}.safetensors", document["tensors"], metadata_of(document), pool)
    for other in ("ltx-2-19b-dev", "ltx-2-spatial-upscaler-x2-1.0", "ltx-2-temporal-upscaler-x2-1.0"):
        (folder / f"{other}.safetensors").symlink_to((beside / f"{other}.safetensors").resolve())
    (folder / "gemma-3-12b").symlink_to((beside / "gemma-3-12b").resolve())


def write_gemma(folder: Path, pool: Pool) -> None:
    """The text tensors in one file per shard of the official model."""
    folder.mkdir(parents=True, exist_ok=True)
    document = inventory("gemma-3-12b-it")
    places: dict[str, str] = {}
    for shard, names in document["shards"].items():
        chosen = {name: document["tensors"][name] for name in names if name.startswith("language_model.")}
        if chosen:
            write(folder / shard, chosen, {"format": "pt"}, pool)
            places |= dict.fromkeys(chosen, shard)
    index = {"metadata": {}, "weight_map": dict(sorted(places.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(document["model_config"]))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / name, folder / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=("video", "gemma", "lora"), help="a part: all three can run at once")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    if asked.only in (None, "video"):
        write_video_path(asked.folder, Pool())
    if asked.only in (None, "gemma"):
        write_gemma(asked.folder / "gemma-3-12b", Pool())
    if asked.only in (None, "lora"):
        write_lora(asked.folder.with_name(f"{asked.folder.name}-lora"), asked.folder, Pool())


if __name__ == "__main__":
    main()
