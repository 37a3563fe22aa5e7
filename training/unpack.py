"""The way back from `export`: a finished model's files as the parts that training goes on from.

    python -m training.unpack weights/tiny --out DIR

Writes VAE, text stack, transformer (as DIR/joint, where `refine` begins) and upsamplers. They are bfloat16 in both, so
nothing is lost. `python -m training.pipeline --out DIR` then refines that transformer further, distils it, and exports.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from training import files
from training.configuration import UPSAMPLERS

_NETWORK, _CONNECTOR = "model.diffusion_model.", "video_embeddings_connector."
_AGGREGATE = "aggregate_embed.weight"


def unpack(release: Path, out: Path) -> None:
    """Every file that a stage of the pipeline would have written, but the LoRA's."""
    for name in ("vae", "joint", "upsamplers", "gemma-tiny"):
        (out / name).mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(release / "gemma-tiny" / name, out / "gemma-tiny" / name)
    checkpoint = release / "ltx-2-tiny-dev.safetensors"
    files.save(out / "vae" / "vae.safetensors", files.load(checkpoint, "vae."))
    network = files.load(checkpoint, _NETWORK)
    transformer = {name: value for name, value in network.items() if not name.startswith(_CONNECTOR)}
    files.save(out / "joint" / "transformer.safetensors", transformer)
    text = {
        f"connector.{name.removeprefix(_CONNECTOR)}": value
        for name, value in network.items()
        if name.startswith(_CONNECTOR)
    }
    text[f"feature_extractor.{_AGGREGATE}"] = files.load(checkpoint, "text_embedding_projection.")[_AGGREGATE]
    gemma = files.load(release / "gemma-tiny" / "model.safetensors", "language_model.model.")
    text |= {f"gemma.{name}": value for name, value in gemma.items()}
    files.save(out / "joint" / "text.safetensors", text)
    for kind, config in UPSAMPLERS.items():
        state = files.load(release / f"ltx-2-tiny-{kind}-upscaler-x2.safetensors")
        files.save(out / "upsamplers" / f"{kind}.safetensors", state, config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    unpack(options.release, options.out)


if __name__ == "__main__":
    main()
