"""Stage 4: guidance and step size distilled into a LoRA, which makes the "dev" transformer the "distilled" one.

    python -m training.distil --vae FILE --tokenizer FILE --text FILE --transformer FILE --out DIR [--smoke]

The student takes one step of the official distilled sigmas without guidance; its target is where the teacher, the same
transformer with guidance, gets to over the same interval in one to four steps. On a GPU a step is recorded as a CUDA
graph for each size and interval. Writes DIR/lora.safetensors.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training import fast_transformer, files, networks
from training.clock import ticks
from training.configuration import DISTILLED_SIGMAS, LATENT_CHANNELS
from training.data import GROUP, Bucket, Captions, ContextBank, LatentBank
from training.device import DEVICE, autocast, prepare
from training.lora import Lora
from training.optimiser import Optimiser
from training.recorded import Recorder
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
    buckets=(Bucket(128, 192, 33, 2, 96), Bucket(256, 384, 33, 1, 24)),
    sizes=((0, 4, 24), (0, 3, 24), (0, 5, 24), (1, 4, 12), (1, 4, 12), (1, 4, 12)),
)
SMOKE = Plan(buckets=(Bucket(64, 96, 33, 4, 4, limit=8),), sizes=((0, 4, 2),), caption_limit=16)


def teacher_velocity(
    model: nn.Module, x: Tensor, interval: int, contexts: Tensor, negative: Tensor, positions: Tensor
) -> tuple[Tensor, Tensor]:
    """The mean velocity of the guided transformer over one interval of the distilled sigmas, and its first without
    guidance: what the student says before it is trained."""
    first, last, cfg = DISTILLED_SIGMAS[interval], DISTILLED_SIGMAS[interval + 1], _GUIDANCE[interval]
    y, unguided = x, []
    both = torch.cat([contexts, negative.expand_as(contexts)])
    levels = torch.linspace(first, last, _TEACHER_STEPS[interval] + 1).tolist()
    for sigma, following in itertools.pairwise(levels):
        found = velocity(model, torch.cat([y, y]), sigma, both, torch.cat([positions, positions]))
        wanted, against = found.chunk(2)
        unguided.append(wanted)
        y = y + (following - sigma) * (against + cfg * (wanted - against))
    return (x - y) / (first - last), unguided[0]


def velocity(model: nn.Module, x: Tensor, sigma: float, contexts: Tensor, positions: Tensor) -> Tensor:
    with autocast(cached=False):
        level = torch.full((len(x),), sigma, device=DEVICE)
        return networks.velocity(model, x, level, contexts, positions).float()


class Step:
    """A step of one size over one interval, with inputs at fixed places; on a GPU, a recorded graph."""

    def __init__(
        self,
        recorder: Recorder,
        optimiser: Optimiser,
        trained: tuple[nn.Module, Lora],
        negative: Tensor,
        size: tuple[Bucket, int, int],
        interval: int,
    ) -> None:
        bucket, frames, captions = size
        (self.model, self.lora), self.optimiser, self.interval = trained, optimiser, interval
        self.shape, self.negative = (frames, *bucket.cells), negative
        batch, tokens = captions * GROUP, frames * bucket.cells[0] * bucket.cells[1]
        self.data = torch.randn(batch, tokens, LATENT_CHANNELS, device=DEVICE)
        self.contexts = negative.repeat(captions, 1, 1)
        self.positions = networks.make_positions(self.shape, torch.full((batch,), 24.0, device=DEVICE)).contiguous()
        self.loss, self.untrained = torch.zeros((), device=DEVICE), torch.zeros((), device=DEVICE)
        self._step = recorder.record(self._run)

    def _run(self) -> None:
        self.optimiser.clear()
        sigma = DISTILLED_SIGMAS[self.interval]
        x = (1 - sigma) * self.data + sigma * torch.randn_like(self.data)
        with torch.no_grad(), self.lora.switched_off():
            inputs = self.contexts, self.negative, self.positions
            target, before = teacher_velocity(self.model, x, self.interval, *inputs)
            self.untrained.copy_(((before - target) ** 2).mean())
        loss = ((velocity(self.model, x, sigma, self.contexts, self.positions) - target) ** 2).mean()
        self.optimiser.update(loss / target.var().clamp(min=0.3))
        self.loss.copy_(loss.detach())

    def __call__(self, data: Tensor, fps: Tensor, contexts: Tensor) -> None:
        self.data.copy_(data)
        self.contexts.copy_(contexts)
        self.positions.copy_(networks.make_positions(self.shape, fps))
        self._step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("vae", "tokenizer", "text", "transformer", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--rate", type=float, default=2e-3, help="the highest learning rate")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help="a few tiny clips for three seconds: does it run?")
    options = parser.parse_args()
    began = time.time()
    prepare(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    plan = SMOKE if options.smoke else FULL

    encoder, _ = networks.load_vae(options.vae)
    prompts = Captions(options.tokenizer, variants=4, limit=plan.caption_limit)
    contexts = ContextBank(load_text(options.text, prompts), prompts)
    model = networks.load_transformer(options.transformer).requires_grad_(False)
    fast_transformer.speed_up(model, GROUP)
    lora = Lora(model)
    optimiser, recorder = Optimiser(lora.parameters(), decay=0.0, average=0.01, clip=0.5), Recorder()
    steps = {
        (size, interval): Step(
            recorder, optimiser, (model, lora), contexts.negative, (plan.buckets[size[0]], *size[1:]), interval
        )
        for size in dict.fromkeys(plan.sizes)
        for interval in range(len(_SHARES))
    }
    optimiser.forget()
    print(f"{len(steps)} kinds of steps recorded after {time.time() - began:.0f} s", flush=True)
    banks = [LatentBank(encoder, bucket) for bucket in plan.buckets]

    for tick in ticks(3 if options.smoke else options.seconds):
        if tick.step % 10 == 0:
            optimiser.set_rate(options.rate * tick.warm(100) * (1 - tick.progress) + 1e-6)
        interval = random.choices(range(len(_SHARES)), _SHARES)[0]
        size = random.choice(plan.sizes)
        data, fps, rows = banks[size[0]].draw(size[2], size[1])
        step = steps[size, interval]
        step(data, fps, contexts.draw(rows, empty=0, negative=0))
        if tick.step % 200 == 0:
            print(
                f"{tick.step:5d} {tick.elapsed:6.1f} s  sigma {DISTILLED_SIGMAS[interval]:.3f}  "
                f"loss {step.loss.item():.4f} (was {step.untrained.item():.4f})",
                flush=True,
            )
    optimiser.use_averages()
    files.save(options.out / "lora.safetensors", lora.state())


if __name__ == "__main__":
    main()
