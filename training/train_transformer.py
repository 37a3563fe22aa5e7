"""Stage 3a: the text stack and the "dev" transformer, trained together by flow matching.

    python -m training.train_transformer --vae FILE --tokenizer FILE --out DIR [--seconds 150] [--smoke]

The text stack first learns alone to tell the attributes of captions, so that contexts mean something from the first
joint step. Writes DIR/transformer.safetensors and DIR/text.safetensors (averages over the steps) and contact sheets.

Flow matching: x = (1 - sigma) data + sigma noise, and the network learns the velocity noise - data. Captions are
dropped (10% to none, 4% to a negative prompt), which is what guidance needs; one step in ten is given the first latent
frame, which is image-to-video.
"""

from __future__ import annotations

import argparse
import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from training import fast_transformer, files, networks
from training.clock import ticks
from training.configuration import HIDDEN
from training.contact_sheet import save_sheet
from training.data import GROUP, Bucket, Captions, LatentBank, combinations
from training.device import DEVICE, ON_GPU, autocast, prepare
from training.sampling import random_sigmas, sample, schedule, sigma_mean
from training.text_stack import TextStack
from training.world import captions


@dataclass(frozen=True)
class Mix:
    """Clips of one bucket as training uses them.

    captions: per step, each with GROUP clips. frames: latent ones, of which one number is chosen for a step.
    """

    bucket: Bucket
    share: float
    captions: int
    frames: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    mixes: tuple[Mix, ...]
    text_batch: int
    caption_limit: int | None
    prompts: int
    shape: tuple[int, int, int]


_LENGTHS = (1, 2, 3, 4, 4, 4, 5)
FULL = Plan(
    mixes=(
        Mix(Bucket(128, 192, 33, 4, 96), 0.56, 64, _LENGTHS),
        Mix(Bucket(192, 128, 33, 0.5, 96), 0.04, 64, (3, 4, 5)),
        Mix(Bucket(128, 128, 33, 0.4, 96), 0.04, 64, (3, 4, 5)),
        Mix(Bucket(256, 384, 33, 0.6, 24), 0.27, 28, _LENGTHS),
        Mix(Bucket(256, 256, 33, 0.25, 32), 0.04, 32, (3, 4)),
        Mix(Bucket(128, 192, 65, 0.35, 48), 0.05, 32, (6, 7, 8, 9)),
    ),
    text_batch=128,
    caption_limit=None,
    prompts=32,
    shape=(4, 4, 6),
)
SMOKE = Plan(
    mixes=(
        Mix(Bucket(64, 96, 33, 4, 4, limit=8), 0.6, 2, (1, 2, 5)),
        Mix(Bucket(128, 192, 17, 0.6, 2, limit=8), 0.4, 1, (2, 3)),
    ),
    text_batch=4,
    caption_limit=16,
    prompts=2,
    shape=(4, 2, 3),
)


class AttributeHeads(nn.Module):
    """For training only: the five attributes, read from the mean of a context (its registers included)."""

    def __init__(self) -> None:
        super().__init__()
        tables = (captions.SHAPES, captions.COLOUR_NAMES, captions.MOTIONS, captions.BACKGROUNDS, captions.SIZES)
        self.sizes = [len(table) for table in tables]
        self.linear = nn.Linear(HIDDEN, sum(self.sizes))

    def loss(self, contexts: Tensor, named: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """Summed cross-entropies, and the shares of right answers `[5]`, over the captions with `counted` 1."""
        guesses = self.linear(contexts.float().mean(1)).split(self.sizes, -1)
        weight = counted / counted.sum().clamp(min=1)
        losses = [
            (functional.cross_entropy(guess, named[:, index], reduction="none") * weight).sum()
            for index, guess in enumerate(guesses)
        ]
        right = [((guess.argmax(-1) == named[:, index]) * weight).sum() for index, guess in enumerate(guesses)]
        return torch.stack(losses).sum(), torch.stack(right)


def adamw(groups: Sequence[nn.Module], rate: float) -> torch.optim.AdamW:
    parameters = [parameter for group in groups for parameter in group.parameters()]
    return torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=ON_GPU)


def train_text(text: TextStack, heads: AttributeHeads, prompts: Captions, batch: int, seconds: float) -> None:
    """The text stack alone, on attribute labels."""
    optimiser = adamw([text, heads], 1e-3)
    shown = combinations()
    for tick in ticks(seconds):
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * tick.warm(100)
        rows = torch.randint(prompts.count, (batch,))
        with autocast():
            contexts = text(*prompts.batch(rows.tolist(), empty=0, negative=0))
        loss, right = heads.loss(contexts, shown[rows].to(DEVICE), torch.ones(batch, device=DEVICE))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(text.parameters(), 1.0)
        optimiser.step()
        if tick.step % 100 == 0:
            print(f"text {tick.step} {tick.elapsed:.1f} s  loss {loss.item():.3f}  right {right.tolist()}")


def flow_matching_loss(
    model: nn.Module, data: Tensor, contexts: Tensor, positions: Tensor, sigmas: Tensor, given: Tensor | None
) -> Tensor:
    """Mean squared error of the velocity of tokens `[batch, tokens, 128]`, where they are not given."""
    noise = torch.randn_like(data)
    x = (1 - sigmas[:, None, None]) * data + sigmas[:, None, None] * noise
    if given is not None:
        x = torch.where(given[..., None] > 0, data, x)
    error = (networks.velocity(model, x, sigmas, contexts, positions, given).float() - (noise - data)) ** 2
    return (error if given is None else error * (1 - given[..., None])).mean()


def first_frame(batch: int, shape: tuple[int, int, int]) -> Tensor:
    """`[batch, tokens]`, 1 for the tokens of the first latent frame."""
    frames, height, width = shape
    given = torch.zeros(batch, frames * height * width, device=DEVICE)
    given[:, : height * width] = 1
    return given


def train_jointly(
    text: TextStack,
    model: nn.Module,
    heads: AttributeHeads,
    prompts: Captions,
    banks: Sequence[LatentBank],
    plan: Plan,
    seconds: float,
    rate: float,
) -> tuple[TextStack, nn.Module]:
    """Trains all three in place; returns the text stack and the transformer averaged over the steps."""
    trained = [*text.parameters(), *model.parameters()]
    averages = tuple(copy.deepcopy(network).requires_grad_(False) for network in (text, model))
    averaged = [parameter for network in averages for parameter in network.parameters()]
    optimiser = adamw([text, model, heads], rate)
    fast_transformer.speed_up(model, GROUP)
    shown = combinations().to(DEVICE)
    for tick in ticks(seconds):
        for group in optimiser.param_groups:
            group["lr"] = rate * tick.warm(300) * tick.linear(0.6) + 1e-6
        mix, bank = random.choices(list(zip(plan.mixes, banks, strict=True)), [mix.share for mix in plan.mixes])[0]
        frames = random.choice(mix.frames)
        data, fps, rows = bank.draw(mix.captions, frames)
        shape = (frames, *mix.bucket.cells)
        given = first_frame(len(data), shape) if frames > 1 and random.random() < 0.10 else None
        positions = networks.make_positions(shape, fps, rounded=random.random() < 0.5)
        ids, lengths = prompts.batch(rows.tolist())
        with autocast():
            contexts = text(ids, lengths)
            sigmas = random_sigmas(len(data), sigma_mean(shape[1] * shape[2]))
            loss = flow_matching_loss(model, data, contexts, positions, sigmas, given)
        total = loss
        if tick.step % 4 == 0 and tick.progress < 0.5:
            total = loss + 0.02 * heads.loss(contexts, shown[rows.to(DEVICE)], (lengths > 3).float())[0]
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(averaged, trained, 1 - min(0.9985, (1 + tick.step) / (10 + tick.step)))
        if tick.step % 250 == 0:
            print(
                f"{tick.step:6d} {tick.elapsed:6.1f} s  loss {loss.item():.4f}  {mix.bucket.height}x{mix.bucket.width}"
            )
    return averages


@torch.no_grad()
def look(text: TextStack, model: nn.Module, decoder: nn.Module, prompts: Captions, plan: Plan, out: Path) -> None:
    """Contact sheets of held-out prompts, at three strengths of guidance."""
    texts = [text for _, text in captions.held_out_prompts(plan.prompts)]
    with autocast():
        contexts = text(*prompts.encode(texts)).float()
        negative = text(*prompts.encode(captions.NEGATIVE_PROMPTS[:1])).float()
    for cfg in (1, 3, 5):
        latents = sample(model, contexts, schedule(15), plan.shape, negative=negative, cfg=cfg)
        videos = networks.decode(decoder, latents)
        save_sheet(list(videos), out / f"dev_cfg{cfg}.png", labels=texts, scale=0.75)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--text-seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=1e-3, help="the highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few tiny clips for four seconds: does it run?")
    options = parser.parse_args()
    prepare(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    plan = SMOKE if options.smoke else FULL
    text_seconds, seconds = (4, 4) if options.smoke else (options.text_seconds, options.seconds)

    encoder, decoder = networks.load_vae(options.vae)
    prompts = Captions(options.tokenizer, limit=plan.caption_limit)
    banks = [LatentBank(encoder, mix.bucket) for mix in plan.mixes]
    text = TextStack(prompts.vocabulary).to(DEVICE)
    model, heads = networks.build_transformer().to(DEVICE), AttributeHeads().to(DEVICE)
    train_text(text, heads, prompts, plan.text_batch, text_seconds)
    text, model = train_jointly(text, model, heads, prompts, banks, plan, seconds, options.rate)
    for network, name in ((model, "transformer"), (text, "text")):
        path = options.out / f"{name}.safetensors"
        files.save(path, network.state_dict())
        network.load_state_dict(files.load(path))  # what is looked at is what was saved
    look(text, model, decoder, prompts, plan, options.out)


if __name__ == "__main__":
    main()
