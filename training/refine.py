"""Stage 3b: more training of the "dev" transformer, the text stack frozen.

    python -m training.refine --vae FILE --tokenizer FILE --init DIR --out DIR [--seconds 1000] [--piece 420] [--smoke]

Contexts are computed once, and on a GPU a step is recorded as a CUDA graph for each size of clip. Reads
DIR/text.safetensors and DIR/transformer.safetensors of `train_transformer` (without the latter it begins anew), writes
DIR/transformer.safetensors (the average over the steps). With --piece it stops early, and the same command goes on,
with new clips. On several GPUs at once: see `training.together`.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from training import fast_transformer, files, networks, pieces, together
from training.configuration import CONTEXT_TOKENS, HIDDEN, LATENT_CHANNELS
from training.data import GROUP, Bucket, Captions, ContextBank, LatentBank
from training.device import DEVICE, ON_GPU, autocast, prepare
from training.optimiser import Optimiser, matrices_of
from training.pieces import Pieces
from training.recorded import Recorder
from training.sampling import random_sigmas, sigma_mean
from training.text_stack import TextStack
from training.train_transformer import first_frame, flow_matching_loss


@dataclass(frozen=True)
class Size:
    """One kind of step. bucket: index into the plan's; image: the first latent frame is given."""

    share: float
    bucket: int
    frames: int
    captions: int
    image: bool = False


@dataclass(frozen=True)
class Plan:
    buckets: tuple[Bucket, ...]
    sizes: tuple[Size, ...]
    caption_limit: int | None = None


FULL = Plan(
    buckets=(
        Bucket(128, 192, 33, 8, 96),
        Bucket(256, 384, 33, 2, 24),
        Bucket(192, 128, 33, 0.3, 96),
        Bucket(128, 128, 33, 0.3, 96),
        Bucket(256, 256, 33, 0.2, 32),
        Bucket(128, 192, 65, 0.3, 48),
    ),
    sizes=(
        Size(0.42, 0, 4, 64),
        Size(0.06, 0, 5, 64),
        Size(0.05, 0, 3, 64),
        Size(0.03, 0, 2, 64),
        Size(0.02, 0, 1, 64),
        Size(0.03, 0, 4, 64, image=True),
        Size(0.26, 1, 4, 28),
        Size(0.03, 1, 5, 24),
        Size(0.02, 1, 3, 32),
        Size(0.02, 2, 4, 64),
        Size(0.02, 3, 4, 64),
        Size(0.02, 4, 4, 32),
        Size(0.02, 5, 9, 32),
    ),
)
SMOKE = Plan(
    buckets=(Bucket(64, 96, 33, 4, 4, limit=8), Bucket(128, 192, 17, 0.6, 2, limit=8)),
    sizes=(Size(0.5, 0, 4, 2), Size(0.2, 0, 3, 1, image=True), Size(0.3, 1, 2, 1)),
    caption_limit=16,
)


class Step:
    """A training step of one size, with inputs at fixed places; on a GPU, a recorded graph."""

    def __init__(self, recorder: Recorder, optimiser: Optimiser, model: nn.Module, size: Size, bucket: Bucket) -> None:
        self.optimiser, self.model, self.shape = optimiser, model, (size.frames, *bucket.cells)
        batch, tokens = size.captions * GROUP, size.frames * bucket.cells[0] * bucket.cells[1]
        dtype = torch.bfloat16 if ON_GPU else torch.float32
        self.data = torch.randn(batch, tokens, LATENT_CHANNELS, device=DEVICE)
        self.contexts = torch.randn(size.captions, CONTEXT_TOKENS, HIDDEN, device=DEVICE, dtype=dtype)
        rates = torch.full((batch,), 24.0, device=DEVICE)
        self.positions = networks.make_positions(self.shape, rates).contiguous()
        self.given = first_frame(batch, self.shape) if size.image else None
        self.loss = torch.zeros((), device=DEVICE)  # summed over steps until it is printed
        self._step = recorder.record(self._run)

    def _run(self) -> None:
        self.optimiser.clear()
        sigmas = random_sigmas(len(self.data), sigma_mean(self.shape[1] * self.shape[2]))
        with autocast(cached=False):
            loss = flow_matching_loss(self.model, self.data, self.contexts, self.positions, sigmas, self.given)
        self.optimiser.update(loss)
        self.loss.add_(loss.detach())

    def __call__(self, data: torch.Tensor, fps: torch.Tensor, contexts: torch.Tensor) -> None:
        self.data.copy_(data)
        self.contexts.copy_(contexts)
        self.positions.copy_(networks.make_positions(self.shape, fps, rounded=random.random() < 0.5))
        self._step()


def load_text(path: Path, prompts: Captions) -> TextStack:
    """The frozen text stack."""
    text = TextStack(prompts.vocabulary).to(DEVICE).eval().requires_grad_(False)
    text.load_state_dict(files.load(path))
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--init", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    pieces.add_arguments(parser, seconds=1000)
    parser.add_argument("--rate", type=float, default=2e-3, help="the highest learning rate")
    parser.add_argument("--muon", action=argparse.BooleanOptionalAction, default=True, help="or AdamW for all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="a few tiny clips for three seconds: does it run?")
    options = parser.parse_args()
    began = time.time()
    prepare(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    plan = SMOKE if options.smoke else FULL

    begun = options.init / "transformer.safetensors"
    model = networks.load_transformer(begun) if begun.exists() else networks.build_transformer().to(DEVICE)
    fast_transformer.speed_up(model, GROUP)
    optimiser = Optimiser(model.parameters(), matrices_of([model.transformer_blocks]) if options.muon else [])
    recorder = Recorder()
    steps = [Step(recorder, optimiser, model, size, plan.buckets[size.bucket]) for size in plan.sizes]
    optimiser.forget()
    for step in steps:
        step.loss.zero_()
    print(f"{len(steps)} kinds of steps recorded in {time.time() - began:.0f} s", flush=True)
    seconds = 3 if options.smoke else options.seconds
    training = Pieces(options.out / "state.pt", optimiser, seconds, options.piece, options.seed)
    encoder, _ = networks.load_vae(options.vae)
    prompts = Captions(options.tokenizer, variants=4, limit=plan.caption_limit)
    contexts = ContextBank(load_text(options.init / "text.safetensors", prompts), prompts)
    print(f"contexts after {time.time() - began:.0f} s", flush=True)
    banks = [LatentBank(encoder, bucket) for bucket in plan.buckets]

    shares = [size.share for size in plan.sizes]
    for tick in training.ticks():
        if tick.step % 10 == 0:
            optimiser.set_rate(options.rate * tick.warm(300) * tick.linear(0.75))
        index = training.common.choices(range(len(steps)), shares)[0]  # they wait for each other: the same work
        size = plan.sizes[index]
        data, fps, rows = banks[size.bucket].draw(size.captions, size.frames)
        steps[index](data, fps, contexts.draw(rows))
        if tick.step % 500 == 499 and together.FIRST:
            loss = sum(step.loss.item() for step in steps) / 500
            print(f"{tick.step + 1:6d} {tick.elapsed:6.1f} s  mean loss {loss:.4f}", flush=True)
            for step in steps:
                step.loss.zero_()
    if training.ended() and together.FIRST:
        files.save(options.out / "transformer.safetensors", model.state_dict())


if __name__ == "__main__":
    main()
