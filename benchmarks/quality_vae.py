"""What the tiny model's VAE alone does to a picture: drawn clips, encoded and decoded by the product's networks.

    python -m benchmarks.quality_vae OUT.npy [--count 32] [--seed 11] [--checkpoint FILE]

For `benchmarks.quality`, which starts it in a worker's environment. OUT.npy has the clips as they came back, as bytes
`[count, 25, 256, 384, 3]`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mlx.core as mx
import numpy as np

from benchmarks.quality_videos import drawn, draws
from weights import reader
from weights.select import select
from weights.tiny_model import tiny_folder
from workers.video.vae import decode, encode

CHECKPOINT = "ltx-2-tiny-dev.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--checkpoint", type=Path, default=tiny_folder() / CHECKPOINT, help="default: the bundled one")
    asked = parser.parse_args()
    roles = ("vae_encoder", "statistics", "vae_decoder")
    chosen = [select(asked.checkpoint, role) for role in roles]
    into, statistics, back = (reader.load(selection, mx.float32) for selection in chosen)
    sampled, _ = draws(asked.count, asked.seed)
    clips = []
    for index in range(asked.count):
        pixels = np.round(drawn(sampled, index) * 255).astype(np.uint8)
        latent = encode(into, chosen[0].config, statistics, pixels, None, mx.float32)
        clips.append(np.concatenate(list(decode(back, chosen[2].config, statistics, latent, None, mx.float32))))
    np.save(asked.out, np.stack(clips))


if __name__ == "__main__":
    main()
