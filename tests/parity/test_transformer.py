"""The transformer gives ltx-core 1.0.0's numbers in float32: both forms, video alone and joint with audio."""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from weights.architecture.transformer import BLOCKS, PREFIX, TransformerConfig
from workers.networks import rope, transformer
from workers.networks.modulation import Timesteps
from workers.networks.ops import blocks
from workers.networks.transformer import Pass, Tokens

BOUND = 5e-5
pytestmark = pytest.mark.usefixtures("arithmetic")
VIDEO_CASES = ("uniform", "per_token", "stg", "interleaved", "float32_rope")
JOINT_CASES = ("joint", "joint_per_token", "joint_stg", "joint_isolated")
NONE = frozenset()


@pytest.fixture(params=["19b", "23"])
def reference(request, golden):
    return golden(f"transformer_{request.param}.safetensors")


def evaluate(reference, case, dtype=mx.float32, passes=None, keep=False, config=None):
    """x0 of every pass and modality for one of the script's cases."""
    facts, tensors = reference.facts, reference.tensors
    config = config or TransformerConfig.from_metadata(reference.config)
    weights = reference.weights(PREFIX, dtype)
    joint = case.startswith("joint")
    if case == "interleaved":
        config = replace(config, rope_type="interleaved")
    if case == "float32_rope":
        config = replace(config, double_precision_rope=False)

    positions = rope.video_positions(tuple(facts["grid"]), facts["fps"])
    sound = rope.audio_positions(tensors["in/audio"].shape[1]) if joint else None
    run = transformer.streams(config, positions, dtype, sound)
    names = ("context", "audio_context")[: len(run)]
    prompt = transformer.prepare_prompt(config, weights, [tensors[f"in/{n}"] for n in names], dtype, keep)

    mask = np.array(tensors["in/mask"])[..., 0] if "per_token" in case or case == "velocity" else np.ones(1)
    timesteps = Timesteps.per_token(mask).times(facts["sigma"])
    tokens = [Tokens(tensors["in/video"].astype(dtype), timesteps, facts["sigma"])]
    if joint:
        sigma = facts["audio_sigma"]
        tokens.append(Tokens(tensors["in/audio"].astype(dtype), Timesteps.uniform(sigma), sigma))

    perturbed = {"stg": (frozenset({1}), NONE), "joint_stg": (frozenset({0}), frozenset({1}))}
    one = Pass(prompt, perturbed.get(case, (NONE, NONE)), isolated=case == "joint_isolated")
    given = [one] if passes is None else passes(one)
    found = transformer.velocity(config, weights, blocks(weights, BLOCKS, config.num_layers), run, given, tokens)
    if case == "velocity":
        return found
    return [
        tuple(transformer.denoised(own.latent, v, own.timesteps) for own, v in zip(tokens, vs, strict=True))
        for vs in found
    ]


@pytest.mark.parametrize("case", [*VIDEO_CASES, "velocity"])
def test_video_only(reference, error, case):
    ((video,),) = evaluate(reference, case)
    assert error(video, reference.tensors[f"out/{case}/video"]) < BOUND


@pytest.mark.parametrize("case", JOINT_CASES)
def test_joint(reference, error, case):
    ((video, audio),) = evaluate(reference, case)
    assert error(video, reference.tensors[f"out/{case}/video"]) < BOUND
    assert error(audio, reference.tensors[f"out/{case}/audio"]) < BOUND


def test_positions(reference):
    facts, tensors = reference.facts, reference.tensors
    video = rope.video_positions(tuple(facts["grid"]), facts["fps"])
    np.testing.assert_array_equal(video, np.array(tensors["in/video_positions"])[0])
    audio = rope.audio_positions(tensors["in/audio"].shape[1])
    np.testing.assert_array_equal(audio, np.array(tensors["in/audio_positions"])[0])
