"""Goldens of the whole two-stage flow: the bundled tiny model through the reference's own classes, in float32.

    python tests/parity/make_flow.py            (needs torch, ltx-core==1.0.0, transformers, safetensors)

Writes tests/parity/data/flow.safetensors: the noise that both sides start from, both contexts, the latents after each
stage and the decoded frames. Positive and negative prompt, CFG with rescale, dev model in stage 1, dev + distilled LoRA
in stage 2, an oblong size, two latent frames. The LoRA is added in float32, as W + B A: the reference's loader rounds
the sum to bfloat16, which is a property of its storage and not of the formula.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import ltx_core.text_encoders.gemma.encoders.encoder_configurator as encoder_configurator
import torch
from ltx_core.components.diffusion_steps import EulerDiffusionStep
from ltx_core.components.guiders import MultiModalGuider, MultiModalGuiderParams
from ltx_core.components.patchifiers import VideoLatentPatchifier
from ltx_core.components.schedulers import LTX2Scheduler
from ltx_core.guidance.perturbations import BatchedPerturbationConfig
from ltx_core.loader.single_gpu_model_builder import SingleGPUModelBuilder
from ltx_core.model.transformer.modality import Modality
from ltx_core.model.transformer.model import X0Model
from ltx_core.model.transformer.model_configurator import (
    LTXV_MODEL_COMFY_RENAMING_MAP,
    LTXVideoOnlyModelConfigurator,
)
from ltx_core.model.upsampler import LatentUpsamplerConfigurator, upsample_video
from ltx_core.model.video_vae import VideoDecoderConfigurator, VideoEncoderConfigurator
from ltx_core.model.video_vae.model_configurator import VAE_DECODER_COMFY_KEYS_FILTER, VAE_ENCODER_COMFY_KEYS_FILTER
from ltx_core.text_encoders.gemma.embeddings_connector import Embeddings1DConnectorConfigurator
from ltx_core.text_encoders.gemma.embeddings_processor import EmbeddingsProcessor
from ltx_core.text_encoders.gemma.feature_extractor import FeatureExtractorV1
from ltx_core.text_encoders.gemma.tokenizer import LTXVGemmaTokenizer
from ltx_core.tools import VideoLatentTools
from ltx_core.types import VideoLatentShape, VideoPixelShape
from safetensors.torch import load_file, save_file
from transformers import Gemma3ForConditionalGeneration

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "weights" / "tiny"
FLOW = {
    "prompt": "A red ball bouncing on green grass",
    "negative_prompt": "worst quality, blurry, jittery",
    "height": 96,
    "width": 128,
    "frames": 9,
    "fps": 24,
    "steps_stage1": 4,
    "steps_stage2": 3,
    "cfg": 4.0,
    "guidance_rescale": 0.7,
}
STAGE2_SIGMAS = [0.909375, 0.725, 0.421875, 0.0]
CPU = torch.device("cpu")


def build(configurator, path, key_ops=None):
    model = SingleGPUModelBuilder(model_class_configurator=configurator, model_path=str(path), model_sd_ops=key_ops)
    model = model.build(device=CPU, dtype=torch.float32).eval()
    assert not [name for name, value in model.named_parameters() if value.is_meta], "missing weights"
    return model


class TextProcessor:
    @classmethod
    def from_config(cls, config):
        width = config["transformer"]["caption_channels"]
        return EmbeddingsProcessor(
            feature_extractor=FeatureExtractorV1(torch.nn.Linear(width * 5, width, bias=False)),
            video_connector=Embeddings1DConnectorConfigurator.from_config(config),
        )


def add_lora(model, path):
    """W + B A in float32, for every module that the file names."""
    lora, modules, added = load_file(path), dict(model.named_modules()), 0
    for key in (name for name in lora if name.endswith(".lora_A.weight")):
        stem = key.removesuffix(".lora_A.weight")
        a, b = lora[key].float(), lora[f"{stem}.lora_B.weight"].float()
        modules[stem.removeprefix("diffusion_model.")].weight.data += b @ a
        added += 1
    assert added * 2 == len(lora)
    return model


def contexts(checkpoint):
    gemma = Gemma3ForConditionalGeneration.from_pretrained(TINY / "gemma-tiny", dtype=torch.float32).eval()
    processor = build(TextProcessor, checkpoint, encoder_configurator.EMBEDDINGS_PROCESSOR_KEY_OPS)
    tokenizer = LTXVGemmaTokenizer(str(TINY / "gemma-tiny"), 1024).tokenizer

    def encode(prompt):
        tokens = tokenizer(prompt.strip(), padding="max_length", max_length=1024, truncation=True, return_tensors="pt")
        states = gemma.model(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, output_hidden_states=True
        ).hidden_states
        return processor.process_hidden_states(states, tokens.attention_mask).video_encoding

    return encode(FLOW["prompt"]), encode(FLOW["negative_prompt"])


def denoise(model, sigmas, shape, noise, positive, negative=None, initial=None):
    """The reference's Euler loop with its guider; `noise` and `initial` are latents [1, 128, F, H, W]."""
    tools = VideoLatentTools(VideoLatentPatchifier(1), VideoLatentShape.from_pixel_shape(shape), shape.fps)
    state = tools.create_initial_state(CPU, torch.float32, initial)
    tokens = tools.create_initial_state(CPU, torch.float32, noise).latent
    state = replace(state, latent=tokens * sigmas[0] + state.latent * (1 - sigmas[0]))
    guider = MultiModalGuider(
        params=MultiModalGuiderParams(
            cfg_scale=FLOW["cfg"] if negative is not None else 1.0,
            stg_scale=0.0,
            rescale_scale=FLOW["guidance_rescale"] if negative is not None else 0.0,
            modality_scale=1.0,
            skip_step=0,
            stg_blocks=[],
        ),
        negative_context=negative,
    )
    for index in range(len(sigmas) - 1):

        def predict(context, state=state, index=index):
            modality = Modality(
                latent=state.latent,
                sigma=sigmas[index : index + 1],
                timesteps=state.denoise_mask * sigmas[index],
                positions=state.positions,
                context=context,
            )
            return model(modality, None, BatchedPerturbationConfig.empty(1))[0]

        predicted = predict(positive)
        if negative is not None:
            predicted = guider.calculate(predicted, predict(negative), 0.0, 0.0)
        state = replace(state, latent=EulerDiffusionStep().step(state.latent, predicted, sigmas, index))
    return tools.unpatchify(state).latent


@torch.no_grad()
def main():
    checkpoint = TINY / "ltx-2-tiny-dev.safetensors"
    generator = torch.Generator().manual_seed(20)
    base = VideoPixelShape(1, FLOW["frames"], FLOW["height"], FLOW["width"], float(FLOW["fps"]))
    large = base._replace(height=2 * base.height, width=2 * base.width)
    noise1, noise2 = (
        torch.randn(1, 128, *list(VideoLatentShape.from_pixel_shape(shape))[2:], generator=generator)
        for shape in (base, large)
    )
    positive, negative = contexts(checkpoint)
    dev = X0Model(build(LTXVideoOnlyModelConfigurator, checkpoint, LTXV_MODEL_COMFY_RENAMING_MAP))
    stage1 = denoise(dev, LTX2Scheduler().execute(FLOW["steps_stage1"]), base, noise1, positive, negative)
    encoder = build(VideoEncoderConfigurator, checkpoint, VAE_ENCODER_COMFY_KEYS_FILTER)
    decoder = build(VideoDecoderConfigurator, checkpoint, VAE_DECODER_COMFY_KEYS_FILTER)
    spatial = build(LatentUpsamplerConfigurator, TINY / "ltx-2-tiny-spatial-upscaler-x2.safetensors")
    temporal = build(LatentUpsamplerConfigurator, TINY / "ltx-2-tiny-temporal-upscaler-x2.safetensors")
    add_lora(dev.velocity_model, TINY / "ltx-2-tiny-distilled-lora.safetensors")
    upscaled = upsample_video(stage1, encoder, spatial)
    stage2 = denoise(dev, torch.tensor(STAGE2_SIGMAS), large, noise2, positive, initial=upscaled)
    smooth = upsample_video(stage2, encoder, temporal)
    pixels = decoder(smooth)
    frames = ((pixels[0].permute(1, 2, 3, 0) + 1) / 2).clamp(0, 1).mul(255).to(torch.uint8)
    golden = {
        "noise.stage1": noise1,
        "noise.stage2": noise2,
        # The first 192 of 1024 positions: the text, then more than one round of the registers.
        "positive": positive[:, :192],
        "negative": negative[:, :192],
        "stage1": stage1,
        "stage2": stage2,
        "temporal": smooth,
        "frames": frames[::8],
    }
    golden = {name: value.contiguous() for name, value in golden.items()}
    out = Path(__file__).parent / "data" / "flow.safetensors"
    save_file(golden, out, metadata={"flow": json.dumps(FLOW)})
    print({name: (tuple(value.shape), float(value.float().std())) for name, value in golden.items()})
    print(f"{out.name}: {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
