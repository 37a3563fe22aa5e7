"""Which tensors of a LoRA change which weights: complete or refused, from headers alone.

Official spelling: `diffusion_model.<module>.lora_A.weight` [rank, in] and `.lora_B.weight` [out, rank]; the change is
strength * (B @ A), times alpha / rank where the LoRA brings an alpha. Other usual spellings are in `lora_names`. Every
key must hit a linear layer of the transformer with the right shape; only modules that the video-only model does not
have (audio), and those of the text projection, may stay unused, as in ltx-core 1.0.0. `lora_fuse` applies a match.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from weights import lora_names
from weights.architecture.transformer import is_audio, tensors
from weights.errors import WeightsError
from weights.header import Header, Signature
from weights.header_json import plain
from weights.quantize_names import DENSE, WEIGHT
from weights.select import Selection, Stored
from weights.select_fit import some

_TEXT = "text_embedding_projection."


class Pair(NamedTuple):
    """a: [rank, in], b: [out, rank], alpha: one value, or None."""

    a: Stored
    b: Stored
    alpha: Stored | None = None

    @property
    def rank(self) -> int:
        return self.a.info.shape[0]

    @property
    def stored(self) -> tuple[Stored, ...]:
        """What is read to apply it."""
        return (self.a, self.b) if self.alpha is None else (self.a, self.b, self.alpha)


@dataclass(frozen=True)
class LoraMatch:
    """`pairs`: name of the weight that is changed -> its pair. `ignored`: keys of the audio part; `text`: of text."""

    path: Path
    pairs: Mapping[str, Pair] = field(repr=False)
    ignored: tuple[str, ...] = field(repr=False)
    signature: Signature = field(repr=False)
    text: tuple[str, ...] = field(repr=False, default=())

    @property
    def bytes(self) -> int:
        """That applying it reads."""
        return sum(stored.info.nbytes for pair in self.pairs.values() for stored in pair.stored)

    @property
    def summary(self) -> str:
        """For people: "288 layers changed, ranks 8 to 384, 412 audio keys unused"."""
        ranks = sorted({pair.rank for pair in self.pairs.values()})
        rank = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
        unused = [(self.ignored, "audio"), (self.text, "text")]
        words = [f"{len(keys):,} {kind} keys unused" for keys, kind in unused if keys]
        return ", ".join([f"{len(self.pairs):,} layers changed", *([rank] if ranks else []), *words])

    def within(self, prefix: str) -> LoraMatch:
        """The changes to the weights under a prefix (one block's), by their names after it."""
        pairs = {name[len(prefix) :]: pair for name, pair in self.pairs.items() if name.startswith(prefix)}
        return replace(self, pairs=pairs)

    def outside(self, prefix: str) -> LoraMatch:
        """The changes to the weights that are not under a prefix."""
        return replace(self, pairs={n: pair for n, pair in self.pairs.items() if not n.startswith(prefix)})


def match(lora: Header, transformer: Selection) -> LoraMatch:
    """Pair every key with a weight of the transformer. WeightsError with counts and names if one is left over."""
    known = lora_names.spellings(_modules(transformer))
    modules: dict[str, dict[lora_names.Part, Stored]] = {}
    audio, text, unmatched = [], [], []
    for name, info in lora.tensors.items():
        key = lora_names.parse(name)
        module = None if key is None else known.get(key.module, key.module)
        weight = f"{module}{WEIGHT}"
        if key is None or module is None:
            unmatched.append(name)
        elif weight in transformer.shapes:
            parts = modules.setdefault(weight, {})
            if key.part in parts:
                raise _no_fit(lora, transformer, f"{plain(parts[key.part].name)} and {plain(name)} are the same half")
            parts[key.part] = Stored(lora.path, name, info)
        elif is_audio(weight):
            audio.append(name)
        elif module.startswith(_TEXT):
            text.append(name)
        else:
            unmatched.append(name)
    if unmatched or not modules:
        raise _no_fit(lora, transformer, _unmatched(len(lora.tensors), len(audio), unmatched))
    pairs = {}
    for weight, parts in modules.items():
        if "a" not in parts or "b" not in parts:
            alone = next(iter(parts.values()))
            raise _no_fit(lora, transformer, f"{plain(alone.name)} is there without its other half")
        pairs[weight] = _checked(lora, transformer, weight, Pair(parts["a"], parts["b"], parts.get("alpha")))
    return LoraMatch(lora.path, MappingProxyType(pairs), tuple(audio), lora.signature, tuple(text))


def _modules(transformer: Selection) -> Iterator[str]:
    """Every linear layer of the joint model, so that the spelling of audio modules is known too."""
    for name, shape in tensors(transformer.config, audio=True).items():
        if len(shape) == 2 and name.endswith(WEIGHT):
            yield name.removesuffix(WEIGHT)


def _checked(lora: Header, transformer: Selection, weight: str, pair: Pair) -> Pair:
    a, b, base = pair.a.info, pair.b.info, transformer.shapes[weight]
    unreadable = {stored.info.dtype for stored in pair.stored} - set(DENSE)
    if unreadable:
        raise _no_fit(lora, transformer, f"{plain(pair.a.name)} or its other half is {unreadable.pop()}")
    sound = len(a.shape) == len(b.shape) == len(base) == 2 and a.shape[0] == b.shape[1] > 0
    if not sound or (b.shape[0], a.shape[1]) != base:
        raise _no_fit(
            lora,
            transformer,
            f"lora_B {list(b.shape)} times lora_A {list(a.shape)} is not {plain(weight)}, which is {list(base)}",
        )
    if pair.alpha is not None and pair.alpha.info.shape not in ((), (1,)):
        raise _no_fit(lora, transformer, f"{plain(pair.alpha.name)} is not one value")
    return pair


def _unmatched(total: int, audio: int, keys: list[str]) -> str:
    if keys:
        return f"{len(keys):,} of its {total:,} keys hit no linear layer: {some(keys)}"
    return f"none of its {total:,} keys changes the video part" + (f" ({audio:,} are audio)" if audio else "")


def _no_fit(lora: Header, transformer: Selection, what: str) -> WeightsError:
    return WeightsError(
        f"The LoRA {lora.path} does not fit the transformer of {transformer.path}: {what}.",
        advice="Use a LoRA that was made for this checkpoint's version; LoHa, LoKr and DoRA are not read.",
    )
