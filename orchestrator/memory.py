"""Peak memory of each worker, from file headers and shapes alone: weights, activations, and what is kept beside them.

Pure: `predict(work, backend, holding)` says what a stage would take if its weights were held so. A stage has phases
that follow each other (the upsampler is gone before stage 2's transformer is read); its peak is the largest of them.

    predict ── memory_weights   bytes of weights as held
            ├─ memory_tokens    activations of transformer, Gemma, projection, connector
            ├─ memory_video     activations of decoder and upsamplers, frames, video encoder
            └─ memory_backends  measured constants
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator import memory_tokens as tokens
from orchestrator import memory_video as video
from orchestrator import memory_weights as weights
from orchestrator.memory_backends import Backend
from orchestrator.memory_tiles import Tiles, cut, encode_cut
from orchestrator.recipe import Recipe
from orchestrator.sizes import LatentShape
from weights.architecture.gemma import LAYERS
from weights.architecture.transformer import BLOCKS
from weights.lora import LoraMatch
from weights.select import Selection

HOST_OF_A_CARD = 3 << 30
"""Bytes of the host that a process takes which computes on a card: libraries, and what is on its way."""
ANOTHER_VIDEO = 8 << 20
"""Bytes that an encoder leaves behind when a worker makes more than one video."""
JOINING = 32 << 20
"""Bytes of files that are read and written, and of an index that grows with the number of packets."""


Pace = Literal["ahead", "whole", "parts"]


@dataclass(frozen=True)
class Network:
    """What a worker reads in one role."""

    selection: Selection
    loras: tuple[LoraMatch, ...] = ()


@dataclass(frozen=True)
class Work:
    """A stage as the memory model sees it. `result`: the latent that it makes, or (decode) reads; `before`: that it
    upsamples. texts: of the text stage. tiles, codec, size (width, height): of decode. kept: bytes of frames that a
    stage of an upscaled video holds beside what it computes with: its chunk, or the end of the one before."""

    stage: str
    networks: Mapping[str, Network]
    dtype: str
    result: LatentShape
    before: LatentShape
    items: int = 1
    passes: int = 1
    prompts: int = 1
    steps: int = 1
    bits: int | None = None
    texts: tuple[str, ...] = ()
    tiles: Tiles | None = None
    codec: str = "h264"
    size: tuple[int, int] = (0, 0)
    kept: int = 0

    @property
    def blocks(self) -> int:
        """Of the transformer that it denoises with; 0 without one."""
        network = self.networks.get("transformer")
        return network.selection.config.num_layers if network else 0


@dataclass(frozen=True)
class Holding:
    """How weights are held, and how frugally a worker computes; none of it changes a bit.

    resident_blocks: so many transformer blocks stay, the others come at each step, `prefetch` of them ahead of time;
    None: all stay. pace: see `workers.networks.pace`; "whole" where there is nothing to gain. keep_text: the text's
    keys and values in all blocks stay, instead of being made anew at each step. spare: no cache, short command buffers.
    """

    resident_blocks: int | None = None
    prefetch: int = 1
    pace: Pace = "whole"
    keep_text: bool = False
    spare: bool = False

    @property
    def params(self) -> dict[str, Any]:
        """What the job of a denoising stage says; nothing when everything stays."""
        found: dict[str, Any] = {"pace": self.pace} if self.pace != "whole" else {}
        if self.keep_text:
            found["keep_text"] = True
        if self.resident_blocks is not None:
            found["residency"] = {"resident_blocks": self.resident_blocks, "prefetch": self.prefetch}
        return found


@dataclass(frozen=True)
class Phase:
    """Bytes that are alive together at the peak of a part of a stage."""

    name: str
    weights: int
    activations: int
    kept: int = 0

    @property
    def arrays(self) -> int:
        return self.weights + self.activations + self.kept


@dataclass(frozen=True)
class Prediction:
    """Bytes. `peak` is the figure that the budget is about; `arrays` what MLX holds at the most of it."""

    stage: str
    holding: Holding
    phases: tuple[Phase, ...] = field(repr=False)
    base: int
    cache: int

    @property
    def largest(self) -> Phase:
        return max(self.phases, key=lambda phase: phase.arrays)

    @property
    def arrays(self) -> int:
        return self.largest.arrays

    @property
    def peak(self) -> int:
        return self.base + self.arrays + self.cache


def work_of(stage: str, recipe: Recipe, networks: Mapping[str, Network], dtype: str, tiles: Tiles | None) -> Work:
    """A stage of a recipe."""
    geometry = recipe.geometry
    first, second = geometry.stage1, geometry.stage2
    final = geometry.temporal_latent if recipe.temporal else second
    result, before = {
        "stage1": (first, first),
        "stage2": (second, first),
        "temporal": (geometry.temporal_latent, second),
    }.get(stage, (final, final))
    guided, perturbed = recipe.cfg != 1.0, recipe.stg != 0.0
    first_stage = stage == "stage1"
    return Work(
        stage=stage,
        networks=networks,
        dtype=dtype,
        result=result,
        before=before,
        items=len(recipe.seeds),
        passes=1 + guided + perturbed if first_stage else 1,
        prompts=1 + guided if first_stage else 1,
        steps={"stage1": recipe.steps_stage1, "stage2": recipe.steps_stage2}.get(stage, 1),
        bits=recipe.quantize,
        texts=(recipe.prompt, recipe.negative_prompt),
        tiles=tiles,
        codec=recipe.codec,
        size=geometry.output_size,
    )


def predict(work: Work, backend: Backend, holding: Holding | None = None) -> Prediction:
    """The peak of a stage whose weights are held so."""
    holding = holding or Holding()
    phases = tuple(_PHASES[work.stage](work, backend, holding))
    base = backend.base + (backend.text_base if work.stage == "text" else 0)
    base += backend.video_base if work.stage in ("encode", "decode", "join") else 0
    most = max(phases, key=lambda phase: phase.arrays)
    cache = 0 if backend.on_card or holding.spare else min(backend.cache, most.activations)
    return Prediction(work.stage, holding, phases, base, cache)


def _text(work: Work, backend: Backend, holding: Holding) -> Sequence[Phase]:
    """Gemma layer by layer; then the projection; then the connector. No two of them are there together."""
    gemma, projection, connector = (work.networks[name].selection for name in ("gemma", "projection", "connector"))
    counts = tuple(tokens.count_tokens(text) for text in work.texts)
    layers = weights.layers(gemma, LAYERS, gemma.config.num_hidden_layers, work.dtype)
    embedding = weights.tensor_bytes(
        gemma, "embed_tokens.weight", gemma.tensors["embed_tokens.weight"], work.dtype, None
    )
    states = tokens.gemma_states(gemma.config, counts, work.dtype)
    projected = weights.held_bytes(projection, work.dtype)
    flat = tokens.projection_activations(projection.config, counts, backend, work.dtype)
    connected = weights.held_bytes(connector, work.dtype)
    inside = tokens.connector_activations(connector.config, backend, work.dtype)
    return (
        Phase(
            "gemma",
            layers.streamed(0, holding.prefetch) - embedding,
            tokens.gemma_activations(gemma.config, counts, backend, work.dtype) + layers.decoded,
            states,
        ),
        Phase("projection", projected + weights.largest_bytes(projection, work.dtype), 0, states),
        Phase("projecting", projected, flat, states),
        Phase("connector", connected, inside, flat // 8),
    )


def _denoising(work: Work, backend: Backend, holding: Holding) -> Sequence[Phase]:
    network = work.networks["transformer"]
    selection = network.selection
    layers = weights.layers(selection, BLOCKS, work.blocks, work.dtype, work.bits, network.loras)
    held = layers.resident
    if holding.resident_blocks is not None:
        held = layers.streamed(holding.resident_blocks, holding.prefetch)
        if backend.runs_behind:  # the last weight of the block before, whose memory comes back a moment late
            held += layers.largest
    inside = tokens.transformer_activations(
        selection.config,
        work.result.tokens,
        work.passes,
        work.prompts,
        backend,
        work.dtype,
        holding.pace,
        holding.keep_text,
    )
    kept = work.items * video.latent_bytes(work.result, work.dtype) if work.stage == "stage2" else 0
    decoded = layers.decoded
    if holding.pace != "parts" and (backend.runs_behind or work.passes > 1):
        # Not one weight at a time, but all of a block's, or of those that are asked for ahead.
        decoded = layers.decoded_block * (3 if holding.pace == "ahead" else 1)
    return (Phase("loading", held, layers.loading, kept), Phase("denoising", held, inside + decoded, kept))


def _upsampling(work: Work, backend: Backend, holding: Holding) -> Sequence[Phase]:
    selection = work.networks["upsampler"].selection
    held = weights.held_bytes(selection, work.dtype)
    inside = video.upsampler_activations(selection.config, work.before, backend, work.dtype)
    result = video.latent_bytes(work.result, work.dtype)
    others = (work.items - 1) * result if work.stage == "stage2" else 0
    # On the host also as bytes, to be read and written.
    kept = others + (video.latent_bytes(work.before, work.dtype) if backend.on_card else 3 * result)
    return (
        Phase("loading", held, weights.largest_bytes(selection, work.dtype)),
        Phase("upsampling", held, inside, kept),
    )


def _stage2(work: Work, backend: Backend, holding: Holding) -> Sequence[Phase]:
    return (*_upsampling(work, backend, holding), *_denoising(work, backend, holding))


def _decode(work: Work, backend: Backend, holding: Holding) -> Sequence[Phase]:
    """Tiles into frames, frames into the encoder. On a card the frames are not on it (see `host_bytes`)."""
    assert work.tiles is not None
    selection = work.networks["vae_decoder"].selection
    held = weights.held_bytes(selection, work.dtype)
    grid = cut(work.result, work.tiles)
    inside = video.decoder_activations(selection.config, grid.tile, backend, work.dtype)
    latent = 2 * video.latent_bytes(work.result, work.dtype) + (0 if backend.on_card else work.kept)
    decoding, encoding = video.assembly_bytes(work.result, grid)
    encoder = video.encoder_bytes(work.codec, *work.size) + (ANOTHER_VIDEO if work.items > 1 else 0)
    if backend.on_card:
        decoding = encoding = encoder = 0
    begun = encoder if grid.along[0] > 1 else 0  # the encoder has frames once the first row of tiles is done
    return (
        Phase("loading", held, weights.largest_bytes(selection, work.dtype)),
        Phase("decoding", held, inside, latent + decoding + begun),
        Phase("encoding", held, 0, latent + encoding + encoder),
    )


def host_bytes(work: Work) -> int:
    """What a decode on a card takes of the host's memory: frames, and the encoder."""
    assert work.tiles is not None
    decoding, encoding = video.assembly_bytes(work.result, cut(work.result, work.tiles))
    return max(decoding, encoding) + video.encoder_bytes(work.codec, *work.size) + work.kept + HOST_OF_A_CARD


def _encode(work: Work, backend: Backend, holding: Holding) -> Sequence[Phase]:
    """A chunk of frames, then tiles of it; `size` is that of a frame on the grid."""
    assert work.tiles is not None
    selection = work.networks["vae_encoder"].selection
    held = weights.held_bytes(selection, work.dtype)
    tile = encode_cut(work.result, work.tiles).tile
    inside = video.encoder_activations(selection.config, tile, backend, work.dtype)
    # As float32 too, while tiles are put together.
    latent = 2 * video.latent_bytes(work.result, work.dtype) + video.latent_bytes(work.result, "float32")
    kept = 0 if backend.on_card else work.kept + video.source_bytes(*work.size)
    return (
        Phase("loading", held, weights.largest_bytes(selection, work.dtype)),
        Phase("encoding", held, inside, latent + kept),
    )


def _join(work: Work, backend: Backend, holding: Holding) -> Sequence[Phase]:
    """Packets go from file to file."""
    return (Phase("joining", 0, 0, JOINING),)


_PHASES = {
    "text": _text,
    "encode": _encode,
    "stage1": _denoising,
    "stage2": _stage2,
    "spatial": _upsampling,
    "temporal": _upsampling,
    "decode": _decode,
    "join": _join,
}
