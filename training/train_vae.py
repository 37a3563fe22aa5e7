"""Stage 2: the video VAE.

    python -m training.train_vae --out DIR [--seconds 790] [--piece 500] [--smoke]
    python -m training.train_vae --out DIR --decoder-of VAE

The second keeps that VAE's latents, and so all networks that were trained on them. Writes DIR/vae.safetensors (encoder,
decoder, per-channel statistics), DIR/vae.json (PSNR and shapes on held-out combinations) and contact sheets. Clips are
rendered as they are needed, so none is seen twice; most are windows on the object, since empty background teaches
nothing. With --piece it stops early, and the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from training import files, networks, pieces, together
from training.configuration import LATENT_CHANNELS
from training.contact_sheet import save_sheet
from training.data import combinations, random_frame_rates
from training.device import DEVICE, autocast, prepare, uniform
from training.optimiser import Optimiser, matrices_of
from training.pieces import Pieces
from training.recorded import Recorder
from training.world import scenes
from training.world.captions import SHAPES, Combination
from training.world.measure import measure

_POOL = 4
"""Batches that are rendered at a time: rendering waits for the device, training need not."""


@dataclass(frozen=True)
class Clips:
    """A batch of rendered clips; `weight`: how often it is drawn. window: a part of the frame, about the object."""

    height: int
    width: int
    frames: int
    batch: int
    weight: int = 1
    window: tuple[int, int] | None = None


@dataclass(frozen=True)
class Plan:
    training: tuple[Clips, ...]
    statistics: tuple[Clips, ...]
    statistics_batches: int
    held_out: tuple[Clips, ...]


FULL = Plan(
    training=(
        Clips(256, 384, 17, 20, weight=8, window=(128, 128)),
        Clips(128, 192, 25, 10, weight=5),
        Clips(256, 384, 17, 4, weight=2),
        Clips(256, 384, 33, 10, weight=2, window=(128, 128)),
        Clips(256, 384, 1, 40, weight=1),
    ),
    statistics=(Clips(128, 192, 33, 32, weight=3), Clips(256, 384, 25, 8, weight=1)),
    statistics_batches=40,
    held_out=(
        Clips(256, 384, 25, 32),
        Clips(128, 192, 25, 16),
        Clips(256, 384, 49, 4),
    ),
)
_TINY = Clips(64, 96, 9, 4)
SMOKE = Plan(
    training=(Clips(128, 192, 9, 2, window=(64, 64)), Clips(64, 96, 1, 2)),
    statistics=(_TINY,),
    statistics_batches=2,
    held_out=(_TINY,),
)


def draw(shown: Tensor, clips: Clips, fps: float | Tensor = 24.0, batches: int = 1) -> tuple[Tensor, Tensor]:
    """Random clips of random combinations, and the masks of their objects."""
    chosen = shown[torch.randint(len(shown), (clips.batch * batches,), device=DEVICE)]
    size = clips.height, clips.width
    drawn = scenes.sample_scenes(chosen, size, uniform)
    windows = None
    if clips.window is not None:
        windows = scenes.windows_on_objects(drawn, size, clips.window, clips.frames / 24, uniform)
    return scenes.render_with_mask(drawn, *size, clips.frames, fps, windows)


def reconstruction_loss(found: Tensor, video: Tensor, mask: Tensor) -> Tensor:
    """Absolute differences of pixels; the object counts fivefold, and most where neighbouring pixels differ.

    Neither squares nor differences of neighbours, which both make an edge that is not quite certain a blurred one: the
    median of what it may be is sharp.
    """
    weight = 1 + 4 * mask + 6 * local_contrast(video)
    return ((found - video).abs() * weight).mean()


def local_contrast(video: Tensor) -> Tensor:
    """How much the pixels within one of each differ, 0 to 1: `[batch, 1, frames, height, width]`."""
    around = {"kernel_size": (1, 3, 3), "stride": 1, "padding": (0, 1, 1)}
    highest, lowest = functional.max_pool3d(video, **around), -functional.max_pool3d(-video, **around)
    return ((highest - lowest).amax(1, keepdim=True) / 2).clamp(0, 1)


def psnr(found: Tensor, video: Tensor, weight: Tensor | None = None) -> Tensor:
    """Decibels of each clip, over values that span 2; of the pixels that `weight` marks, if given."""
    error = (found.clamp(-1, 1) - video) ** 2
    axes = (1, 2, 3, 4)
    mean = error.mean(axes) if weight is None else (error * weight).sum(axes) / (3 * weight.sum(axes)).clamp(min=1)
    return 10 * torch.log10(4 / mean)


class Step:
    """A training step for clips of one size, with inputs at fixed places; on a GPU, a recorded graph."""

    def __init__(
        self, recorder: Recorder, optimiser: Optimiser, vae: Sequence[nn.Module], clips: Clips, kl_weight: float
    ) -> None:
        self.optimiser, (self.encoder, self.decoder), self.kl_weight = optimiser, vae, kl_weight
        height, width = clips.window or (clips.height, clips.width)
        shape = (clips.batch, 3, clips.frames, height, width)
        self.video = networks.channels_last(torch.rand(shape, device=DEVICE) * 2 - 1)
        self.mask = torch.zeros(clips.batch, 1, *shape[2:], device=DEVICE)
        self.values = torch.zeros(3, device=DEVICE)  # loss, KL and PSNR, averages over some 50 steps
        self._step = recorder.record(self._run)

    def _run(self) -> None:
        self.optimiser.clear()
        with autocast(cached=False):
            mean, log_variance = networks.encode_raw(self.encoder, self.video)
        mean, log_variance = mean.float(), log_variance.float().clamp(-12, 2)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        latents = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        with autocast(cached=False):
            latents = self.encoder.per_channel_statistics.normalize(latents)  # which the decoder takes back
            found = self.decoder(networks.channels_last(latents)).float()
        loss = reconstruction_loss(found, self.video, self.mask)
        self.optimiser.update(loss + self.kl_weight * kl)
        self.values.lerp_(torch.stack([loss, kl, psnr(found, self.video).mean()]).detach(), 0.02)

    def __str__(self) -> str:
        loss, kl, decibels = self.values.tolist()
        return f"{list(self.video.shape)}  loss {loss:.4f}  kl {kl:.3f}  {decibels:.2f} dB"

    def __call__(self, video: Tensor, mask: Tensor) -> None:
        self.video.copy_(video)
        self.mask.copy_(mask)
        self._step()


def train(vae: Sequence[nn.Module], plan: Plan, options: argparse.Namespace) -> Pieces:
    """Trains in place what is not frozen; at the end of the last piece they have the average over the steps."""
    parameters = [parameter for network in vae for parameter in network.parameters() if parameter.requires_grad]
    matrices = matrices_of(vae) if options.muon else []
    optimiser = Optimiser(parameters, matrices, decay=1e-3, average=0.002)
    recorder = Recorder()
    steps = [Step(recorder, optimiser, vae, clips, options.kl) for clips in plan.training]
    optimiser.forget()
    shown = combinations().to(DEVICE)
    training = Pieces(options.out / "state.pt", optimiser, options.seconds, options.piece, options.seed)
    pool: list[tuple[Tensor, Tensor]] = []
    chosen = 0
    for tick in training.ticks():
        optimiser.set_rate(options.rate * tick.warm(200) * tick.linear(0.6) + 1e-6)
        if not pool:
            chosen = random.choices(range(len(steps)), [clips.weight for clips in plan.training])[0]
            clips = plan.training[chosen]
            drawn = draw(shown, clips, random_frame_rates(clips.batch * _POOL), _POOL)
            pool = list(zip(*(part.split(clips.batch) for part in drawn), strict=True))
        steps[chosen](*pool.pop())
        if tick.step % 500 == 0:
            print(f"{tick.step:6d} {tick.elapsed:6.1f} s  {steps[chosen]}", flush=True)
    for step in steps:
        print(step, flush=True)
    return training


@torch.no_grad()
def set_statistics(encoder: nn.Module, decoder: nn.Module, plan: Plan) -> None:
    """Measures mean and deviation of every latent channel, and stores them in both networks."""
    shown = combinations().to(DEVICE)
    total = squares = torch.zeros(LATENT_CHANNELS, dtype=torch.float64, device=DEVICE)
    count = 0
    for _ in range(plan.statistics_batches):
        clips = random.choices(plan.statistics, [clips.weight for clips in plan.statistics])[0]
        with autocast():
            means = networks.encode_raw(encoder, networks.channels_last(draw(shown, clips)[0]))[0]
        values = means.transpose(0, 1).reshape(LATENT_CHANNELS, -1).double()
        total, squares, count = total + values.sum(1), squares + (values**2).sum(1), count + values.shape[1]
    mean = total / count
    deviation = (squares / count - mean**2).clamp(min=1e-8).sqrt()
    print(f"deviation of the channels: {float(deviation.min()):.3f} to {float(deviation.max()):.3f}")
    for network in (encoder, decoder):
        statistics = network.per_channel_statistics
        statistics.get_buffer("mean-of-means").copy_(mean.to(torch.bfloat16).float())
        statistics.get_buffer("std-of-means").copy_(deviation.to(torch.bfloat16).float())


@torch.no_grad()
def evaluate(vae: Sequence[nn.Module], plan: Plan, out: Path) -> dict[str, dict[str, float]]:
    """Reconstruction of combinations that training never showed, in float32."""
    unseen = combinations(held_out=True).to(DEVICE)
    encoder, decoder = vae
    results = {}
    for clips in plan.held_out:
        chosen = unseen[torch.randint(len(unseen), (clips.batch,), device=DEVICE)]
        chosen[:, 0] = torch.arange(clips.batch, device=DEVICE) % len(SHAPES)
        drawn = scenes.sample_scenes(chosen, (clips.height, clips.width), uniform)
        video, mask = scenes.render_with_mask(drawn, clips.height, clips.width, clips.frames, 24.0)
        found = torch.cat([decoder(encoder(part)) for part in video.split(4)]).clamp(-1, 1)
        name = f"{clips.height}x{clips.width}x{clips.frames}"
        whole = psnr(found, video)
        results[name] = {
            "psnr": float(whole.mean()),
            "psnr of the worst": float(whole.min()),
            "psnr of the object": float(psnr(found, video, mask).mean()),
            **shapes_seen(found, chosen),
        }
        print(f"held out {name}: {results[name]}", flush=True)
        pairs = [picture for pair in zip(video[:10], found[:10], strict=True) for picture in pair]
        save_sheet(pairs, out / f"vae_{name}.png", scale=1 if clips.height <= 128 else 0.5)
    return results


def shapes_seen(videos: Tensor, named: Tensor) -> dict[str, float]:
    """The share of the videos of each shape whose silhouette is that shape's."""
    pixels = ((videos + 1) / 2).permute(0, 2, 3, 4, 1).cpu().numpy()
    rows = [Combination(*row) for row in named.tolist()]
    right = [(row.shape, measure(video, row).shape) for video, row in zip(pixels, rows, strict=True)]
    return {
        f"{name}s": sum(found for shape, found in right if shape == index) / sum(shape == index for shape, _ in right)
        for index, name in enumerate(SHAPES)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    pieces.add_arguments(parser, seconds=790)
    parser.add_argument("--rate", type=float, default=2e-3, help="the highest learning rate")
    parser.add_argument("--kl", type=float, default=2e-4)
    parser.add_argument("--muon", action=argparse.BooleanOptionalAction, default=True, help="or AdamW for all")
    parser.add_argument("--decoder-of", type=Path, help="go on from this VAE, its encoder frozen")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="tiny clips for five seconds: does it run?")
    options = parser.parse_args()
    prepare(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    plan = SMOKE if options.smoke else FULL
    options.seconds = 5 if options.smoke else options.seconds

    if options.decoder_of is None:
        vae = tuple(networks.channels_last(network.to(DEVICE)) for network in networks.build_vae())
    else:
        vae = networks.load_vae(options.decoder_of)
        vae[1].requires_grad_(True)
    training = train(vae, plan, options)
    if not training.ended() or not together.FIRST:
        return
    for network in vae:  # what ships is bfloat16: the statistics and figures below are of that
        network.eval()
        for parameter in network.parameters():
            parameter.data = parameter.data.to(torch.bfloat16).float()
    if options.decoder_of is None:
        set_statistics(*vae, plan)
    state = {}
    for network, prefix in zip(vae, ("encoder.", "decoder."), strict=True):
        own = {name: value for name, value in network.state_dict().items() if "per_channel" not in name}
        state.update({prefix + name: value.contiguous() for name, value in own.items()})
    statistics = vae[0].per_channel_statistics.state_dict()
    state.update({f"per_channel_statistics.{name}": value for name, value in statistics.items()})
    files.save(options.out / "vae.safetensors", state)
    results = evaluate(vae, plan, options.out)
    (options.out / "vae.json").write_text(json.dumps({"steps": training.steps, "held out": results}, indent=1))
    print(f"{training.steps} steps")


if __name__ == "__main__":
    main()
