"""Which tensors of a file one network needs: strict, from the headers alone.

A selection is complete and exact or it is a WeightsError: every tensor that the network's config asks for is there,
with its shape and in a dtype that we read, and nothing that the config does not explain lies under the network's prefix
(other networks' tensors and the known unused ones apart). A worker that reads a selection reads nothing else.

Weights of the linear layers in blocks may be stored in 8-bit floats or quantised; what belongs to such a weight (its
scales) is then selected with it. See `quantize_names`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from weights.architecture import connector, gemma, projection, transformer, upsampler, vae
from weights.errors import WeightsError
from weights.header import Header, Signature, TensorInfo, read_config, read_header
from weights.header_folder import GEMMA_REPOSITORY, read_folder
from weights.header_json import plain
from weights.quantize_names import PACKED, SCALES, Affine, affine_of, layer
from weights.select_fit import fit

Shapes = Mapping[str, tuple[int, ...]]


class Stored(NamedTuple):
    """One tensor in its file, where it is called `name`."""

    path: Path
    name: str
    info: TensorInfo


@dataclass(frozen=True)
class Selection:
    """`tensors`: relative name -> where it is. `config` is the architecture module's dataclass.

    `shapes`: of what the config asks for, by relative name: a quantised weight's own, not that of its packed form.
    """

    component: str
    path: Path
    config: Any
    tensors: Mapping[str, Stored] = field(repr=False)
    signatures: Mapping[Path, Signature] = field(repr=False)
    """Of each file, when its header was read: it must still be the same when its tensors are."""
    shapes: Mapping[str, tuple[int, ...]] = field(repr=False, default_factory=dict)

    @property
    def affine(self) -> Affine | None:
        """How the first quantised weight is quantised; None: there is none."""
        for name, stored in self.tensors.items():
            if stored.info.dtype == PACKED:
                scales = self.tensors[layer(name) + SCALES].info.shape
                return affine_of(self.shapes[name], stored.info.shape, scales)
        return None

    @property
    def bytes(self) -> int:
        """Of the selected tensors as stored."""
        return sum(stored.info.nbytes for stored in self.tensors.values())

    def within(self, prefix: str) -> Selection:
        """The tensors under a further prefix, by their names after it: one block's, for instance."""
        tensors = {name[len(prefix) :]: stored for name, stored in self.tensors.items() if name.startswith(prefix)}
        shapes = {name[len(prefix) :]: shape for name, shape in self.shapes.items() if name.startswith(prefix)}
        return replace(self, tensors=tensors, shapes=shapes)

    def outside(self, prefix: str) -> Selection:
        """The tensors that are not under a prefix: what is there once, beside the blocks."""
        tensors = {name: stored for name, stored in self.tensors.items() if not name.startswith(prefix)}
        shapes = {name: shape for name, shape in self.shapes.items() if not name.startswith(prefix)}
        return replace(self, tensors=tensors, shapes=shapes)


@dataclass(frozen=True)
class Component:
    """prefixes: what the tensors' names begin with in the file (spellings; the first that fits counts).

    describe: config JSON and all tensors of the file -> (config, shape of every needed tensor by relative name).
    unread: relative names under the prefix that are another network's, or known and unused.
    linear: relative names of weights that may be stored as fp8 or quantised.
    """

    name: str
    title: str
    prefixes: tuple[str, ...]
    describe: Callable[[Mapping[str, Any], Mapping[str, Stored]], tuple[Any, Shapes]]
    unread: Callable[[str], bool] = lambda name: False
    linear: Callable[[str], bool] = lambda name: False


def _transformer(config: Mapping[str, Any], _: Mapping[str, Stored]) -> tuple[Any, Shapes]:
    parsed = transformer.TransformerConfig.from_metadata(config)
    return parsed, transformer.tensors(parsed)


def _connector(config: Mapping[str, Any], _: Mapping[str, Stored]) -> tuple[Any, Shapes]:
    parsed = connector.ConnectorConfig.from_metadata(config)
    return parsed, connector.tensors(parsed)


def _projection(config: Mapping[str, Any], tensors: Mapping[str, Stored]) -> tuple[Any, Shapes]:
    """The file says the text encoder's width, and by its columns how many hidden states are projected."""
    width = config["transformer"]["caption_channels"]
    form = projection.ProjectionConfig.from_metadata(config, hidden_size=width)
    weight = next(name for name in projection.tensors(form) if name.endswith(".weight"))
    stored = tensors.get(projection.PREFIX + weight)
    if stored is not None and len(stored.info.shape) == 2:
        states = max(1, stored.info.shape[1] // width)
        form = projection.ProjectionConfig.from_metadata(config, hidden_size=width, num_states=states)
    return form, projection.tensors(form)


def _statistics(config: Mapping[str, Any], _: Mapping[str, Stored]) -> tuple[Any, Shapes]:
    parsed = vae.DecoderConfig.from_metadata(config)
    return parsed, vae.statistics_tensors(parsed.latent_channels)


def _encoder(config: Mapping[str, Any], _: Mapping[str, Stored]) -> tuple[Any, Shapes]:
    parsed = vae.EncoderConfig.from_metadata(config)
    return parsed, vae.encoder_tensors(parsed)


def _decoder(config: Mapping[str, Any], _: Mapping[str, Stored]) -> tuple[Any, Shapes]:
    parsed = vae.DecoderConfig.from_metadata(config)
    return parsed, vae.decoder_tensors(parsed)


def _upsampler(config: Mapping[str, Any], _: Mapping[str, Stored]) -> tuple[Any, Shapes]:
    parsed = upsampler.UpsamplerConfig.from_metadata(config)
    return parsed, upsampler.tensors(parsed)


def _gemma(config: Mapping[str, Any], _: Mapping[str, Stored]) -> tuple[Any, Shapes]:
    parsed = gemma.GemmaConfig.from_metadata(config)
    return parsed, gemma.tensors(parsed)


_VIDEO_CONNECTOR = (connector.PREFIX, f"{transformer.PREFIX}embeddings_connector.")
_CONNECTORS = tuple(prefix.removeprefix(transformer.PREFIX) for prefix in _VIDEO_CONNECTOR)

COMPONENTS: Mapping[str, Component] = MappingProxyType(
    {
        component.name: component
        for component in (
            Component(
                "transformer",
                "video transformer",
                (transformer.PREFIX,),
                _transformer,
                # The audio connector counts as audio by its name.
                lambda name: transformer.is_audio(name) or name.startswith(_CONNECTORS),
                lambda name: name.startswith(transformer.BLOCKS),
            ),
            Component("connector", "text connector", _VIDEO_CONNECTOR, _connector),
            Component(
                "projection",
                "text projection",
                (projection.PREFIX,),
                _projection,
                lambda name: name.startswith("audio_aggregate_embed."),
            ),
            Component(
                "statistics",
                "latent statistics",
                (vae.STATISTICS_PREFIX,),
                _statistics,
                lambda name: name in vae.UNUSED_STATISTICS,
            ),
            Component("vae_encoder", "VAE encoder", ("vae.encoder.",), _encoder),
            Component("vae_decoder", "VAE decoder", ("vae.decoder.",), _decoder),
            Component("upsampler", "latent upsampler", ("",), _upsampler),
            Component(
                "gemma",
                "text encoder",
                # As published, as transformers 4.52 and later write it, and text-only.
                (gemma.PREFIX, "model.language_model.", "model."),
                _gemma,
                lambda name: name.startswith(gemma.UNREAD),
                # Conversions by others quantise the embedding too; we do not.
                lambda name: name.startswith((gemma.LAYERS, "embed_tokens.")),
            ),
        )
    }
)


def select(path: Path | str, component: str) -> Selection:
    """The tensors of one component of a file (of a folder: "gemma"). WeightsError names what is wrong, and where."""
    path = Path(path)
    if component == "gemma":
        folder = read_folder(path)
        return _select(_Source(path, component, folder.headers, folder.config, json.dumps(folder.config)))
    return _select(_Source(path, component, (read_header(path),)))


@dataclass(frozen=True, eq=False)
class _Source:
    """What a selection is made from: equal to another where the files are the same, and as they were."""

    path: Path
    component: str
    headers: tuple[Header, ...]
    config: Mapping[str, Any] | None = None
    config_text: str = ""

    def __hash__(self) -> int:
        return hash((self.path, self.component))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Source) and self._identity == other._identity

    @property
    def _identity(self) -> tuple[Any, ...]:
        return self.path, self.component, self.config_text, [header.signature for header in self.headers]


@lru_cache(maxsize=32)
def _select(source: _Source) -> Selection:
    """Remembered, because recognising, planning and reporting all want the same selections."""
    wanted, path, headers = COMPONENTS[source.component], source.path, source.headers
    config_json = read_config(headers[0]) if source.config is None else source.config
    tensors = {name: Stored(header.path, name, info) for header in headers for name, info in header.tensors.items()}
    prefix = next((p for p in wanted.prefixes if any(name.startswith(p) for name in tensors)), None)
    if prefix is None:
        what = wanted.prefixes[0] or "anything"
        raise WeightsError(
            f"{path} holds no {wanted.title}: no tensor's name begins with {what}", advice="Use the official file."
        )
    config, shapes = _described(wanted, path, config_json, tensors)
    present = {name[len(prefix) :]: stored for name, stored in tensors.items() if name.startswith(prefix)}
    fault, chosen = fit(prefix, shapes, {n: s.info for n, s in present.items()}, wanted.unread, wanted.linear)
    if fault:
        raise WeightsError(
            f"The {wanted.title} of {path} does not fit ({len(shapes):,} tensors needed): {fault}.",
            advice="Use the official file, or fetch it again.",
        )
    return Selection(
        source.component,
        path,
        config,
        MappingProxyType({name: present[name] for name in chosen}),
        MappingProxyType({header.path: header.signature for header in headers}),
        MappingProxyType(dict(shapes)),
    )


def check_text_encoder(checkpoint: Selection, encoder: Selection) -> None:
    """WeightsError unless the checkpoint's text projection fits the hidden states of this Gemma."""
    width, states = checkpoint.config.hidden_size, checkpoint.config.num_states
    found = encoder.config.hidden_size, encoder.config.num_hidden_layers + 1
    if found != (width, states):
        raise WeightsError(
            f"{encoder.path} is not the text encoder of {checkpoint.path}: it gives {found[1]} hidden states of width "
            f"{found[0]}, and {states} of width {width} are needed.",
            advice=f"LTX-2 needs Gemma 3 12B (`hf download {GEMMA_REPOSITORY} --local-dir FOLDER`, then "
            "--gemma FOLDER); the tiny model has its own.",
        )


def bits_on_load(selection: Selection, wanted: int | None) -> int | None:
    """What the blocks' linear layers are quantised to as they are read; None: they stay as they are stored.

    WeightsError when the file is quantised to other bits already.
    """
    stored = selection.affine
    if wanted is not None and stored is not None and stored.bits != wanted:
        raise WeightsError(
            f"{selection.path} is quantised to {stored.bits} bits already; --quantize {wanted} cannot change that.",
            advice="Leave --quantize out, or name the 16-bit checkpoint.",
        )
    return None if stored is not None else wanted


def _described(
    wanted: Component, path: Path, config: Mapping[str, Any], tensors: Mapping[str, Stored]
) -> tuple[Any, Shapes]:
    try:
        if sum(_layer_counts(config)) > len(tensors):
            raise WeightsError(f"The config asks for more layers than its {len(tensors):,} tensors can make up.")
        return wanted.describe(config, tensors)
    except WeightsError as error:
        raise WeightsError(f"{path}: {plain(error.message, 400)}", advice=error.advice) from error
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError) as error:
        what = plain(str(error) or type(error).__name__)
        raise WeightsError(f"{path}: the config of its {wanted.title} cannot be understood ({what}).") from error


def _layer_counts(value: Any, key: str = "") -> Iterator[float]:
    """Every number of layers in a config: each layer has tensors, so that a hostile number is noticed before any
    list is made of it."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _layer_counts(inner, name)
    elif isinstance(value, list):
        for inner in value:
            # A VAE block may be written as [name, layers].
            yield from _layer_counts(inner, "num_layers" if key.endswith("coder_blocks[]") else f"{key}[]")
    elif key.endswith(("num_layers", "num_hidden_layers", "num_blocks_per_stage")) and isinstance(value, int | float):
        yield value
