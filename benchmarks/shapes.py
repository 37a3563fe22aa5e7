"""The networks whose speed and memory are measured, by their configs: LTX-2 19B with Gemma 3 12B, or the tiny model.

Their weights are random; what the tiny model's are good for here is a rehearsal on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.activations import metadata
from benchmarks.flops import Grid
from weights.architecture.connector import ConnectorConfig
from weights.architecture.gemma import GemmaConfig
from weights.architecture.projection import ProjectionConfig
from weights.architecture.transformer import TransformerConfig
from weights.architecture.upsampler import UpsamplerConfig
from weights.architecture.vae import DecoderConfig, EncoderConfig
from weights.header import read_config, read_header
from weights.header_folder import read_folder

TINY = Path(__file__).parent.parent / "weights" / "tiny"


@dataclass(frozen=True)
class Shapes:
    """base, twice: latents of stage 1 and stage 2. text_tokens: of a prompt."""

    name: str
    transformer: TransformerConfig
    decoder: DecoderConfig
    encoder: EncoderConfig
    spatial: UpsamplerConfig
    temporal: UpsamplerConfig
    gemma: GemmaConfig
    projection: ProjectionConfig
    connector: ConnectorConfig
    base: Grid
    twice: Grid
    text_tokens: int


def full() -> Shapes:
    """97 frames of 704x480, and of 1408x960."""
    config = metadata("ltx-2-19b-dev")["config"]
    upscalers = [metadata(f"ltx-2-{kind}-upscaler-x2-1.0")["config"] for kind in ("spatial", "temporal")]
    return _shapes("LTX-2 19B", config, upscalers, metadata("gemma-3-12b-it", "model_config"), (13, 15, 22), 1024)


def tiny() -> Shapes:
    """A rehearsal."""
    config = _config(TINY / "ltx-2-tiny-dev.safetensors")
    upscalers = [_config(TINY / f"ltx-2-tiny-{kind}-upscaler-x2.safetensors") for kind in ("spatial", "temporal")]
    return _shapes("the tiny model", config, upscalers, read_folder(TINY / "gemma-tiny").config, (2, 2, 3), 40)


def _config(path: Path) -> dict[str, Any]:
    return read_config(read_header(path))


def _shapes(
    name: str,
    config: Mapping[str, Any],
    upscalers: list[Mapping[str, Any]],
    encoder: Mapping[str, Any],
    base: Grid,
    text_tokens: int,
) -> Shapes:
    gemma = GemmaConfig.from_metadata(encoder)
    spatial, temporal = map(UpsamplerConfig.from_metadata, upscalers)
    return Shapes(
        name=name,
        transformer=TransformerConfig.from_metadata(config),
        decoder=DecoderConfig.from_metadata(config),
        encoder=EncoderConfig.from_metadata(config),
        spatial=spatial,
        temporal=temporal,
        gemma=gemma,
        projection=ProjectionConfig.from_metadata(
            config, hidden_size=gemma.hidden_size, num_states=gemma.num_hidden_layers + 1
        ),
        connector=ConnectorConfig.from_metadata(config),
        base=base,
        twice=(base[0], 2 * base[1], 2 * base[2]),
        text_tokens=text_tokens,
    )
