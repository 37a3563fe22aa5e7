"""Which tensors of a LoRA change which weights: complete or refused, from headers alone.

Official spelling: `diffusion_model.<module>.lora_A.weight` [rank, in] and `.lora_B.weight` [out, rank], no alpha; the
change is strength * (B @ A). Every key must hit a linear layer of the transformer with the right shape; only modules of
the audio part, which the video-only model does not have, may stay unused. `lora_fuse` applies a match.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from weights.architecture.transformer import is_audio
from weights.errors import WeightsError
from weights.header import Header, Signature
from weights.header_json import plain
from weights.quantize_names import DENSE
from weights.select import Selection, Stored
from weights.select_fit import some

PREFIX = "diffusion_model."
_A, _B = ".lora_A.weight", ".lora_B.weight"


class Pair(NamedTuple):
    """a: [rank, in], b: [out, rank]."""

    a: Stored
    b: Stored

    @property
    def rank(self) -> int:
        return self.a.info.shape[0]


@dataclass(frozen=True)
class LoraMatch:
    """`pairs`: name of the weight that is changed -> its pair. `ignored`: keys of the audio part."""

    path: Path
    pairs: Mapping[str, Pair] = field(repr=False)
    ignored: tuple[str, ...] = field(repr=False)
    signature: Signature = field(repr=False)

    @property
    def bytes(self) -> int:
        """That fusing reads."""
        return sum(pair.a.info.nbytes + pair.b.info.nbytes for pair in self.pairs.values())

    @property
    def summary(self) -> str:
        """For people: "288 layers changed, ranks 8 to 384, 412 audio keys unused"."""
        ranks = sorted({pair.rank for pair in self.pairs.values()})
        rank = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
        unused = f", {len(self.ignored):,} audio keys unused" if self.ignored else ""
        return f"{len(self.pairs):,} layers changed, {rank}{unused}"

    def within(self, prefix: str) -> LoraMatch:
        """The changes to the weights under a prefix (one block's), by their names after it."""
        pairs = {name[len(prefix) :]: pair for name, pair in self.pairs.items() if name.startswith(prefix)}
        return LoraMatch(self.path, pairs, self.ignored, self.signature)


def match(lora: Header, transformer: Selection) -> LoraMatch:
    """Pair every key with a weight of the transformer. WeightsError with counts and names if one is left over."""
    modules: dict[str, dict[str, Stored]] = {}
    ignored, unmatched = [], []
    for key, info in lora.tensors.items():
        suffix = _A if key.endswith(_A) else _B
        module = key.removeprefix(PREFIX).removesuffix(suffix)
        weight = f"{module}.weight"
        if not (key.startswith(PREFIX) and key.endswith(suffix)):
            unmatched.append(key)
        elif is_audio(weight):
            ignored.append(key)
        elif weight not in transformer.tensors:
            unmatched.append(key)
        else:
            modules.setdefault(weight, {})[suffix] = Stored(lora.path, key, info)
    if unmatched or not modules:
        raise _no_fit(lora, transformer, _unmatched(len(lora.tensors), len(ignored), unmatched))
    pairs = {}
    for weight, halves in modules.items():
        if len(halves) < 2:
            (half,) = halves.values()
            raise _no_fit(lora, transformer, f"{half.name} is there without its other half")
        pairs[weight] = _checked(lora, transformer, weight, Pair(halves[_A], halves[_B]))
    return LoraMatch(lora.path, MappingProxyType(pairs), tuple(ignored), lora.signature)


def _checked(lora: Header, transformer: Selection, weight: str, pair: Pair) -> Pair:
    a, b, base = pair.a.info, pair.b.info, transformer.tensors[weight].info.shape
    unreadable = {a.dtype, b.dtype} - set(DENSE)
    if unreadable:
        raise _no_fit(lora, transformer, f"{plain(pair.a.name)} or its other half is {unreadable.pop()}")
    sound = len(a.shape) == len(b.shape) == len(base) == 2 and a.shape[0] == b.shape[1] > 0
    if not sound or (b.shape[0], a.shape[1]) != base:
        raise _no_fit(
            lora,
            transformer,
            f"lora_B {list(b.shape)} times lora_A {list(a.shape)} is not {plain(weight)}, which is {list(base)}",
        )
    return pair


def _unmatched(total: int, audio: int, keys: list[str]) -> str:
    if keys:
        return f"{len(keys):,} of its {total:,} keys hit no linear layer: {some(keys)}"
    return f"none of its {total:,} keys changes the video part" + (f" ({audio:,} are audio)" if audio else "")


def _no_fit(lora: Header, transformer: Selection, what: str) -> WeightsError:
    return WeightsError(
        f"The LoRA {lora.path} does not fit the transformer of {transformer.path}: {what}.",
        advice="Use a LoRA that was made for this checkpoint's version, in the official key spelling.",
    )
