"""Goldens of sampling: schedules, guidance, and whole denoising loops through the reference's classes, in float32.

    python tests/parity/make_sampling.py            (needs torch, ltx-core==1.0.0, safetensors)

Writes tests/parity/data/sampling.safetensors. The loops run the networks of transformer_{19b,23}.safetensors, which
make_transformer.py makes first: `loop/<form>/dev` three guided steps from noise, `.../stage2` the refinement of a
noised latent, `.../image` three steps with a first frame that is kept to three quarters and some clean tokens.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from ltx_core.components.diffusion_steps import EulerDiffusionStep
from ltx_core.components.guiders import MultiModalGuider, MultiModalGuiderParams
from ltx_core.components.patchifiers import VideoLatentPatchifier
from ltx_core.components.schedulers import LTX2Scheduler
from ltx_core.guidance.perturbations import BatchedPerturbationConfig
from ltx_core.model.transformer.modality import Modality
from ltx_core.model.transformer.model_configurator import LTXVideoOnlyModelConfigurator
from ltx_core.tools import VideoLatentTools
from ltx_core.types import VideoLatentShape
from make_transformer import FPS, FRAMES, HEIGHT, PREFIX, WIDTH, build, perturbed
from safetensors import safe_open
from safetensors.torch import save_file

DATA = Path(__file__).parent / "data"
NOTHING = BatchedPerturbationConfig.empty(1)
STAGE2 = torch.tensor([0.909375, 0.725, 0.421875, 0.0])
GUIDED = {"cfg_scale": 3.0, "stg_scale": 1.0, "rescale_scale": 0.7, "stg_blocks": [1]}
UNGUIDED = {"cfg_scale": 1.0, "stg_scale": 0.0, "rescale_scale": 0.0, "stg_blocks": []}
SCHEDULES = {
    "8": {"steps": 8},
    "15": {"steps": 15},
    "30": {"steps": 30},
    "2": {"steps": 2},
    "15_of_6144": {"steps": 15, "latent": torch.zeros(1, 1, 16, 16, 24)},
    "15_of_320": {"steps": 15, "latent": torch.zeros(1, 1, 5, 8, 8)},
    "8_unstretched": {"steps": 8, "stretch": False},
}


def loop(model, state, sigmas, params, positive, negative):
    """Denoise, guide, blend with the clean latent, Euler."""
    guider = MultiModalGuider(MultiModalGuiderParams(modality_scale=1.0, skip_step=0, **params), negative)
    for index in range(len(sigmas) - 1):

        def predict(context, perturbations=NOTHING, state=state, index=index):
            modality = Modality(
                latent=state.latent,
                sigma=sigmas[index : index + 1],
                timesteps=state.denoise_mask * sigmas[index],
                positions=state.positions,
                context=context,
            )
            return model(modality, None, perturbations)[0]

        x0 = predict(positive)
        if guider.do_unconditional_generation() or guider.do_perturbed_generation():
            stg = perturbed(skip_video_self_attn=params["stg_blocks"])
            x0 = guider.calculate(x0, predict(negative), predict(positive, stg), 0.0)
        x0 = x0 * state.denoise_mask + state.clean_latent.float() * (1 - state.denoise_mask)
        state = replace(state, latent=EulerDiffusionStep().step(state.latent, x0, sigmas, index))
    return state.latent


@torch.no_grad()
def main() -> None:
    generator = torch.Generator().manual_seed(5)
    tensors = {f"sigmas/{name}": LTX2Scheduler().execute(**given) for name, given in SCHEDULES.items()}

    predictions = torch.randn(3, 1, 24, 16, generator=generator)
    predictions[1:] = predictions[:1] + 0.5 * predictions[1:]
    tensors["in/predictions"] = predictions
    for name, cfg, stg, rescale in (
        ("cfg", 5.0, 0.0, 0.0),
        ("cfg_rescale", 5.0, 0.0, 0.7),
        ("stg", 1.0, 1.0, 0.0),
        ("all", 3.0, 1.0, 0.45),
    ):
        params = MultiModalGuiderParams(cfg_scale=cfg, stg_scale=stg, rescale_scale=rescale, modality_scale=1.0)
        tensors[f"guided/{name}"] = MultiModalGuider(params).calculate(*predictions, 0.0)

    tools = VideoLatentTools(VideoLatentPatchifier(1), VideoLatentShape(1, 16, FRAMES, HEIGHT, WIDTH), FPS)
    noise, given = torch.randn(2, 1, 16, FRAMES, HEIGHT, WIDTH, generator=generator)
    tensors |= {"in/noise": noise, "in/latent": given}
    for form in ("19b", "23"):
        with safe_open(DATA / f"transformer_{form}.safetensors", "pt") as file:
            config = json.loads(file.metadata()["config"])["transformer"]
            names = [name for name in file.offset_keys() if name.startswith(PREFIX)]
            weights = {name.removeprefix(PREFIX): file.get_tensor(name) for name in names}
            positive, mask = file.get_tensor("in/context"), file.get_tensor("in/mask")
        negative = torch.randn(positive.shape, generator=generator)
        tensors[f"in/{form}/negative"] = negative
        model = build(LTXVideoOnlyModelConfigurator, config, weights)

        def start(sigma, latent=None, mask=None):
            state = tools.create_initial_state("cpu", torch.float32, latent)
            state = replace(state, denoise_mask=state.denoise_mask if mask is None else mask)
            scaled, fresh = state.denoise_mask * sigma, tools.create_initial_state("cpu", torch.float32, noise).latent
            return replace(state, latent=fresh * scaled + state.latent * (1 - scaled))

        dev = LTX2Scheduler().execute(steps=3)
        runs = {
            "dev": (start(1.0), dev, GUIDED),
            "stage2": (start(STAGE2[0], given), STAGE2, UNGUIDED),
            "image": (start(1.0, given, mask), dev, GUIDED),
        }
        for name, (state, sigmas, params) in runs.items():
            latent = loop(model, state, sigmas, params, positive, negative)
            unpatchified = tools.patchifier.unpatchify(latent, output_shape=tools.target_shape)
            tensors[f"loop/{form}/{name}"] = unpatchified
            print(form, name, f"{unpatchified.std():.3f}")
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, DATA / "sampling.safetensors")


if __name__ == "__main__":
    main()
