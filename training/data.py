"""What the networks are trained on: latents of rendered clips, and tokenised captions, all in memory."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from training import networks
from training.configuration import CONTEXT_TOKENS, HIDDEN
from training.device import DEVICE, ON_GPU, autocast, uniform
from training.text_stack import TextStack
from training.world import captions, scenes

_FRAME_RATES = (24.0, 24.0, 24.0, 24.0, 24.0, 24.0, 30.0, 48.0)
_STAR_WEIGHT = 2.0
GROUP = 4
"""Clips of one combination that share a caption in a training step (see `fast_transformer`)."""


def combinations(*, held_out: bool = False) -> Tensor:
    """`[n, 5]` attribute indices, on the CPU."""
    return torch.tensor(captions.all_combinations(held_out=held_out))


def random_frame_rates(count: int) -> Tensor:
    """Mostly 24 frames a second, sometimes 30 or 48: `[count]`, on the device."""
    return torch.tensor(_FRAME_RATES)[torch.randint(len(_FRAME_RATES), (count,))].to(DEVICE)


@dataclass(frozen=True)
class Bucket:
    """Clips of one size. clips_each: for every combination; below 1, the share of the combinations that get one clip.

    batch: how many are rendered and encoded at once. limit: of the combinations, for a trial on a CPU.
    """

    height: int
    width: int
    frames: int
    clips_each: float
    batch: int
    limit: int | None = None

    @property
    def cells(self) -> tuple[int, int]:
        """Height and width in latent cells."""
        return self.height // 32, self.width // 32


class LatentBank:
    """The normalised latents of one bucket's clips, `[clips, 128, f, h, w]`, in bfloat16 on the device.

    Clips of one combination are neighbours, `clips_each` of them. Stars, the shape that is learnt last, are drawn more
    often than others.
    """

    def __init__(self, encoder: nn.Module, bucket: Bucket) -> None:
        started = time.time()
        shown = combinations()
        self.clips_each = max(1, int(bucket.clips_each))
        if bucket.clips_each < 1:
            rows = torch.randperm(len(shown))[: int(len(shown) * bucket.clips_each)]
        else:
            rows = torch.arange(len(shown))
        self.rows = rows[: bucket.limit]
        self.weights = torch.where(shown[self.rows, 0] == scenes.STAR, _STAR_WEIGHT, 1.0)
        latents, rates = [], []
        for part in self.rows.repeat_interleave(self.clips_each).split(bucket.batch):
            fps = random_frame_rates(len(part))
            drawn = scenes.sample_scenes(shown[part].to(DEVICE), (bucket.height, bucket.width), uniform)
            video = scenes.render(drawn, bucket.height, bucket.width, bucket.frames, fps)
            latents.append(networks.encode(encoder, video).to(torch.bfloat16))
            rates.append(fps)
        self.latents, self.fps = torch.cat(latents), torch.cat(rates)
        print(
            f"{len(self.latents)} clips {bucket.height}x{bucket.width}x{bucket.frames} in {time.time() - started:.1f} s"
        )

    def draw(self, count: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens and frame rates of `count` x GROUP random clips, the first latent frames of each; and `[count]` rows.

        A row is an index into `combinations()`; GROUP neighbouring clips are of the same row.
        """
        chosen = torch.multinomial(self.weights, count, replacement=True)
        clips = chosen[:, None] * self.clips_each + torch.randint(self.clips_each, (count, GROUP))
        clips = clips.flatten().to(DEVICE, non_blocking=True)
        return networks.to_tokens(self.latents[clips][:, :, :frames].float()), self.fps[clips], self.rows[chosen]


class Captions:
    """Tokenised captions: some variants of every combination, the empty one, and the negative prompts."""

    def __init__(self, tokenizer: Path, variants: int = 6, limit: int | None = None) -> None:
        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        self.tokenizer.no_padding()
        shown = captions.all_combinations()[:limit]
        self.count, self.variants = len(shown), variants
        rng = random.Random(random.random())
        texts = [captions.caption(combination, rng) for combination in shown for _ in range(variants)]
        self.ids = self._ids(texts)
        self.empty, *self.negative = self._ids(["", *captions.NEGATIVE_PROMPTS])

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding table: the tokenizer's size, rounded up."""
        return -(-self.tokenizer.get_vocab_size() // 32) * 32

    def batch(self, rows: Sequence[int], empty: float = 0.10, negative: float = 0.04) -> tuple[Tensor, Tensor]:
        """Captions of those combinations, a share of them replaced by no caption or by a negative prompt."""
        ids = []
        for row in rows:
            draw = random.random()
            if draw < empty:
                ids.append(self.empty)
            elif draw < empty + negative:
                ids.append(self.negative[min(3, int(random.random() * 3.2))])  # the long one seldom
            else:
                ids.append(self.ids[row % self.count * self.variants + random.randrange(self.variants)])
        return pad(ids)

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        return pad([ids[:CONTEXT_TOKENS] for ids in self._ids([text.strip() for text in texts])])


def pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids padded on the right to a multiple of 32, `[n, tokens]`, and their lengths `[n]`, on the device."""
    longest = -(-max(len(row) for row in rows) // 32) * 32
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
    lengths = torch.tensor([len(row) for row in rows])
    return ids.to(DEVICE, non_blocking=True), lengths.to(DEVICE, non_blocking=True)


class ContextBank:
    """The contexts of all captions of a text stack that no longer changes, computed once."""

    def __init__(self, text: TextStack, prompts: Captions) -> None:
        ids = [*prompts.ids, prompts.empty, *prompts.negative]
        self.count, self.variants, self.captions = prompts.count, prompts.variants, len(prompts.ids)
        dtype = torch.bfloat16 if ON_GPU else torch.float32
        self.contexts = torch.empty(len(ids), CONTEXT_TOKENS, HIDDEN, device=DEVICE, dtype=dtype)
        by_length = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        with torch.no_grad(), autocast():
            for start in range(0, len(by_length), 96):
                part = by_length[start : start + 96]
                contexts = text(*pad([ids[index] for index in part]))
                self.contexts[torch.tensor(part, device=DEVICE)] = contexts.to(dtype)

    @property
    def negative(self) -> Tensor:
        """The context of the first negative prompt, `[1, 1024, 96]`."""
        return self.contexts[self.captions + 1 : self.captions + 2]

    def draw(self, rows: Tensor, empty: float = 0.10, negative: float = 0.04) -> Tensor:
        """Contexts for combinations, a share of them replaced as in `Captions.batch`."""
        chosen = rows % self.count * self.variants + torch.randint(self.variants, rows.shape)
        draw = torch.rand(len(rows))
        chosen = torch.where(draw < empty, self.captions, chosen)
        replaced = (draw >= empty) & (draw < empty + negative)
        chosen = torch.where(replaced, self.captions + 1 + torch.randint(4, rows.shape), chosen)
        return self.contexts[chosen.to(DEVICE, non_blocking=True)]
