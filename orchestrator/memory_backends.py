"""What the memory of a worker depends on besides shapes: one table of measured constants per backend.

`peak` means, by backend, what ends a process there: on Metal and on a CPU the process as the system counts it (the
physical footprint; VmHWM), on CUDA what MLX holds on the card. Units count arrays that are alive at once, in multiples
of the largest activation of the network at hand. They were found with `benchmarks/stage_memory.py` (on a GPU
`benchmarks/activations.py`), and are a little more than what was measured: a prediction is never below, and at most a
tenth above. Exceptions, on CUDA: the VAE's encoder is 10 to 14% above, and blocks asked for ahead in large arrays more
(docs/memory.md).

`measured` says whether a backend's units were; estimates are made from the networks' graphs, on the safe side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

MB = 1 << 20


@dataclass(frozen=True)
class Backend:
    """Bytes and units; see the module. `float_bytes` of a dtype are in `ITEM_BYTES`."""

    name: str
    measured: bool
    on_card: bool
    """Whether the peak is the card's: then the host's memory (frames, encoder, Python) is not in it."""
    base: int
    """Python, MLX and numpy, before any array; on a card what MLX's kernels and streams take."""
    text_base: int
    """More, for the tokenizer."""
    video_base: int
    """More, for PyAV and FFmpeg."""
    cache: int
    """MLX's buffer cache, kept at most. On a card it is not in the peak: MLX gives it back before it would not fit."""
    block_units: float
    """[tokens, width] arrays inside a transformer block, evaluated whole. A GPU runs behind: all that a block makes."""
    part_units: float
    """The same while a block is evaluated part by part."""
    ahead_units: float
    """The same while blocks are asked for ahead of time; 0 where that gains nothing and is not done."""
    pass_units: float
    """More of them for each guidance pass."""
    scratch_units: float
    scratch: tuple[int, int]
    """The matrix library's own memory: so many [tokens, width] arrays, within these bounds."""
    gemma_units: float
    """[tokens, intermediate width] arrays inside a layer of Gemma."""
    flat_units: float
    """Arrays of the size of all of a prompt's hidden states, where they are projected."""
    residual_units: float
    """Activations of one size inside a residual block of the VAE."""
    grow_units: float
    """Arrays of the result's size inside an upsampling layer of the VAE."""
    shrink_units: float
    """Arrays of the input's size inside a downsampling layer of the VAE's encoder."""
    picture_units: float
    """Arrays of the size of the pixels while they come out of the decoder, besides two of its last activations."""
    latent_units: float
    """Whole activations of an upsampler that are alive, by pieces or not."""
    piece_units: float
    """Operations on a piece, with what they read and make, that are alive at once."""
    runs_behind: bool
    """Whether what computes runs behind the program that feeds it: then all arrays of a graph are alive at once."""
    fused_attention: frozenset[str]
    """Dtypes in which no array of tokens x tokens is made."""
    direct_convolution: frozenset[str]
    """Dtypes in which a convolution's input is not unfolded to 27 times its size."""
    share: float
    """Of available memory (CPU), of the card (CUDA), of Metal's recommended working set: what workers may take."""
    stated_share: float
    """Of all memory, for choosing tiles: what a process can count on whatever else is running."""


CPU = Backend(
    name="cpu",
    measured=True,
    on_card=False,
    base=54 * MB,
    text_base=12 * MB,
    video_base=26 * MB,
    cache=0,
    block_units=14.0,
    part_units=14.0,
    ahead_units=0.0,
    pass_units=1.2,
    scratch_units=18.0,
    scratch=(12 * MB, 32 * MB),
    gemma_units=6.0,
    flat_units=2.0,
    residual_units=4.9,
    grow_units=4.1,
    shrink_units=2.7,
    picture_units=2.2,
    latent_units=3.0,
    piece_units=1.5,
    runs_behind=False,
    fused_attention=frozenset({"float32"}),
    direct_convolution=frozenset({"float32"}),
    share=0.85,
    stated_share=0.8,
)

METAL = Backend(
    name="metal",
    measured=False,
    on_card=False,
    base=160 * MB,
    text_base=48 * MB,
    video_base=32 * MB,
    cache=512 * MB,
    block_units=24.0,
    part_units=10.0,
    ahead_units=0.0,
    pass_units=0.95,
    scratch_units=0.0,
    scratch=(0, 0),
    gemma_units=14.5,
    flat_units=1.3,
    residual_units=4.5,
    grow_units=4.0,
    shrink_units=4.5,
    picture_units=3.0,
    latent_units=2.5,
    piece_units=2.0,
    runs_behind=True,
    fused_attention=frozenset({"float32", "bfloat16", "float16"}),
    direct_convolution=frozenset({"float32", "bfloat16", "float16"}),
    share=1.0,
    stated_share=0.65,
)

CUDA = Backend(
    name="cuda",
    measured=True,
    on_card=True,
    base=8 * MB,
    text_base=0,
    video_base=0,
    cache=512 * MB,
    block_units=20.85,
    part_units=8.8,
    ahead_units=70.0,
    pass_units=0.95,
    scratch_units=0.0,
    scratch=(0, 0),
    gemma_units=14.5,
    flat_units=1.3,
    residual_units=3.15,
    grow_units=3.3,
    shrink_units=4.0,
    picture_units=3.0,
    latent_units=2.05,
    piece_units=1.7,
    runs_behind=True,
    fused_attention=frozenset({"bfloat16", "float16"}),
    direct_convolution=frozenset({"float32", "bfloat16", "float16"}),
    share=0.92,
    stated_share=0.85,
)

BACKENDS: Mapping[str, Backend] = MappingProxyType({backend.name: backend for backend in (CPU, METAL, CUDA)})

ITEM_BYTES: Mapping[str, int] = MappingProxyType({"float32": 4, "bfloat16": 2, "float16": 2})
"""Bytes of a value by compute dtype."""

ENCODER: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"h264": (12 * MB, 95), "hevc": (78 * MB, 360), "prores": (3 * MB, 12), "ffv1": (4 * MB, 80)}
)
"""Of a video encoder with its frames ahead: bytes, and bytes per pixel of a frame. Measured with PyAV 16, 60 frames."""

SOURCE: tuple[int, int] = (28 * MB, 120)
"""Of a video file that is read: bytes, and bytes per pixel of a frame, for the pictures that its decoder keeps."""
