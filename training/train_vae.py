"""Stage 1: the video VAE.

    python -m training.train_vae --out DIR [--seconds 440] [--smoke]

Writes DIR/vae.safetensors (encoder, decoder, per-channel statistics), DIR/vae.json (PSNR on held-out combinations) and
contact sheets. Clips are rendered as they are needed, so none is seen twice.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training import files, networks
from training.clock import ticks
from training.configuration import LATENT_CHANNELS
from training.contact_sheet import save_sheet
from training.data import combinations, random_frame_rates
from training.device import DEVICE, ON_GPU, autocast, prepare, uniform
from training.world import scenes


@dataclass(frozen=True)
class Clips:
    """A batch of rendered clips; `weight`: how often it is drawn."""

    height: int
    width: int
    frames: int
    batch: int
    weight: int = 1


@dataclass(frozen=True)
class Plan:
    training: tuple[Clips, ...]
    statistics: tuple[Clips, ...]
    statistics_batches: int
    held_out: tuple[Clips, ...]


FULL = Plan(
    training=(
        Clips(128, 192, 25, 16, weight=8),
        Clips(128, 192, 9, 40, weight=1),
        Clips(256, 384, 17, 6, weight=4),
        Clips(192, 128, 33, 12, weight=2),
        Clips(256, 256, 25, 6, weight=2),
        Clips(256, 384, 1, 40, weight=1),
    ),
    statistics=(Clips(128, 192, 33, 32, weight=3), Clips(256, 384, 25, 8, weight=1)),
    statistics_batches=40,
    held_out=(
        Clips(128, 192, 25, 32),
        Clips(256, 384, 25, 16),
        Clips(128, 192, 33, 16),
        Clips(256, 384, 1, 32),
        Clips(256, 384, 49, 4),
    ),
)
_TINY = Clips(64, 96, 9, 2)
SMOKE = Plan(training=(_TINY, Clips(64, 96, 1, 2)), statistics=(_TINY,), statistics_batches=2, held_out=(_TINY,))


def draw(shown: Tensor, clips: Clips, fps: float | Tensor = 24.0) -> tuple[Tensor, Tensor]:
    """Random clips of random combinations, and the masks of their objects."""
    chosen = shown[torch.randint(len(shown), (clips.batch,), device=DEVICE)]
    drawn = scenes.sample_scenes(chosen, (clips.height, clips.width), uniform)
    return scenes.render_with_mask(drawn, clips.height, clips.width, clips.frames, fps)


def reconstruction_loss(found: Tensor, video: Tensor, mask: Tensor) -> Tensor:
    """Differences of pixels, and of pixels from their neighbours in space and time; the object counts sevenfold."""
    weight = 1 + 6 * mask
    difference = found - video

    def change(axis: int) -> Tensor:
        return (difference.diff(dim=axis).abs() * weight.narrow(axis, 1, weight.shape[axis] - 1)).mean()

    loss = (difference.abs() * weight).mean() + 2.0 * (difference**2 * weight).mean()
    loss = loss + 0.5 * (change(-1) + change(-2))
    return loss + 0.25 * change(2) if video.shape[2] > 1 else loss


def psnr(found: Tensor, video: Tensor, weight: Tensor | None = None) -> Tensor:
    """Decibels of each clip, over values that span 2; of the pixels that `weight` marks, if given."""
    error = (found.clamp(-1, 1) - video) ** 2
    axes = (1, 2, 3, 4)
    mean = error.mean(axes) if weight is None else (error * weight).sum(axes) / (3 * weight.sum(axes)).clamp(min=1)
    return 10 * torch.log10(4 / mean)


def train(encoder: nn.Module, decoder: nn.Module, plan: Plan, seconds: float, rate: float, kl_weight: float) -> int:
    """Trains both in place; returns the number of steps."""
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=1e-3, fused=ON_GPU)
    shown = combinations().to(DEVICE)
    step = 0
    for tick in ticks(seconds):
        step = tick.step
        for group in optimiser.param_groups:
            group["lr"] = rate * tick.warm(200) * tick.cosine() + 1e-6
        clips = random.choices(plan.training, [clips.weight for clips in plan.training])[0]
        with torch.no_grad():
            video, mask = draw(shown, clips, random_frame_rates(clips.batch))
        with autocast():
            mean, log_variance = networks.encode_raw(encoder, networks.channels_last(video))
        mean, log_variance = mean.float(), log_variance.float().clamp(-12, 2)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        latents = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        with autocast():
            found = decoder(networks.channels_last(latents)).float()
        loss = reconstruction_loss(found, video, mask) + kl_weight * kl
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        if torch.isfinite(norm):
            optimiser.step()
        if step % 200 == 0:
            quality = float(psnr(found.detach(), video).mean())
            values = f"loss {float(loss.detach()):.4f}  kl {float(kl.detach()):.2f}  {quality:.2f} dB"
            print(f"{step:6d} {tick.elapsed:6.1f} s  {values}")
    return step + 1


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
def evaluate(encoder: nn.Module, decoder: nn.Module, plan: Plan, out: Path) -> dict[str, dict[str, float]]:
    """Reconstruction of combinations that training never showed, in float32."""
    unseen = combinations(held_out=True).to(DEVICE)
    results = {}
    for clips in plan.held_out:
        video, mask = draw(unseen, clips)
        found = decoder(encoder(video))
        name = f"{clips.height}x{clips.width}x{clips.frames}"
        whole = psnr(found, video)
        results[name] = {
            "psnr": float(whole.mean()),
            "psnr of the worst": float(whole.min()),
            "psnr of the object": float(psnr(found, video, mask).mean()),
        }
        print(f"held out {name}: {results[name]}")
        pairs = [picture for pair in zip(video[:10], found[:10], strict=True) for picture in pair]
        save_sheet(pairs, out / f"vae_{name}.png", scale=1 if clips.height <= 128 else 0.5)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=440)
    parser.add_argument("--rate", type=float, default=1.5e-3, help="the highest learning rate")
    parser.add_argument("--kl", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="tiny clips for five seconds: does it run?")
    options = parser.parse_args()
    prepare(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    plan = SMOKE if options.smoke else FULL

    encoder, decoder = (networks.channels_last(network.to(DEVICE)) for network in networks.build_vae())
    steps = train(encoder, decoder, plan, 5 if options.smoke else options.seconds, options.rate, options.kl)
    for network in (encoder, decoder):  # what ships is bfloat16: the statistics and figures below are of that
        network.eval()
        for parameter in network.parameters():
            parameter.data = parameter.data.to(torch.bfloat16).float()
    set_statistics(encoder, decoder, plan)
    results = evaluate(encoder, decoder, plan, options.out)

    state = {}
    for network, prefix in ((encoder, "encoder."), (decoder, "decoder.")):
        own = {name: value for name, value in network.state_dict().items() if "per_channel" not in name}
        state.update({prefix + name: value.contiguous() for name, value in own.items()})
    statistics = encoder.per_channel_statistics.state_dict()
    state.update({f"per_channel_statistics.{name}": value for name, value in statistics.items()})
    files.save(options.out / "vae.safetensors", state)
    (options.out / "vae.json").write_text(json.dumps({"steps": steps, "held out": results}, indent=1))
    print(f"{steps} steps")


if __name__ == "__main__":
    main()
