"""Stage 3: more training of the "dev" transformer, the text stack frozen.

    python -m training.refine --vae FILE --tokenizer FILE --init DIR --out DIR [--seconds 262] [--smoke]

Contexts are computed once, and on a GPU a step is recorded as a CUDA graph for each size of clip, since launching its
thousands of small kernels takes longer than running them. Reads DIR/transformer.safetensors and DIR/text.safetensors of
`train_transformer`, writes DIR/transformer.safetensors (the average over the steps).
"""

from __future__ import annotations

import argparse
import copy
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training import files, networks
from training.clock import ticks
from training.configuration import CONTEXT_TOKENS, HIDDEN, LATENT_CHANNELS
from training.data import GROUP, Bucket, Captions, ContextBank, LatentBank
from training.device import DEVICE, ON_GPU, autocast, prepare
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
        Bucket(128, 192, 33, 3, 96),
        Bucket(256, 384, 33, 0.5, 24),
        Bucket(192, 128, 33, 0.2, 96),
        Bucket(128, 128, 33, 0.2, 96),
        Bucket(256, 256, 33, 0.12, 32),
        Bucket(128, 192, 65, 0.2, 48),
    ),
    sizes=(
        Size(0.40, 0, 4, 64),
        Size(0.10, 0, 5, 64),
        Size(0.06, 0, 3, 64),
        Size(0.03, 0, 2, 64),
        Size(0.03, 0, 1, 64),
        Size(0.05, 0, 4, 64, image=True),
        Size(0.18, 1, 4, 28),
        Size(0.04, 1, 5, 24),
        Size(0.02, 1, 3, 32),
        Size(0.02, 2, 4, 64),
        Size(0.02, 3, 4, 64),
        Size(0.02, 4, 4, 32),
        Size(0.03, 5, 9, 32),
    ),
)
SMOKE = Plan(
    buckets=(Bucket(64, 96, 33, 4, 4, limit=8), Bucket(128, 192, 17, 0.6, 2, limit=8)),
    sizes=(Size(0.5, 0, 4, 2), Size(0.2, 0, 3, 1, image=True), Size(0.3, 1, 2, 1)),
    caption_limit=16,
)


class Trainer:
    """The transformer with its optimiser and the average of its parameters, all of whose tensors stay where they are.

    That is what a CUDA graph needs: gradients are zeroed, not dropped, and the learning rate is a tensor on the GPU.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, self.pool = model, None
        self.parameters = list(model.parameters())
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        self.gradients = [parameter.grad for parameter in self.parameters]
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.averaged = list(self.average.parameters())
        self.rate = torch.zeros((), device=DEVICE)
        self.optimiser = torch.optim.AdamW(
            self.parameters,
            lr=self.rate if ON_GPU else 0.0,
            betas=(0.9, 0.98),
            weight_decay=0.01,
            fused=ON_GPU,
            capturable=ON_GPU,
        )

    def set_rate(self, rate: float) -> None:
        if ON_GPU:
            self.rate.fill_(rate)
        else:
            self.optimiser.param_groups[0]["lr"] = rate

    def update(self, loss: Tensor) -> None:
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.averaged, [parameter.detach() for parameter in self.parameters], 0.0015)

    def forget(self) -> None:
        """Empties the optimiser's moments, which the recording of the graphs has filled."""
        for state in self.optimiser.state.values():
            for value in state.values():
                value.zero_()


class Step:
    """A training step of one size, with inputs at fixed places; on a GPU, a recorded graph."""

    def __init__(self, trainer: Trainer, size: Size, bucket: Bucket) -> None:
        self.trainer, self.shape = trainer, (size.frames, *bucket.cells)
        batch, tokens = size.captions * GROUP, size.frames * bucket.cells[0] * bucket.cells[1]
        dtype = torch.bfloat16 if ON_GPU else torch.float32
        self.data = torch.randn(batch, tokens, LATENT_CHANNELS, device=DEVICE)
        self.contexts = torch.randn(size.captions, CONTEXT_TOKENS, HIDDEN, device=DEVICE, dtype=dtype)
        rates = torch.full((batch,), 24.0, device=DEVICE)
        self.positions = networks.make_positions(self.shape, rates).contiguous()
        self.given = first_frame(batch, self.shape) if size.image else None
        self.loss = torch.zeros((), device=DEVICE)
        self.graph = self._record() if ON_GPU else None

    def _record(self) -> torch.cuda.CUDAGraph:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self._run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.trainer.pool):
            self._run()
        self.trainer.pool = self.trainer.pool or graph.pool()
        return graph

    def _run(self) -> None:
        torch._foreach_zero_(self.trainer.gradients)
        sigmas = random_sigmas(len(self.data), sigma_mean(self.shape[1] * self.shape[2]))
        with autocast(cached=False):
            loss = flow_matching_loss(self.trainer.model, self.data, self.contexts, self.positions, sigmas, self.given)
        self.trainer.update(loss)
        self.loss.copy_(loss.detach())

    def __call__(self, data: Tensor, fps: Tensor, contexts: Tensor) -> None:
        self.data.copy_(data)
        self.contexts.copy_(contexts)
        self.positions.copy_(networks.make_positions(self.shape, fps, rounded=random.random() < 0.5))
        if self.graph is not None:
            self.graph.replay()
        else:
            self._run()


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
    parser.add_argument("--seconds", type=float, default=262)
    parser.add_argument("--rate", type=float, default=7e-4, help="the highest learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="a few tiny clips for three seconds: does it run?")
    options = parser.parse_args()
    prepare(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    plan = SMOKE if options.smoke else FULL

    model = networks.load_transformer(options.init / "transformer.safetensors")
    networks.share_captions(model, GROUP)
    trainer = Trainer(model)
    steps = [Step(trainer, size, plan.buckets[size.bucket]) for size in plan.sizes]
    trainer.forget()
    encoder, _ = networks.load_vae(options.vae)
    prompts = Captions(options.tokenizer, variants=4, limit=plan.caption_limit)
    contexts = ContextBank(load_text(options.init / "text.safetensors", prompts), prompts)
    banks = [LatentBank(encoder, bucket) for bucket in plan.buckets]

    shares = [size.share for size in plan.sizes]
    for tick in ticks(3 if options.smoke else options.seconds):
        if tick.step % 10 == 0:
            trainer.set_rate(options.rate * tick.warm(300) * tick.linear(0.75))
        index = random.choices(range(len(steps)), shares)[0]
        size = plan.sizes[index]
        data, fps, rows = banks[size.bucket].draw(size.captions, size.frames)
        steps[index](data, fps, contexts.draw(rows))
        if tick.step % 500 == 0:
            print(f"{tick.step:6d} {tick.elapsed:6.1f} s  loss {steps[index].loss.item():.4f}")
    files.save(options.out / "transformer.safetensors", trainer.average.state_dict())


if __name__ == "__main__":
    main()
