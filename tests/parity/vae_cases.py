"""The cases in which the video VAE and the upsamplers are compared with the reference: shared by makers and tests.

Each is a small network of random weights. Of a large output the goldens hold a sample and, per frame, the mean and root
mean square, which see every value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.parity.random_weights import Floats

SAMPLES = 6000


@dataclass(frozen=True)
class Case:
    """config: the file's metadata. shape: of the input, `[1, channels, frames, height, width]`. tiles: spatial size and
    overlap, temporal size and overlap."""

    name: str
    config: dict[str, Any]
    shape: tuple[int, int, int, int, int]
    tiles: tuple[int | None, int, int | None, int] | None = None


def sampled(output: Floats) -> Floats:
    """About SAMPLES values spread over the output, at a stride that is a multiple of no side."""
    stride = max(1, output.size // SAMPLES)
    while stride > 1 and any(stride % factor == 0 for factor in (2, 3, 5, 7)):
        stride += 1
    return np.ascontiguousarray(output.reshape(-1)[::stride])


def per_frame(output: Floats) -> Floats:
    """[1, channels, frames, height, width] -> mean and root mean square of each frame, [2, frames]."""
    values = output.astype(np.float64)
    return np.stack([values.mean((0, 1, 3, 4)), np.sqrt((values**2).mean((0, 1, 3, 4)))]).astype(np.float32)


def _vae(**changes: Any) -> dict[str, Any]:
    return {"vae": {"dims": 3, "norm_layer": "pixel_norm", "timestep_conditioning": False, **changes}}


_ENCODER_19B = [
    ["res_x", {"num_layers": 2}],
    ["compress_space_res", {"multiplier": 2}],
    ["res_x", {"num_layers": 1}],
    ["compress_time_res", {"multiplier": 2}],
    ["res_x", 1],
    ["compress_all_res", {"multiplier": 2}],
    ["res_x", {"num_layers": 1}],
    ["compress_all_res", {"multiplier": 2}],
    ["res_x", {"num_layers": 1}],
]
_ENCODER_23 = [*_ENCODER_19B[:7], ["compress_all_res", {"multiplier": 1}], ["res_x", {"num_layers": 1}]]
_ENCODER_OTHER = [
    ["compress_space", {}],
    ["res_x_y", {"multiplier": 3}],
    ["compress_time", {}],
    ["compress_all", {}],
    ["res_x", 1],
    ["compress_all_x_y", {}],
]
_DECODER_19B = [
    ["res_x", {"num_layers": 1, "inject_noise": False}],
    ["compress_all", {"residual": True, "multiplier": 2}],
    ["res_x", {"num_layers": 2, "inject_noise": False}],
    ["compress_all", {"residual": True, "multiplier": 2}],
    ["res_x", {"num_layers": 1, "inject_noise": False}],
    ["compress_all", {"residual": True, "multiplier": 2}],
    ["res_x", {"num_layers": 2, "inject_noise": False}],
]
_DECODER_23 = [
    ["res_x", {"num_layers": 1}],
    ["compress_space", {"multiplier": 2}],
    ["res_x", {"num_layers": 2}],
    ["compress_time", {"multiplier": 2}],
    ["res_x", 1],
    ["compress_all", {"multiplier": 1}],
    ["res_x", {"num_layers": 1}],
    ["compress_all", {"multiplier": 2}],
    ["res_x", {"num_layers": 1}],
]
_DECODER_NOISE = [
    ["res_x", {"num_layers": 1, "inject_noise": True}],
    ["compress_all", {"residual": True, "multiplier": 2}],
    ["res_x_y", {"multiplier": 2}],
    ["compress_all", {"multiplier": 2}],
    ["compress_all", {"residual": True, "multiplier": 1}],
    ["res_x", {"num_layers": 2}],
]


def _encoder(blocks: list[Any], **changes: Any) -> dict[str, Any]:
    return _vae(encoder_blocks=blocks, latent_channels=8, **changes)


def _decoder(blocks: list[Any], **changes: Any) -> dict[str, Any]:
    return _vae(decoder_blocks=blocks, latent_channels=8, decoder_base_channels=4, **changes)


ENCODER = (
    Case("19b", _encoder(_ENCODER_19B), (1, 3, 9, 96, 160)),
    Case("19b-one-frame", _encoder(_ENCODER_19B), (1, 3, 1, 64, 96)),
    Case("19b-cropped", _encoder(_ENCODER_19B), (1, 3, 12, 32, 64)),
    Case("19b-reflect", _encoder(_ENCODER_19B, spatial_padding_mode="reflect"), (1, 3, 9, 64, 96)),
    Case("2.3", _encoder(_ENCODER_23, spatial_padding_mode="zeros"), (1, 3, 17, 96, 64)),
    Case("other-blocks", _encoder(_ENCODER_OTHER, latent_log_var="per_channel"), (1, 3, 9, 64, 32)),
    Case("constant-variance", _encoder(_ENCODER_23, latent_log_var="constant"), (1, 3, 1, 32, 32)),
)

DECODER = (
    Case("19b", _decoder(_DECODER_19B), (1, 8, 2, 2, 3)),
    Case("19b-one-frame", _decoder(_DECODER_19B), (1, 8, 1, 3, 5)),
    Case("19b-causal", _decoder(_DECODER_19B, causal_decoder=True), (1, 8, 3, 3, 2)),
    Case("2.3", _decoder(_DECODER_23, spatial_padding_mode="zeros"), (1, 8, 3, 2, 3)),
    Case("2.3-smallest", _decoder(_DECODER_23, spatial_padding_mode="zeros"), (1, 8, 1, 1, 1)),
    Case("timestep", _decoder(_DECODER_19B, timestep_conditioning=True), (1, 8, 2, 2, 2)),
    Case("timestep-and-noise", _decoder(_DECODER_NOISE, timestep_conditioning=True), (1, 8, 2, 3, 2)),
)

_TILED = _decoder([["compress_all", {"residual": True, "multiplier": 2}]] * 3)

TILED_DECODE = (
    Case("all-axes", _TILED, (1, 8, 6, 4, 6), (128, 64, 24, 8)),
    Case("wide", _TILED, (1, 8, 2, 3, 8), (128, 32, 16, 8)),
    Case("time-only", _TILED, (1, 8, 9, 2, 2), (None, 0, 32, 24)),
    Case("space-only", _TILED, (1, 8, 2, 5, 4), (96, 32, 64, 24)),
    Case("short-last-tile", _TILED, (1, 8, 5, 2, 2), (64, 32, 32, 0)),
    Case("one-tile", _TILED, (1, 8, 3, 2, 3), (96, 32, 32, 16)),
    Case("noise", _decoder(_DECODER_NOISE, timestep_conditioning=True), (1, 8, 3, 2, 4), (64, 32, 16, 8)),
)

_TILED_ENCODER = _encoder(
    [
        ["compress_space_res", {}],
        ["compress_time_res", {}],
        ["compress_all_res", {"multiplier": 1}],
        ["compress_all_res", {"multiplier": 1}],
    ]
)

TILED_ENCODE = (
    Case("all-axes", _TILED_ENCODER, (1, 3, 41, 128, 192), (96, 64, 24, 16)),
    Case("wide-overlap", _TILED_ENCODER, (1, 3, 9, 256, 160), (160, 96, None, 0)),
    Case("raised-overlap", _TILED_ENCODER, (1, 3, 34, 128, 64), (96, 32, 32, 8)),
    Case("whole-length-first-tile", _TILED_ENCODER, (1, 3, 33, 64, 64), (None, 0, 32, 24)),
)


def _upsampler(**changes: Any) -> dict[str, Any]:
    common = {"_class_name": "LatentUpsampler", "in_channels": 8, "mid_channels": 32, "num_blocks_per_stage": 2}
    space = {"dims": 3, "spatial_upsample": True, "temporal_upsample": False, "spatial_scale": 2.0}
    return {**common, **space, "rational_resampler": False, **changes}


UPSAMPLER = (
    Case("space-x2", _upsampler(), (1, 8, 3, 4, 5)),
    Case("space-x2-rational", _upsampler(rational_resampler=True, mid_channels=64), (1, 8, 2, 3, 4)),
    Case("space-x1.5", _upsampler(rational_resampler=True, spatial_scale=1.5), (1, 8, 2, 5, 4)),
    Case("space-x4", _upsampler(rational_resampler=True, spatial_scale=4.0), (1, 8, 1, 2, 3)),
    Case("space-x0.75", _upsampler(rational_resampler=True, spatial_scale=0.75), (1, 8, 1, 6, 5)),
    Case("space-x2-per-frame", _upsampler(dims=2), (1, 8, 3, 4, 5)),
    Case("time", _upsampler(spatial_upsample=False, temporal_upsample=True), (1, 8, 4, 3, 5)),
    Case(
        "time-flagged-rational",
        _upsampler(spatial_upsample=False, temporal_upsample=True, rational_resampler=True),
        (1, 8, 1, 2, 2),
    ),
    Case("space-and-time", _upsampler(temporal_upsample=True), (1, 8, 3, 3, 2)),
)
