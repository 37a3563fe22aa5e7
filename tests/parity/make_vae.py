"""Goldens of the video VAE and the latent upsamplers, from the reference's own classes in float32.

    python -m tests.parity.make_vae          from the project's root; needs torch, einops and ltx-core==1.0.0

Writes tests/parity/data/vae.safetensors: per case the output (see vae_cases.py), and for tiled decoding the chunk
lengths. Weights and inputs are not in it: random_weights.py draws them again. Names and shapes of the weights come
from our tables and must be exactly the reference's, or loading fails here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ltx_core.model.upsampler import LatentUpsamplerConfigurator, upsample_video
from ltx_core.model.video_vae.model_configurator import VideoDecoderConfigurator, VideoEncoderConfigurator
from ltx_core.model.video_vae.tiling import SpatialTilingConfig, TemporalTilingConfig, TilingConfig
from safetensors.numpy import save_file

from tests.parity import vae_cases as cases
from tests.parity.random_weights import Floats, noise, uniform, weights
from weights.architecture import upsampler as upsampler_tables
from weights.architecture import vae as vae_tables

OUTPUT = Path(__file__).parent / "data" / "vae.safetensors"


def load(module: torch.nn.Module, own: Mapping[str, Floats], statistics: Mapping[str, Floats]) -> Any:
    values = {**own, **{f"per_channel_statistics.{name}": value for name, value in statistics.items()}}
    module.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()}, strict=True)
    return module.eval()


def statistics(channels: int) -> dict[str, Floats]:
    return weights("statistics", vae_tables.statistics_tensors(channels))


def encoder(case: cases.Case) -> Any:
    config = vae_tables.EncoderConfig.from_metadata(case.config)
    own = weights("encoder", vae_tables.encoder_tensors(config))
    return load(VideoEncoderConfigurator.from_config(case.config), own, statistics(config.latent_channels))


def decoder(case: cases.Case) -> Any:
    config = vae_tables.DecoderConfig.from_metadata(case.config)
    own = weights("decoder", vae_tables.decoder_tensors(config))
    return load(VideoDecoderConfigurator.from_config(case.config), own, statistics(config.latent_channels))


def upsampler(case: cases.Case) -> Any:
    config = upsampler_tables.UpsamplerConfig.from_metadata(case.config)
    own = weights("upsampler", upsampler_tables.tensors(config))
    return load(LatentUpsamplerConfigurator.from_config(case.config), own, {})


def tiling(case: cases.Case) -> TilingConfig:
    assert case.tiles is not None
    spatial, spatial_overlap, temporal, temporal_overlap = case.tiles
    return TilingConfig(
        spatial_config=None if spatial is None else SpatialTilingConfig(spatial, spatial_overlap),
        temporal_config=None if temporal is None else TemporalTilingConfig(temporal, temporal_overlap),
    )


class DrawnNoise:
    """Stands in for torch.randn while a decoder runs: the n-th draw is `noise("decoder/<n>")`."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *shape: Any, **_: Any) -> torch.Tensor:
        size = tuple(shape[0]) if len(shape) == 1 else shape
        self.count += 1
        return torch.from_numpy(noise(f"decoder/{self.count - 1}", size))


def pixels(case: cases.Case) -> torch.Tensor:
    return torch.from_numpy(uniform("pixels", case.shape))


def latent(case: cases.Case) -> torch.Tensor:
    return torch.from_numpy(noise("latent", case.shape))


def main() -> None:
    tensors: dict[str, Floats] = {}
    chunks: dict[str, list[int]] = {}

    def keep(name: str, output: torch.Tensor) -> None:
        values = np.ascontiguousarray(output.numpy())
        tensors[f"{name}.sample"] = cases.sampled(values)
        tensors[f"{name}.frames"] = cases.per_frame(values)
        tensors[f"{name}.std"] = np.array(values.std(), np.float32)
        print(f"{name}: {list(values.shape)}, std {values.std():.3f}")

    real_randn = torch.randn
    with torch.no_grad():
        for case in cases.ENCODER:
            keep(f"encoder/{case.name}", encoder(case)(pixels(case)))
        for case in cases.TILED_ENCODE:
            keep(f"tiled-encode/{case.name}", encoder(case).tiled_encode(pixels(case), tiling(case)))
        for case in cases.UPSAMPLER:
            keep(f"upsampler/{case.name}", upsampler(case)(latent(case)))
        wrapped = cases.UPSAMPLER[0]
        statistics_of = encoder(cases.ENCODER[0])
        keep("upsample-video", upsample_video(latent(wrapped), statistics_of, upsampler(wrapped)))
        for case in (*cases.DECODER, *cases.TILED_DECODE):
            torch.randn = DrawnNoise()
            model = decoder(case)
            if case.tiles is None:
                keep(f"decoder/{case.name}", model(latent(case)))
            else:
                parts = list(model.tiled_decode(latent(case), tiling(case)))
                chunks[case.name] = [part.shape[2] for part in parts]
                keep(f"tiled-decode/{case.name}", torch.cat(parts, dim=2))
            torch.randn = real_randn
    save_file(tensors, OUTPUT, metadata={"chunks": json.dumps(chunks)})
    print(f"{OUTPUT.name}: {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
