"""Stage 5: the spatial and the temporal x2 latent upsamplers.

    python -m training.train_upsamplers --vae FILE --out DIR [--seconds 150] [--kinds temporal] [--smoke]

They learn from latents of the same scene rendered twice: at half and full size, at 24 and 48 frames a second. Writes
DIR/spatial.safetensors and DIR/temporal.safetensors, with their configuration, and contact sheets.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training import files, networks
from training.clock import ticks
from training.configuration import UPSAMPLERS
from training.contact_sheet import save_sheet
from training.data import combinations
from training.device import DEVICE, prepare, uniform
from training.optimiser import Optimiser, matrices_of
from training.recorded import Recorder
from training.train_vae import psnr
from training.world import scenes

_KEPT_BACK = 16
_FRAMES = (2, 3, 4, 4, 5)
"""Latent frames that a step takes; the more frequent ones twice."""


@dataclass(frozen=True)
class Pairs:
    """Clips to render twice; batch: how many at once; step: how many a training step takes."""

    height: int
    width: int
    frames: int
    count: int
    batch: int
    step: int


FULL = {
    "spatial": (Pairs(128, 192, 33, 4608, 48, 48), Pairs(128, 128, 33, 768, 48, 48)),
    "temporal": (Pairs(128, 192, 33, 9216, 48, 48), Pairs(256, 384, 33, 3072, 12, 12)),
}
SMOKE = {kind: (Pairs(64, 96, 17, 20, 4, 4),) for kind in FULL}


def make_pairs(kind: str, encoder: nn.Module, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Normalised latents of the same scenes, before and after, in bfloat16."""
    shown = combinations()
    low, high = [], []
    for _ in range(0, pairs.count, pairs.batch):
        chosen = shown[torch.randint(len(shown), (pairs.batch,))].to(DEVICE)
        drawn = scenes.sample_scenes(chosen, (pairs.height, pairs.width), uniform)
        low.append(networks.encode(encoder, scenes.render(drawn, pairs.height, pairs.width, pairs.frames, 24.0)))
        half = pairs.batch // 2
        for part in (drawn[:half], drawn[half:]):  # four times the pixels: half the clips at once
            if kind == "spatial":
                video = scenes.render(part, 2 * pairs.height, 2 * pairs.width, pairs.frames, 24.0)
            else:
                video = scenes.render(part, pairs.height, pairs.width, 2 * pairs.frames - 1, 48.0)
            high.append(networks.encode(encoder, video))
    return torch.cat(low).to(torch.bfloat16), torch.cat(high).to(torch.bfloat16)


def frames_after(kind: str, frames: int) -> int:
    """Latent frames that come out of an upsampler."""
    return frames if kind == "spatial" else 2 * frames - 1


class Step:
    """A training step for clips of one size and length, with inputs at fixed places; on a GPU, a recorded graph."""

    def __init__(
        self, recorder: Recorder, optimiser: Optimiser, pair: tuple[nn.Module, nn.Module], low: Tensor, high: Tensor
    ) -> None:
        self.optimiser, (self.network, self.encoder) = optimiser, pair
        self.low, self.high = low.float(), high.float()
        self.loss = torch.zeros((), device=DEVICE)  # the average over some 50 steps
        self._step = recorder.record(self._run)

    def _run(self) -> None:
        self.optimiser.clear()
        spread = 0.05 * torch.rand((), device=DEVICE)  # generated latents are not clean ones
        found = networks.upsample(self.network, self.encoder, self.low + torch.randn_like(self.low) * spread)
        loss = ((found - self.high) ** 2).mean() + 0.5 * (found - self.high).abs().mean()
        self.optimiser.update(loss)
        self.loss.lerp_(loss.detach(), 0.02)

    def __call__(self, low: Tensor, high: Tensor) -> None:
        self.low.copy_(low)
        self.high.copy_(high)
        self._step()


def train(
    kind: str, encoder: nn.Module, plan: tuple[Pairs, ...], data: list[tuple[Tensor, Tensor]], seconds: float
) -> nn.Module:
    """A new upsampler, the average over the steps."""
    network = networks.build_upsampler(kind).to(DEVICE)
    optimiser, recorder = Optimiser(network.parameters(), matrices_of([network]), decay=1e-3), Recorder()

    def cut(index: int, rows: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        low, high = data[index]
        return low[rows, :, :frames], high[rows, :, : frames_after(kind, frames)]

    steps = {
        (index, frames): Step(
            recorder, optimiser, (network, encoder), *cut(index, torch.arange(pairs.step) % len(data[index][0]), frames)
        )
        for index, pairs in enumerate(plan)
        for frames in set(_FRAMES)
    }
    optimiser.forget()
    for tick in ticks(seconds):
        optimiser.set_rate(2e-3 * tick.warm(200) * tick.linear(0.75) + 1e-6)
        index = 0 if random.random() < 0.75 else len(plan) - 1
        frames = min(random.choice(_FRAMES), data[index][0].shape[2])
        rows = torch.randint(len(data[index][0]), (plan[index].step,), device=DEVICE)
        steps[index, frames](*cut(index, rows, frames))
        if tick.step % 1000 == 0:
            print(f"{kind} {tick.step} {tick.elapsed:.1f} s  loss {steps[index, frames].loss.item():.4f}", flush=True)
    optimiser.use_averages()
    return network


@torch.no_grad()
def evaluate(
    kind: str, network: nn.Module, encoder: nn.Module, decoder: nn.Module, pair: tuple[Tensor, Tensor], out: Path
) -> None:
    """Compares what is decoded from upsampled latents with what is decoded from true ones."""
    low = pair[0][:8, :, :4].float()
    high = pair[1][:8, :, : frames_after(kind, low.shape[2])].float()
    found = networks.upsample(network, encoder, low)
    relative = float(((found - high) ** 2).mean() / high.var())
    videos, truth = networks.decode(decoder, found, 4), networks.decode(decoder, high, 4).clamp(-1, 1)
    print(f"{kind}: relative error {relative:.4f}, decoded {float(psnr(videos, truth).mean()):.2f} dB")
    shown = [video for couple in zip(truth[:6], videos[:6], strict=True) for video in couple]
    save_sheet(shown, out / f"{kind}.png", scale=0.5 if kind == "spatial" else 0.8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=150, help="for each")
    parser.add_argument("--kinds", nargs="+", choices=tuple(FULL), default=tuple(FULL))
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="a few tiny clips for two seconds: does it run?")
    options = parser.parse_args()
    prepare(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    encoder, decoder = networks.load_vae(options.vae)
    for kind in options.kinds:
        plan = (SMOKE if options.smoke else FULL)[kind]
        data = [make_pairs(kind, encoder, pairs) for pairs in plan]
        shown = [(low[:-_KEPT_BACK], high[:-_KEPT_BACK]) for low, high in data]
        network = train(kind, encoder, plan, shown, 2 if options.smoke else options.seconds)
        path = options.out / f"{kind}.safetensors"
        files.save(path, network.state_dict(), UPSAMPLERS[kind])
        network.load_state_dict(files.load(path))
        kept = (data[0][0][-_KEPT_BACK:], data[0][1][-_KEPT_BACK:])
        evaluate(kind, network, encoder, decoder, kept, options.out)


if __name__ == "__main__":
    main()
