"""Stage 4: guidance and step size distilled into a LoRA, which makes the "dev" transformer the "distilled" one.

    python -m training.distil --vae FILE --tokenizer FILE --text FILE --transformer FILE --out DIR [--smoke]

The student takes one step of the official distilled sigmas without guidance; its target is where the teacher, the same
transformer with guidance, gets to over the same interval in one to four steps. Writes DIR/lora.safetensors.
"""

from __future__ import annotations

import argparse
import itertools
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training import fast_transformer, files, networks
from training.clock import ticks
from training.configuration import DISTILLED_SIGMAS
from training.data import GROUP, Bucket, Captions, ContextBank, LatentBank
from training.device import DEVICE, autocast, prepare
from training.lora import Lora
from training.refine import load_text

# For each interval of DISTILLED_SIGMAS: how often it is trained, and the teacher's steps over it.
_SHARES = (1.0, 0.7, 0.7, 0.7, 1.2, 2.0, 2.5, 2.5)
_TEACHER_STEPS = (1, 1, 1, 1, 2, 3, 3, 4)
# Guidance decides what is seen, while much noise is left; close to the end it makes edges ring.
_GUIDANCE = (5.0, 5.0, 5.0, 5.0, 4.5, 3.5, 2.5, 2.0)


@dataclass(frozen=True)
class Plan:
    """sizes: (bucket, latent frames, captions), of which one is chosen for a step."""

    buckets: tuple[Bucket, ...]
    sizes: tuple[tuple[int, int, int], ...]
    caption_limit: int | None = None


FULL = Plan(
    buckets=(Bucket(128, 192, 33, 2, 96), Bucket(256, 384, 33, 0.6, 24)),
    sizes=((0, 4, 24), (0, 4, 24), (0, 3, 24), (1, 4, 8), (1, 4, 8), (0, 5, 24)),
)
SMOKE = Plan(buckets=(Bucket(64, 96, 33, 4, 4, limit=8),), sizes=((0, 4, 2),), caption_limit=16)


def teacher_velocity(
    model: nn.Module, x: Tensor, interval: int, contexts: Tensor, negative: Tensor, positions: Tensor
) -> Tensor:
    """The mean velocity of the guided transformer over one interval of the distilled sigmas."""
    first, last, cfg = DISTILLED_SIGMAS[interval], DISTILLED_SIGMAS[interval + 1], _GUIDANCE[interval]
    y = x
    both = torch.cat([contexts, negative.expand_as(contexts)])
    levels = torch.linspace(first, last, _TEACHER_STEPS[interval] + 1).tolist()
    for sigma, following in itertools.pairwise(levels):
        found = velocity(model, torch.cat([y, y]), sigma, both, torch.cat([positions, positions]))
        wanted, against = found.chunk(2)
        y = y + (following - sigma) * (against + cfg * (wanted - against))
    return (x - y) / (first - last)


def velocity(model: nn.Module, x: Tensor, sigma: float, contexts: Tensor, positions: Tensor) -> Tensor:
    with autocast():
        level = torch.full((len(x),), sigma, device=DEVICE)
        return networks.velocity(model, x, level, contexts, positions).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("vae", "tokenizer", "text", "transformer", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=100)
    parser.add_argument("--rate", type=float, default=2e-3, help="the highest learning rate")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help="a few tiny clips for three seconds: does it run?")
    options = parser.parse_args()
    prepare(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    plan = SMOKE if options.smoke else FULL

    encoder, _ = networks.load_vae(options.vae)
    prompts = Captions(options.tokenizer, variants=4, limit=plan.caption_limit)
    contexts = ContextBank(load_text(options.text, prompts), prompts)
    banks = [LatentBank(encoder, bucket) for bucket in plan.buckets]
    model = networks.load_transformer(options.transformer).requires_grad_(False)
    fast_transformer.speed_up(model, GROUP)
    lora = Lora(model)
    trained = list(lora.parameters())
    average = [parameter.detach().clone() for parameter in trained]
    optimiser = torch.optim.AdamW(trained, lr=options.rate, betas=(0.9, 0.98), weight_decay=0.0)

    for tick in ticks(3 if options.smoke else options.seconds):
        for group in optimiser.param_groups:
            group["lr"] = options.rate * tick.warm(30) * (1 - tick.progress) + 1e-6
        interval = random.choices(range(len(_SHARES)), _SHARES)[0]
        sigma = DISTILLED_SIGMAS[interval]
        index, frames, captions = random.choice(plan.sizes)
        data, fps, rows = banks[index].draw(captions, frames)
        context = contexts.draw(rows, empty=0, negative=0)
        positions = networks.make_positions((frames, *plan.buckets[index].cells), fps)
        x = (1 - sigma) * data + sigma * torch.randn_like(data)
        with torch.no_grad(), lora.switched_off():
            target = teacher_velocity(model, x, interval, context, contexts.negative, positions)
            before = velocity(model, x, sigma, context, positions) if tick.step % 50 == 0 else None
        loss = ((velocity(model, x, sigma, context, positions) - target) ** 2).mean()
        optimiser.zero_grad(set_to_none=True)
        (loss / target.var().clamp(min=0.3)).backward()
        nn.utils.clip_grad_norm_(trained, 0.5)
        optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, trained, 1 - min(0.99, (1 + tick.step) / (10 + tick.step)))
        if before is not None:
            untrained = float(((before - target) ** 2).mean())
            print(
                f"{tick.step:5d} {tick.elapsed:6.1f} s  sigma {sigma:.3f}  loss {loss.item():.4f} (was {untrained:.4f})"
            )
    with torch.no_grad():
        for parameter, value in zip(trained, average, strict=True):
            parameter.copy_(value)
    files.save(options.out / "lora.safetensors", lora.state())


if __name__ == "__main__":
    main()
