"""What is asked of `resolve`, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from weights.catalogue import WeightsFile

PathLike = str | Path


@dataclass(frozen=True)
class LoraRequest:
    """stage: "stage1", "stage2", or None for both."""

    path: PathLike
    strength: float = 1.0
    stage: str | None = None


@dataclass(frozen=True)
class WeightsRequest:
    """What the user named, and which stages need weights. model: a folder, or "tiny".

    quantize: bits that the transformers will be quantised to as they are read.
    model_variant: what stage 1 must be ("dev", "distilled"); None: dev where there is one. model_version: "2.0" or
    "2.3", for files that do not tell and where both are there. tokenizer: False for a mere plan, which needs none.
    """

    model: PathLike | None = None
    weights: PathLike | None = None
    weights_stage1: PathLike | None = None
    weights_stage2: PathLike | None = None
    gemma: PathLike | None = None
    spatial_upscaler: PathLike | None = None
    temporal_upscaler: PathLike | None = None
    distilled_lora: PathLike | None = None
    loras: tuple[LoraRequest, ...] = ()
    quantize: int | None = None
    model_variant: str | None = None
    model_version: str | None = None
    two_stage: bool = True
    temporal: bool = True
    tokenizer: bool = True


@dataclass(frozen=True)
class LoraUse:
    path: Path
    strength: float


@dataclass(frozen=True)
class Model:
    """A transformer: a checkpoint and what is added to it. variant: what the sum is, "dev" or "distilled"."""

    checkpoint: WeightsFile
    variant: str
    loras: tuple[LoraUse, ...] = ()


@dataclass(frozen=True)
class WeightsSet:
    """`text_checkpoint` has the text projection and connector, `vae` the VAE and its statistics; gemma is a folder."""

    text_checkpoint: WeightsFile
    gemma: Path
    stage1: Model
    stage2: Model | None
    vae: WeightsFile
    spatial: WeightsFile | None
    temporal: WeightsFile | None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Of all its files, and of the text encoder's folder; each once."""
        models = [model for model in (self.stage1, self.stage2) if model is not None]
        upscalers = [upscaler.path for upscaler in (self.spatial, self.temporal) if upscaler is not None]
        found = [self.text_checkpoint.path, self.gemma, *(model.checkpoint.path for model in models), self.vae.path]
        return tuple(dict.fromkeys([*found, *upscalers, *(lora.path for model in models for lora in model.loras)]))


@dataclass(frozen=True)
class UpscalerSet:
    """What upscaling a video needs: a checkpoint for its VAE, and the upscaler."""

    vae: WeightsFile
    upscaler: WeightsFile

    @property
    def paths(self) -> tuple[Path, ...]:
        return self.vae.path, self.upscaler.path
