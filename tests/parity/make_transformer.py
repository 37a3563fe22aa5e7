"""Goldens of the transformer: tiny random networks through the reference's classes, in float32.

    python tests/parity/make_transformer.py            (needs torch, ltx-core==1.0.0, safetensors)

Writes tests/parity/data/transformer_{19b,23}.safetensors: weights under their official names, the config as in an
official file, inputs (`in/...`) and results (`out/<case>/video`, `.../audio`). One set of joint weights serves the
video-only cases too, whose model leaves the audio out.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import torch
from ltx_core.components.patchifiers import AudioPatchifier, VideoLatentPatchifier
from ltx_core.guidance.perturbations import (
    BatchedPerturbationConfig,
    Perturbation,
    PerturbationConfig,
    PerturbationType,
)
from ltx_core.model.transformer.modality import Modality
from ltx_core.model.transformer.model import X0Model
from ltx_core.model.transformer.model_configurator import LTXModelConfigurator, LTXVideoOnlyModelConfigurator
from ltx_core.tools import AudioLatentTools, VideoLatentTools
from ltx_core.types import AudioLatentShape, VideoLatentShape
from safetensors.torch import save_file

DATA = Path(__file__).parent / "data"
PREFIX = "model.diffusion_model."
FRAMES, HEIGHT, WIDTH, FPS = 3, 5, 7, 24.0
AUDIO_TOKENS, TEXT_TOKENS = 9, 11
SIGMA, AUDIO_SIGMA = 0.725, 0.6

BASE = {
    "dropout": 0.0,
    "attention_bias": True,
    "num_vector_embeds": None,
    "activation_fn": "gelu-approximate",
    "num_embeds_ada_norm": 1000,
    "use_linear_projection": False,
    "only_cross_attention": False,
    "cross_attention_norm": True,
    "double_self_attention": False,
    "upcast_attention": False,
    "standardization_norm": "rms_norm",
    "norm_elementwise_affine": False,
    "qk_norm": "rms_norm",
    "positional_embedding_type": "rope",
    "positional_embedding_theta": 10000.0,
    "positional_embedding_max_pos": [20, 2048, 2048],
    "audio_positional_embedding_max_pos": [20],
    "use_audio_video_cross_attention": True,
    "share_ff": False,
    "av_cross_ada_norm": True,
    "use_middle_indices_grid": True,
    "timestep_scale_multiplier": 1000,
    "av_ca_timestep_scale_multiplier": 1000.0,
    "norm_eps": 1e-6,
    "rope_type": "split",
    "frequencies_precision": "float64",
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "cross_attention_dim": 32,
    "in_channels": 16,
    "out_channels": 16,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 8,
    "audio_cross_attention_dim": 16,
    "audio_in_channels": 16,
    "audio_out_channels": 16,
}
FORMS = {
    "19b": {"caption_channels": 24},
    "23": {
        "apply_gated_attention": True,
        "cross_attention_adaln": True,
        "caption_proj_before_connector": True,
    },
}


def random_weights(module: torch.nn.Module, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Values of a size at which every part of the network matters; bfloat16, as official files store them."""
    weights = {}
    for name, parameter in module.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if name.endswith("norm.weight"):
            values = 1 + 0.2 * values
        elif parameter.ndim == 2 and "table" not in name:
            values = values / math.sqrt(parameter.shape[1])
        else:
            values = 0.3 * values
        weights[name] = values.to(torch.bfloat16)
    return weights


def build(configurator, transformer: dict, weights: dict[str, torch.Tensor]) -> X0Model:
    model = configurator.from_config({"transformer": transformer})
    wanted = set(model.state_dict())
    model.load_state_dict({k: v.float() for k, v in weights.items() if k in wanted}, strict=True, assign=True)
    return X0Model(model).eval()


def perturbed(**blocks: list[int] | None) -> BatchedPerturbationConfig:
    kinds = [Perturbation(PerturbationType(kind), which) for kind, which in blocks.items()]
    return BatchedPerturbationConfig([PerturbationConfig(kinds)])


@torch.no_grad()
def make(form: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    config = BASE | FORMS[form]
    joint = LTXModelConfigurator.from_config({"transformer": config})
    weights = random_weights(joint, generator)

    video_shape = VideoLatentShape(1, 16, FRAMES, HEIGHT, WIDTH)
    video_state = VideoLatentTools(VideoLatentPatchifier(1), video_shape, FPS).create_initial_state(
        "cpu", torch.float32
    )
    audio_shape = AudioLatentShape(1, 1, AUDIO_TOKENS, 16)
    audio_state = AudioLatentTools(AudioPatchifier(1), audio_shape).create_initial_state("cpu", torch.float32)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    tokens = FRAMES * HEIGHT * WIDTH
    widths = (24, 24) if form == "19b" else (32, 16)
    inputs = {
        "video": noise(1, tokens, 16),
        "audio": noise(1, AUDIO_TOKENS, 16),
        "context": noise(1, TEXT_TOKENS, widths[0]),
        "audio_context": noise(1, TEXT_TOKENS, widths[1]),
        "video_positions": video_state.positions,
        "audio_positions": audio_state.positions,
    }
    # Image conditioning of some strength: the first latent frame is less noisy, a few later tokens are clean.
    mask = torch.ones(1, tokens, 1)
    mask[:, : HEIGHT * WIDTH] = 0.25
    mask[:, 50:53] = 0.0
    inputs["mask"] = mask

    def video(timesteps: torch.Tensor) -> Modality:
        return Modality(
            latent=inputs["video"],
            sigma=torch.tensor([SIGMA]),
            timesteps=timesteps,
            positions=inputs["video_positions"],
            context=inputs["context"],
        )

    uniform, per_token = video(torch.full((1, tokens, 1), SIGMA)), video(mask * SIGMA)
    audio = Modality(
        latent=inputs["audio"],
        sigma=torch.tensor([AUDIO_SIGMA]),
        timesteps=torch.full((1, AUDIO_TOKENS, 1), AUDIO_SIGMA),
        positions=inputs["audio_positions"],
        context=inputs["audio_context"],
    )
    nothing = BatchedPerturbationConfig.empty(1)
    stg = perturbed(skip_video_self_attn=[1])
    isolated = perturbed(skip_a2v_cross_attn=None, skip_v2a_cross_attn=None)
    only = build(LTXVideoOnlyModelConfigurator, config, weights)
    both = build(LTXModelConfigurator, config, weights)
    interleaved = build(LTXVideoOnlyModelConfigurator, config | {"rope_type": "interleaved"}, weights)
    single = build(LTXVideoOnlyModelConfigurator, config | {"frequencies_precision": "float32"}, weights)
    results = {
        "uniform": only(uniform, None, nothing),
        "per_token": only(per_token, None, nothing),
        "stg": only(uniform, None, stg),
        "interleaved": interleaved(uniform, None, nothing),
        "float32_rope": single(uniform, None, nothing),
        "joint": both(uniform, audio, nothing),
        "joint_per_token": both(per_token, audio, nothing),
        "joint_stg": both(uniform, audio, perturbed(skip_video_self_attn=[0], skip_audio_self_attn=[1])),
        "joint_isolated": both(uniform, audio, isolated),
        "velocity": only.velocity_model(per_token, None, nothing),
        "joint_one_sigma": both(uniform, replace(audio, sigma=torch.tensor([SIGMA])), nothing),
    }
    tensors = {f"{PREFIX}{name}": value for name, value in weights.items()}
    tensors |= {f"in/{name}": value for name, value in inputs.items()}
    for case, outputs in results.items():
        for stream, value in zip(("video", "audio"), outputs, strict=True):
            if value is not None:
                tensors[f"out/{case}/{stream}"] = value
    facts = {"grid": [FRAMES, HEIGHT, WIDTH], "fps": FPS, "sigma": SIGMA, "audio_sigma": AUDIO_SIGMA}
    metadata = {"config": json.dumps({"transformer": config}), "facts": json.dumps(facts)}
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    DATA.mkdir(exist_ok=True)
    save_file(tensors, DATA / f"transformer_{form}.safetensors", metadata)
    for case, outputs in results.items():
        print(form, case, [f"{value.std():.3f}" for value in outputs if value is not None])


if __name__ == "__main__":
    make("19b", 1)
    make("23", 2)
