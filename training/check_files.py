"""Stage 7: loads exported files with the reference's own loaders, and makes a clip with the reference's own parts.

    python -m training.check_files DIR ["a prompt"] [--png FILE]

That is the acceptance test of an export: a prompt padded on the left to 1,024 tokens, transformers' Gemma, the LTX-2
scheduler, Euler steps, the LoRA fused by the reference's loader, both upsamplers, the reference's decoder; with times.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from ltx_core.components.diffusion_steps import EulerDiffusionStep
from ltx_core.components.noisers import GaussianNoiser
from ltx_core.components.patchifiers import VideoLatentPatchifier
from ltx_core.components.schedulers import LTX2Scheduler
from ltx_core.guidance.perturbations import BatchedPerturbationConfig
from ltx_core.loader import LTXV_LORA_COMFY_RENAMING_MAP
from ltx_core.loader.single_gpu_model_builder import SingleGPUModelBuilder
from ltx_core.model.transformer.modality import Modality
from ltx_core.model.transformer.model import X0Model
from ltx_core.model.transformer.model_configurator import LTXV_MODEL_COMFY_RENAMING_MAP, LTXVideoOnlyModelConfigurator
from ltx_core.model.upsampler import LatentUpsamplerConfigurator, upsample_video
from ltx_core.model.video_vae import VideoDecoderConfigurator, VideoEncoderConfigurator, decode_video
from ltx_core.model.video_vae.model_configurator import VAE_DECODER_COMFY_KEYS_FILTER, VAE_ENCODER_COMFY_KEYS_FILTER
from ltx_core.text_encoders.gemma.embeddings_connector import Embeddings1DConnectorConfigurator
from ltx_core.text_encoders.gemma.embeddings_processor import EmbeddingsProcessor
from ltx_core.text_encoders.gemma.encoders import encoder_configurator
from ltx_core.text_encoders.gemma.feature_extractor import FeatureExtractorV1
from ltx_core.text_encoders.gemma.tokenizer import LTXVGemmaTokenizer
from ltx_core.tools import VideoLatentTools
from ltx_core.types import VideoLatentShape, VideoPixelShape
from torch import Tensor, nn
from transformers import Gemma3ForConditionalGeneration

from training.configuration import CONTEXT_TOKENS, DISTILLED_SIGMAS, GEMMA, STAGE2_SIGMAS
from training.contact_sheet import save_sheet
from training.world.captions import NEGATIVE_PROMPTS

_CPU = torch.device("cpu")
_STATES = GEMMA["num_hidden_layers"] + 1
_Result = TypeVar("_Result")


class TextProjection:
    """What ltx-core's builder needs to make the feature extractor and the connector from a checkpoint."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> EmbeddingsProcessor:
        width = config["transformer"]["caption_channels"]
        return EmbeddingsProcessor(
            feature_extractor=FeatureExtractorV1(nn.Linear(width * _STATES, width, bias=False)),
            video_connector=Embeddings1DConnectorConfigurator.from_config(config),
        )


class Release:
    """The exported files, loaded."""

    def __init__(self, folder: Path) -> None:
        self.checkpoint = folder / "ltx-2-tiny-dev.safetensors"
        self.dev = X0Model(self._build(LTXVideoOnlyModelConfigurator, operations=LTXV_MODEL_COMFY_RENAMING_MAP))
        # The reference fuses LoRAs into bfloat16 weights only.
        distilled = self._build(
            LTXVideoOnlyModelConfigurator,
            operations=LTXV_MODEL_COMFY_RENAMING_MAP,
            dtype=torch.bfloat16,
            lora=folder / "ltx-2-tiny-distilled-lora.safetensors",
        )
        self.distilled = X0Model(distilled.float())
        self.encoder = self._build(VideoEncoderConfigurator, operations=VAE_ENCODER_COMFY_KEYS_FILTER)
        self.decoder = self._build(VideoDecoderConfigurator, operations=VAE_DECODER_COMFY_KEYS_FILTER)
        self.spatial, self.temporal = (
            self._build(LatentUpsamplerConfigurator, folder / f"ltx-2-tiny-{kind}-upscaler-x2.safetensors")
            for kind in ("spatial", "temporal")
        )
        self.projection = self._build(TextProjection, operations=encoder_configurator.EMBEDDINGS_PROCESSOR_KEY_OPS)
        self.tokenizer = LTXVGemmaTokenizer(str(folder / "gemma-tiny"), CONTEXT_TOKENS)
        self.gemma, found = Gemma3ForConditionalGeneration.from_pretrained(
            folder / "gemma-tiny", dtype=torch.float32, output_loading_info=True
        )
        wrong = {kind: names for kind, names in found.items() if names and kind != "error_msgs"}
        if wrong:
            raise SystemExit(f"transformers finds gemma-tiny incomplete: {wrong}")

    def _build(
        self,
        configurator: Any,
        path: Path | None = None,
        operations: Any = None,
        dtype: torch.dtype = torch.float32,
        lora: Path | None = None,
    ) -> nn.Module:
        builder = SingleGPUModelBuilder(
            model_class_configurator=configurator, model_path=str(path or self.checkpoint), model_sd_ops=operations
        )
        if lora is not None:
            builder = builder.lora(str(lora), 1.0, LTXV_LORA_COMFY_RENAMING_MAP)
        model = builder.build(device=_CPU, dtype=dtype)
        missing = [name for name, parameter in model.named_parameters() if parameter.is_meta]
        if missing:
            raise SystemExit(f"{configurator.__name__}: the checkpoint lacks {missing}")
        return model.eval()

    def context(self, prompt: str) -> Tensor:
        """`[1, 1024, 96]`"""
        tokens = self.tokenizer.tokenizer(
            prompt.strip(), padding="max_length", max_length=CONTEXT_TOKENS, truncation=True, return_tensors="pt"
        )
        states = self.gemma.model(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, output_hidden_states=True
        ).hidden_states
        return self.projection.process_hidden_states(states, tokens.attention_mask).video_encoding


def denoise(
    model: nn.Module,
    sigmas: Tensor,
    size: tuple[int, int, int],
    context: Tensor,
    negative: Tensor,
    *,
    cfg: float = 1.0,
    start: Tensor | None = None,
    noiser: GaussianNoiser,
) -> Tensor:
    """Normalised latents of a clip (frames, height, width), by the reference's Euler steps."""
    frames, height, width = size
    shape = VideoLatentShape.from_pixel_shape(VideoPixelShape(1, frames, height, width, 24.0))
    tools = VideoLatentTools(VideoLatentPatchifier(1), shape, 24.0)
    state = noiser(tools.create_initial_state(_CPU, torch.float32, start), float(sigmas[0]))
    euler = EulerDiffusionStep()
    for index in range(len(sigmas) - 1):
        video = Modality(
            latent=state.latent,
            sigma=sigmas[index : index + 1],
            timesteps=state.denoise_mask * sigmas[index],
            positions=state.positions,
            context=context,
        )
        found = _denoised(model, video)
        if cfg != 1:
            against = _denoised(model, replace(video, context=negative))
            found = against + cfg * (found - against)
        state = replace(state, latent=euler.step(state.latent, found, sigmas, index))
    return tools.unpatchify(state).latent


def _denoised(model: nn.Module, video: Modality) -> Tensor:
    return model(video, None, BatchedPerturbationConfig.empty(1))[0].float()


def timed(name: str, make: Callable[[], _Result]) -> _Result:
    started = time.time()
    result = make()
    print(f"{time.time() - started:8.3f} s  {name}")
    return result


def save_rows(videos: Sequence[Tensor], path: Path) -> None:
    """Four frames of each video `[frames, height, width, 3]`, uint8."""
    for_sheet = [video.permute(3, 0, 1, 2).float() / 127.5 - 1 for video in videos]
    for_sheet = [video[:, [step * (video.shape[1] - 1) // 3 for step in range(4)]] for video in for_sheet]
    resized = [nn.functional.interpolate(video, (192, 288)) for video in for_sheet]
    save_sheet(resized, path, frames=range(4), columns=1)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("prompt", nargs="?", default="A red ball bouncing on green grass")
    parser.add_argument("--png", type=Path)
    options = parser.parse_args()
    release = Release(options.folder)
    context, negative = timed(
        "text, two prompts", lambda: (release.context(options.prompt), release.context(NEGATIVE_PROMPTS[0]))
    )
    noiser = GaussianNoiser(torch.Generator().manual_seed(10))

    def run(model: nn.Module, sigmas: Tensor, size: tuple[int, int, int], **more: Any) -> Tensor:
        return denoise(model, sigmas, size, context, negative, noiser=noiser, **more)

    def video(latents: Tensor) -> Tensor:
        return next(decode_video(latents, release.decoder))

    base, twice = (25, 128, 192), (25, 256, 384)
    first = timed("stage 1: dev, 15 steps, CFG 5", lambda: run(release.dev, LTX2Scheduler().execute(15), base, cfg=5.0))
    larger = timed("spatial x2", lambda: upsample_video(first, release.encoder, release.spatial))
    second = timed(
        "stage 2: distilled, 3 steps", lambda: run(release.distilled, torch.tensor(STAGE2_SIGMAS), twice, start=larger)
    )
    smooth = timed("temporal x2", lambda: upsample_video(second, release.encoder, release.temporal))
    alone = timed("distilled alone, 8 steps", lambda: run(release.distilled, torch.tensor(DISTILLED_SIGMAS), base))
    videos = [
        timed(f"decode {name}", lambda latents=latents: video(latents))
        for name, latents in (("stage 1", first), ("distilled", alone), ("stage 2", second), ("temporal", smooth))
    ]
    picture = (videos[2][:1].float() / 127.5 - 1).permute(3, 0, 1, 2)[None]
    timed("encode one frame", lambda: release.encoder(picture))
    if options.png:
        save_rows(videos, options.png)


if __name__ == "__main__":
    main()
