"""Schedules, guidance and whole denoising loops give ltx-core 1.0.0's numbers in float32."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from weights.architecture.transformer import BLOCKS, PREFIX, TransformerConfig
from workers.networks.ops import blocks
from workers.networks.rope import video_positions
from workers.sampling.denoise import denoise
from workers.sampling.guidance import Guidance, guide
from workers.sampling.latents import from_tokens, to_tokens
from workers.sampling.noise import noised
from workers.sampling.predictor import make_predictor
from workers.sampling.schedules import ltx2_sigmas, stage2_sigmas

BOUND = 5e-5
pytestmark = pytest.mark.usefixtures("arithmetic")
GUIDED = Guidance(cfg=3.0, rescale=0.7, stg=1.0, stg_blocks=(1,))


@pytest.fixture(scope="module")
def reference(golden):
    return golden("sampling.safetensors").tensors


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("8", ltx2_sigmas(8)),
        ("15", ltx2_sigmas(15)),
        ("30", ltx2_sigmas(30)),
        ("2", ltx2_sigmas(2)),
        ("15_of_6144", ltx2_sigmas(15, tokens=6144)),
        ("15_of_320", ltx2_sigmas(15, tokens=320)),
        ("8_unstretched", ltx2_sigmas(8, terminal=None)),
    ],
)
def test_scheduler(reference, name, found):
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.array(reference[f"sigmas/{name}"]), rtol=0, atol=2e-7)


@pytest.mark.parametrize(
    ("name", "guidance"),
    [
        ("cfg", Guidance(cfg=5.0)),
        ("cfg_rescale", Guidance(cfg=5.0, rescale=0.7)),
        ("stg", Guidance(stg=1.0, stg_blocks=(1,))),
        ("all", Guidance(cfg=3.0, rescale=0.45, stg=1.0, stg_blocks=(1,))),
    ],
)
def test_guidance(reference, error, name, guidance):
    positive, negative, perturbed = reference["in/predictions"]
    found = guide(
        guidance,
        positive,
        negative if guidance.needs_negative else None,
        perturbed if guidance.needs_perturbed else None,
    )
    assert error(found, reference[f"guided/{name}"]) < BOUND


@pytest.mark.parametrize("form", ["19b", "23"])
@pytest.mark.parametrize("name", ["dev", "stage2", "image"])
def test_loop(reference, golden, error, form, name):
    network = golden(f"transformer_{form}.safetensors")
    config = TransformerConfig.from_metadata(network.config)
    weights = network.weights(PREFIX)
    given = None if name == "dev" else to_tokens(reference["in/latent"])
    mask = network.tensors["in/mask"] if name == "image" else None
    sigmas = stage2_sigmas() if name == "stage2" else ltx2_sigmas(3)
    grid = reference["in/noise"].shape[2:]
    predict = make_predictor(
        config,
        weights,
        lambda: blocks(weights, BLOCKS, config.num_layers),
        network.tensors["in/context"],
        reference[f"in/{form}/negative"],
        video_positions(grid, network.facts["fps"]),
        Guidance() if name == "stage2" else GUIDED,
        mx.float32,
        mask=None if mask is None else np.array(mask)[..., 0],
    )
    start = noised(given, to_tokens(reference["in/noise"]), float(sigmas[0]), mx.float32, mask)
    tokens = denoise(predict, start, sigmas, mask=mask, clean=given)
    assert error(from_tokens(tokens, grid), reference[f"loop/{form}/{name}"]) < BOUND
