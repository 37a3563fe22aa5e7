"""Makes the map from the tiny model's latents to colours that comes along, so that its first run has coloured previews.

    uv run python -m training.preview_colours [--clips 60]

Clips of the world are drawn and encoded by the tiny model's own VAE; the decode stage learns the same from the videos
that it makes (`workers.video.colours`), here it learns from drawings.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import mlx.core as mx
import numpy as np

from training.world import captions, scenes
from weights import reader
from weights.fingerprint import fingerprint
from weights.select import select
from weights.tiny_model import tiny_folder
from workers.stages.watching import video_frame
from workers.video import colours, vae

HEIGHT, WIDTH, FRAMES = 256, 384, 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=60)
    asked = parser.parse_args()
    checkpoint = tiny_folder() / "ltx-2-tiny-dev.safetensors"
    path = colours.KNOWN / f"{fingerprint(checkpoint)}.safetensors"
    encoder, statistics = select(checkpoint, "vae_encoder"), reader.load(select(checkpoint, "statistics"), mx.float32)
    weights = reader.load(encoder, mx.float32)
    path.unlink(missing_ok=True)
    total = None
    for index, combination in enumerate(random.Random(0).sample(captions.all_combinations(), asked.clips)):
        frames = drawn(combination, index)
        latent = np.array(vae.encode(weights, encoder.config, statistics, frames, None, mx.float32))[0]
        pictures = np.stack([colours.small(frames[video_frame(at)]) for at in range(latent.shape[1])])
        made = colours.equations(latent.swapaxes(0, 1), pictures)
        total = made if total is None else total + made
    assert total is not None
    colours.save_equations(path, total)
    print(f"{Path(path).name}: {total.cells:.0f} cells")


def drawn(combination: captions.Combination, seed: int) -> np.ndarray:
    """One clip as it would be decoded, `[9, 256, 384, 3]`."""
    rng = np.random.default_rng(seed)
    sampled = scenes.sample_scenes(
        np.array([combination]), (HEIGHT, WIDTH), lambda n, k: rng.random((n, k), dtype=np.float32)
    )
    video = scenes.render(sampled, HEIGHT, WIDTH, FRAMES, 24.0)[0].transpose(1, 2, 3, 0)
    return np.asarray((np.clip(video, -1, 1) + 1) * 127.5, np.uint8)


if __name__ == "__main__":
    main()
