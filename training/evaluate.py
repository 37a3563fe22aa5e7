"""Measures every stage of a trained model on prompts that no network has seen, in the training's own code.

    python -m training.evaluate --vae FILE --tokenizer FILE --text FILE --transformer FILE --lora FILE
        --spatial FILE --temporal FILE --out DIR [--prompts 96] [--renders 64] [--cfg 5]

Writes DIR/eval.json and contact sheets. `benchmarks/tiny_adherence.py` measures the same through the product.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training import files, networks
from training.configuration import DISTILLED_SIGMAS, STAGE2_SIGMAS
from training.contact_sheet import save_sheet
from training.data import Captions, combinations
from training.device import DEVICE, prepare, uniform
from training.lora import merge
from training.refine import load_text
from training.sampling import sample, schedule
from training.world import captions, scenes
from training.world.captions import Combination
from training.world.measure import measure, summarise

_HEIGHT, _WIDTH, _FRAMES = 256, 384, 25
_BASE, _TWICE = (4, 4, 6), (4, 8, 12)
_BATCH = 16


@dataclass(frozen=True)
class Networks:
    encoder: nn.Module
    decoder: nn.Module
    dev: nn.Module
    distilled: nn.Module
    spatial: nn.Module
    temporal: nn.Module


def load(options: argparse.Namespace) -> Networks:
    encoder, decoder = networks.load_vae(options.vae)
    dev, distilled = (networks.load_transformer(options.transformer).eval() for _ in range(2))
    distilled.load_state_dict(merge(files.load(options.transformer), files.load(options.lora)))
    upsamplers = []
    for kind in ("spatial", "temporal"):
        network = networks.build_upsampler(kind).to(DEVICE).eval()
        network.load_state_dict(files.load(getattr(options, kind)))
        upsamplers.append(network)
    return Networks(encoder, decoder, dev, distilled, *upsamplers)


class Table:
    """Rows of measured videos, printed as they come and written at the end."""

    def __init__(self, out: Path) -> None:
        self.out, self.rows = out, {}

    def add(self, name: str, videos: Tensor, named: Sequence[Combination], labels: Sequence[str] = ()) -> None:
        """Measures videos `[n, 3, frames, height, width]` in [-1, 1]."""
        pixels = ((videos.clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 4, 1).cpu().numpy()
        self.rows[name] = summarise([measure(video, row) for video, row in zip(pixels, named, strict=True)], named)
        print(name, {key: round(value, 3) for key, value in self.rows[name].items()}, flush=True)
        if labels:
            steps = [frame * (videos.shape[2] - 1) // 3 for frame in range(4)]
            path = self.out / f"{name.replace(' ', '_')}.png"
            save_sheet(list(videos[:32]), path, frames=steps, labels=labels, scale=96 / videos.shape[3])


def measure_renders(table: Table, models: Networks, count: int) -> None:
    """The ceiling, the floor, and what the VAE alone loses."""
    unseen = combinations(held_out=True)
    chosen = unseen[torch.randint(len(unseen), (count,))]
    named = [Combination(*row) for row in chosen.tolist()]
    drawn = scenes.sample_scenes(chosen.to(DEVICE), (_HEIGHT, _WIDTH), uniform)
    real = torch.cat(
        [scenes.render(drawn[i : i + 8], _HEIGHT, _WIDTH, _FRAMES, 24.0).cpu() for i in range(0, count, 8)]
    )
    table.add("real renders", real, named)
    table.add("real renders, wrong prompts", real, named[-7:] + named[:-7])
    latents = [networks.encode(models.encoder, video[None].to(DEVICE)) for video in real]
    table.add("VAE reconstructions", torch.cat([networks.decode(models.decoder, one).cpu() for one in latents]), named)


def in_batches(count: int, make: Callable[[slice, int], Tensor]) -> Tensor:
    return torch.cat([make(slice(start, start + _BATCH), start) for start in range(0, count, _BATCH)])


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("vae", "tokenizer", "text", "transformer", "lora", "spatial", "temporal", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--renders", type=int, default=64, help="real renders to measure for the ceiling; 0: none")
    parser.add_argument("--cfg", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    prepare(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    models = load(options)
    table = Table(options.out)
    if options.renders:
        measure_renders(table, models, options.renders)

    prompts = Captions(options.tokenizer, limit=1)
    text = load_text(options.text, prompts)
    chosen = captions.held_out_prompts(options.prompts)
    named, texts = [row for row, _ in chosen], [words for _, words in chosen]
    contexts, negative = text(*prompts.encode(texts)), text(*prompts.encode(captions.NEGATIVE_PROMPTS[:1]))

    def stage1(model: nn.Module, sigmas: Sequence[float], cfg: float) -> Tensor:
        def make(part: slice, seed: int) -> Tensor:
            return sample(model, contexts[part], sigmas, _BASE, negative=negative, cfg=cfg, seed=seed)

        return in_batches(len(contexts), make)

    def stage2(start: Tensor) -> Tensor:
        def make(part: slice, seed: int) -> Tensor:
            return sample(models.distilled, contexts[part], STAGE2_SIGMAS, _TWICE, start=start[part], seed=1000 + seed)

        return in_batches(len(contexts), make)

    def larger(network: nn.Module, latents: Tensor) -> Tensor:
        return in_batches(len(latents), lambda part, _: networks.upsample(network, models.encoder, latents[part]))

    def show(name: str, latents: Tensor, rows: Sequence[Combination] = named) -> None:
        table.add(name, networks.decode(models.decoder, latents, 4).cpu(), rows, texts)

    started = time.time()
    show("stage 1, dev, CFG 1", stage1(models.dev, schedule(15), 1))
    guided = stage1(models.dev, schedule(15), options.cfg)
    show(f"stage 1, dev, CFG {options.cfg:g}", guided)
    distilled = stage1(models.distilled, DISTILLED_SIGMAS, 1)
    show("stage 1, distilled, 8 steps", distilled)
    upscaled = larger(models.spatial, guided)
    show("stage 1 and spatial x2 only", upscaled)
    refined = stage2(upscaled)
    show("two stages", refined)
    show("two stages, distilled", stage2(larger(models.spatial, distilled)))
    show("two stages and temporal x2, the first 32", larger(models.temporal, refined[:32]), named[:32])
    print(f"{time.time() - started:.0f} s")
    (options.out / "eval.json").write_text(json.dumps(table.rows, indent=1))


if __name__ == "__main__":
    main()
