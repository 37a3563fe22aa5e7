"""What a latent upsampler is made of: its variant and every tensor of it, from its file's own flat `config`.

Guarantees: a config that `from_metadata` accepts is one that workers/networks/upsampler.py can run, and
`tensors` names each tensor of it with the shape it has in the file. Fields and defaults are those of ltx-core
1.0.0 (`LatentUpsamplerConfigurator`). Combinations that ltx-core can build but not run are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weights.architecture.fields import Fields
from weights.errors import WeightsError

GROUPS = 32
"""Groups of every group normalisation."""

_RATIOS: Mapping[float, tuple[int, int]] = {0.75: (3, 4), 1.5: (3, 2), 2.0: (2, 1), 4.0: (4, 1)}
_BLUR = 5

Shape = tuple[int, ...]


@dataclass(frozen=True)
class UpsamplerConfig:
    """channels -> width, `blocks` residual blocks, upsampling, `blocks` residual blocks, width -> channels.

    dims: 3, or 2 when every frame is a picture of its own (2-D convolutions, statistics per frame).
    time: frames n -> 2n - 1. ratio: (up, down) of height and width; (1, 1) leaves them.
    rational: the resampler's names (`upsampler.conv`, `upsampler.blur_down`) instead of `upsampler.0`.
    """

    channels: int
    width: int
    blocks: int
    dims: int
    time: bool
    ratio: tuple[int, int]
    rational: bool

    @staticmethod
    def from_metadata(config: Mapping[str, Any]) -> UpsamplerConfig:
        """From the upscaler file's `config`. WeightsError names the field that is missing or not supported."""
        fields = Fields("upsampler", config)
        if not {"mid_channels", "spatial_upsample", "temporal_upsample"} & config.keys():
            raise WeightsError("This config describes no latent upsampler: it has no mid_channels.")
        space, time = fields.flag("spatial_upsample", True), fields.flag("temporal_upsample", False)
        rational = fields.flag("rational_resampler", False) and space and not time
        dims = fields.integer("dims", 3)
        if not (space or time):
            raise _unsupported("spatial_upsample and temporal_upsample", "both are false")
        if dims not in (2, 3) or (dims == 2 and (time or rational)):
            raise _unsupported("dims", f"{dims} with this kind of upsampling")
        width = fields.integer("mid_channels", 512)
        if width % GROUPS:
            raise _unsupported("mid_channels", f"{width} is not a multiple of {GROUPS}")
        ratio = (2, 1) if space else (1, 1)
        if rational:
            scale = fields.number("spatial_scale", 2.0)
            if scale not in _RATIOS:
                raise _unsupported("spatial_scale", f"{scale} is none of {', '.join(map(str, _RATIOS))}")
            ratio = _RATIOS[scale]
        return UpsamplerConfig(
            channels=fields.integer("in_channels", 128),
            width=width,
            blocks=fields.integer("num_blocks_per_stage", 4),
            dims=dims,
            time=time,
            ratio=ratio,
            rational=rational,
        )

    def upsampled(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """The latent size that comes out for a latent of that size."""
        up, down = self.ratio
        return 2 * frames - 1 if self.time else frames, (height * up - 1) // down + 1, (width * up - 1) // down + 1


def tensors(config: UpsamplerConfig) -> dict[str, Shape]:
    """Every name with its shape in the file."""
    found = {
        **_conv("initial_conv", config.channels, config.width, config.dims),
        **_norm("initial_norm", config.width),
        **_conv("final_conv", config.width, config.channels, config.dims),
    }
    for stage in ("res_blocks", "post_upsample_res_blocks"):
        for index in range(config.blocks):
            for part in (1, 2):
                found |= _conv(f"{stage}.{index}.conv{part}", config.width, config.width, config.dims)
                found |= _norm(f"{stage}.{index}.norm{part}", config.width)
    grown = config.width * (2 if config.time else 1) * config.ratio[0] ** 2
    if config.rational:
        found |= _conv("upsampler.conv", config.width, grown, 2)
        found["upsampler.blur_down.kernel"] = (1, 1, _BLUR, _BLUR)
    else:
        found |= _conv("upsampler.0", config.width, grown, 3 if config.time else 2)
    return found


def _conv(name: str, inputs: int, outputs: int, dims: int) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs, *(3,) * dims), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _unsupported(field: str, what: str) -> WeightsError:
    return WeightsError(
        f"The upscaler's config asks for an upsampler that this program cannot run: {field}: {what}.",
        advice="Use an official LTX-2 upscaler, or a newer ltx-relay.",
    )
