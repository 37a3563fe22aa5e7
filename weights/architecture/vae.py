"""What a video VAE is made of: its blocks and every tensor of its halves, from the checkpoint's `config`.

Guarantees: a config that `from_metadata` accepts is one that workers/networks can run, and `encoder_tensors`
and `decoder_tensors` name each tensor of it with the shape it has in the file. Fields and defaults are those of
ltx-core 1.0.0 (`VideoEncoderConfigurator`, `VideoDecoderConfigurator`): without `spatial_padding_mode` the
encoder pads with zeros and the decoder reflects; without `timestep_conditioning` the decoder is conditioned.
Not here: any values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from weights.architecture.fields import Fields
from weights.errors import WeightsError

TIME_SCALE, SPACE_SCALE = 8, 32
"""Pixel frames per latent frame (after the first), and pixels per latent in height and width, in every release."""

STATISTICS_PREFIX = "vae.per_channel_statistics."
UNUSED_STATISTICS = frozenset({"channel", "mean-of-stds", "mean-of-stds_over_std-of-means"})
"""Names after `STATISTICS_PREFIX` that the 19B files hold and nothing reads."""

TIMESTEP_WIDTH = 256
"""Width of the sinusoidal embedding of a timestep."""

Shape = tuple[int, ...]
Stride = tuple[int, int, int]


@dataclass(frozen=True)
class Block:
    """One entry of `down_blocks` or `up_blocks`.

    kind: "res" (`layers` residual blocks of equal width), "res_y" (one residual block that changes the
    width), "conv" (a strided convolution), "space_to_depth" (both encoder only) or "depth_to_space" (decoder).
    residual: whether depth-to-space adds its input (space-to-depth always does).
    noise: the residual blocks inject spatial noise. timestep: they are modulated by a timestep.
    """

    kind: str
    inputs: int
    outputs: int
    layers: int = 1
    stride: Stride = (1, 1, 1)
    residual: bool = False
    noise: bool = False
    timestep: bool = False


@dataclass(frozen=True)
class EncoderConfig:
    """Pixels of `channels` to means of `latent_channels`; `outputs` counts the log-variance channels too."""

    channels: int
    latent_channels: int
    outputs: int
    patch: int
    padding: str
    blocks: tuple[Block, ...]

    @staticmethod
    def from_metadata(config: Mapping[str, Any]) -> EncoderConfig:
        """From the checkpoint's whole `config`. WeightsError names the field that is missing or not supported."""
        vae = _vae(config)
        latent = vae.integer("latent_channels", 128)
        variance = vae.choice("latent_log_var", ("uniform", "constant", "per_channel"), "uniform")
        patch = vae.integer("patch_size", 4)
        blocks: list[Block] = []
        for name, fields in _entries(vae, "encoder_blocks"):
            blocks.append(_encoder_block(name, fields, blocks[-1].outputs if blocks else latent))
        _check_scale(blocks, patch, "vae.encoder_blocks")
        return EncoderConfig(
            channels=vae.integer("in_channels", 3),
            latent_channels=latent,
            outputs=2 * latent if variance == "per_channel" else latent + 1,
            patch=patch,
            padding=vae.choice("spatial_padding_mode", ("zeros", "reflect"), "zeros"),
            blocks=tuple(blocks),
        )


@dataclass(frozen=True)
class DecoderConfig:
    """Latents of `latent_channels` to pixels of `channels`. `width`: channels after the first convolution.

    causal: a frame sees only earlier ones (padding only; the weights are the same).
    timestep: the decoder first blends noise into the latent, and is modulated by a timestep.
    """

    channels: int
    latent_channels: int
    width: int
    patch: int
    padding: str
    causal: bool
    timestep: bool
    blocks: tuple[Block, ...]

    @staticmethod
    def from_metadata(config: Mapping[str, Any]) -> DecoderConfig:
        """From the checkpoint's whole `config`. WeightsError names the field that is missing or not supported."""
        vae = _vae(config)
        width = 8 * vae.integer("decoder_base_channels", 128)
        timestep = vae.flag("timestep_conditioning", True)
        patch = vae.integer("patch_size", 4)
        blocks: list[Block] = []
        for name, fields in reversed(list(_entries(vae, "decoder_blocks"))):
            blocks.append(_decoder_block(name, fields, blocks[-1].outputs if blocks else width, timestep))
        _check_scale(blocks, patch, "vae.decoder_blocks")
        return DecoderConfig(
            channels=vae.integer("out_channels", 3),
            latent_channels=vae.integer("latent_channels", 128),
            width=width,
            patch=patch,
            padding=vae.choice("spatial_padding_mode", ("zeros", "reflect"), "reflect"),
            causal=vae.flag("causal_decoder", False),
            timestep=timestep,
            blocks=tuple(blocks),
        )

    @property
    def needs_noise(self) -> bool:
        """Whether decoding draws random numbers; it does for no released file."""
        return self.timestep or any(block.noise for block in self.blocks)


def encoder_tensors(config: EncoderConfig) -> dict[str, Shape]:
    """Names after `vae.encoder.` with their shapes in the file."""
    return {
        **_conv("conv_in.conv", config.channels * config.patch**2, config.latent_channels),
        **_all_blocks("down_blocks", config.blocks),
        **_conv("conv_out.conv", config.blocks[-1].outputs, config.outputs),
    }


def decoder_tensors(config: DecoderConfig) -> dict[str, Shape]:
    """Names after `vae.decoder.` with their shapes in the file."""
    width = config.blocks[-1].outputs
    tensors = {
        **_conv("conv_in.conv", config.latent_channels, config.width),
        **_all_blocks("up_blocks", config.blocks),
        **_conv("conv_out.conv", width, config.channels * config.patch**2),
    }
    if config.timestep:
        tensors |= {"timestep_scale_multiplier": (), "last_scale_shift_table": (2, width)}
        tensors |= _embedder("last_time_embedder", 2 * width)
    return tensors


def statistics_tensors(latent_channels: int = 128) -> dict[str, Shape]:
    """Names after `STATISTICS_PREFIX` that normalising needs; for the others see `UNUSED_STATISTICS`."""
    return {"mean-of-means": (latent_channels,), "std-of-means": (latent_channels,)}


def _all_blocks(prefix: str, blocks: Sequence[Block]) -> dict[str, Shape]:
    tensors: dict[str, Shape] = {}
    for index, block in enumerate(blocks):
        tensors |= _block(f"{prefix}.{index}", block)
    return tensors


def _block(name: str, block: Block) -> dict[str, Shape]:
    if block.kind == "conv":
        return _conv(f"{name}.conv", block.inputs, block.outputs)
    if block.kind == "space_to_depth":
        return _conv(f"{name}.conv.conv", block.inputs, block.outputs // prod(block.stride))
    if block.kind == "depth_to_space":
        return _conv(f"{name}.conv.conv", block.inputs, block.outputs * prod(block.stride))
    if block.kind == "res_y":
        return _residual_block(name, block)
    tensors: dict[str, Shape] = {}
    for layer in range(block.layers):
        tensors |= _residual_block(f"{name}.res_blocks.{layer}", block)
    if block.timestep:
        tensors |= _embedder(f"{name}.time_embedder", 4 * block.inputs)
    return tensors


def _residual_block(name: str, block: Block) -> dict[str, Shape]:
    tensors = {
        **_conv(f"{name}.conv1.conv", block.inputs, block.outputs),
        **_conv(f"{name}.conv2.conv", block.outputs, block.outputs),
    }
    if block.noise:
        tensors |= {f"{name}.per_channel_scale{i}": (block.inputs, 1, 1) for i in (1, 2)}
    if block.timestep:
        tensors[f"{name}.scale_shift_table"] = (4, block.inputs)
    if block.inputs != block.outputs:
        tensors |= _conv(f"{name}.conv_shortcut", block.inputs, block.outputs, kernel=1)
        tensors |= {f"{name}.norm3.weight": (block.inputs,), f"{name}.norm3.bias": (block.inputs,)}
    return tensors


def _conv(name: str, inputs: int, outputs: int, kernel: int = 3) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs, kernel, kernel, kernel), f"{name}.bias": (outputs,)}


def _embedder(name: str, width: int) -> dict[str, Shape]:
    name = f"{name}.timestep_embedder"
    return {
        f"{name}.linear_1.weight": (width, TIMESTEP_WIDTH),
        f"{name}.linear_1.bias": (width,),
        f"{name}.linear_2.weight": (width, width),
        f"{name}.linear_2.bias": (width,),
    }


_STRIDES: Mapping[str, Stride] = {
    "compress_time": (2, 1, 1),
    "compress_space": (1, 2, 2),
    "compress_all": (2, 2, 2),
}


def _encoder_block(name: str, fields: Fields, inputs: int) -> Block:
    if name == "res_x":
        return Block("res", inputs, inputs, layers=fields.integer("num_layers"))
    if name == "res_x_y":
        return Block("res_y", inputs, inputs * fields.integer("multiplier", 2))
    if name in _STRIDES:
        return Block("conv", inputs, inputs, stride=_STRIDES[name])
    if name == "compress_all_x_y":
        outputs = inputs * fields.integer("multiplier", 2)
        return Block("conv", inputs, outputs, stride=_STRIDES["compress_all"])
    stride = _STRIDES.get(name.removesuffix("_res"))
    if stride is None:
        raise _unsupported(fields.name, repr(name))
    outputs = inputs * fields.integer("multiplier", 2)
    if outputs % prod(stride) or inputs * prod(stride) % outputs:
        raise _unsupported(fields.name, f"{name} from {inputs} to {outputs} channels")
    return Block("space_to_depth", inputs, outputs, stride=stride, residual=True)


def _decoder_block(name: str, fields: Fields, inputs: int, timestep: bool) -> Block:
    noise = fields.flag("inject_noise", False)
    if name == "res_x":
        layers = fields.integer("num_layers")
        return Block("res", inputs, inputs, layers=layers, noise=noise, timestep=timestep)
    multiplier = fields.integer("multiplier", 2 if name == "res_x_y" else 1)
    if name == "res_x_y":
        if inputs % multiplier or (noise and multiplier > 1):
            raise _unsupported(fields.name, f"{name} from {inputs} channels, multiplier {multiplier}")
        return Block("res_y", inputs, inputs // multiplier, noise=noise)
    if name not in _STRIDES:
        raise _unsupported(fields.name, repr(name))
    stride = _STRIDES[name]
    # ltx-core 1.0.0 reads `residual` for compress_all only.
    residual = name == "compress_all" and fields.flag("residual", False)
    cells = prod(stride)
    if inputs % multiplier or (residual and (inputs % cells or cells % multiplier)):
        raise _unsupported(fields.name, f"{name} from {inputs} channels, multiplier {multiplier}")
    return Block("depth_to_space", inputs, inputs // multiplier, stride=stride, residual=residual)


def _entries(vae: Fields, key: str) -> Iterator[tuple[str, Fields]]:
    """Name and settings of each block as listed; a bare number is the count of layers."""
    entries = vae.values.get(key)
    if not isinstance(entries, list) or not entries:
        raise WeightsError(f"The config lacks vae.{key}, so the video VAE cannot be built.")
    for index, entry in enumerate(entries):
        where = f"vae.{key}[{index}]"
        if not (isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[0], str)):
            raise _unsupported(where, repr(entry))
        settings = {"num_layers": entry[1]} if isinstance(entry[1], int) else entry[1]
        if not isinstance(settings, Mapping):
            raise _unsupported(where, repr(entry))
        yield entry[0], Fields(where, settings)


def _check_scale(blocks: Sequence[Block], patch: int, where: str) -> None:
    time, height, width = (prod(block.stride[axis] for block in blocks) for axis in range(3))
    scale, expected = (time, height * patch, width * patch), (TIME_SCALE, SPACE_SCALE, SPACE_SCALE)
    if scale != expected:
        raise _unsupported(where, f"it scales time, height and width by {scale} instead of {expected}")


def _vae(config: Mapping[str, Any]) -> Fields:
    vae = Fields.of(config, "vae")
    vae.require({"dims": 3, "norm_layer": "pixel_norm"})
    return vae


def _unsupported(where: str, what: str) -> WeightsError:
    return WeightsError(
        f"The config's {where} describes a video VAE that this program cannot run: {what}.",
        advice="Use an official LTX-2 checkpoint, or a newer ltx-relay.",
    )
