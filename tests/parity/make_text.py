"""Goldens of the text path: tiny random Gemma, projections and connectors through the reference's classes, in float32.

    python tests/parity/make_text.py            (needs torch, ltx-core==1.0.0, transformers, safetensors)

Writes tests/parity/data/text_{19b,23}.safetensors: weights of all components under their official names, the
checkpoint's config and Gemma's config.json, token ids (`in/ids/<text>`), and of each text the hidden states, the
features and the contexts. Texts are padded on the left to 256 tokens: one shorter and one longer than the sliding
window, and one of a single token. Seven layers, so that one sees everything; 256 tokens, so that registers repeat.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from ltx_core.text_encoders.gemma.embeddings_connector import (
    AudioEmbeddings1DConnectorConfigurator,
    Embeddings1DConnectorConfigurator,
)
from ltx_core.text_encoders.gemma.embeddings_processor import EmbeddingsProcessor
from ltx_core.text_encoders.gemma.feature_extractor import FeatureExtractorV1, FeatureExtractorV2
from make_transformer import random_weights
from safetensors.torch import save_file
from transformers import Gemma3TextConfig, Gemma3TextModel

DATA = Path(__file__).parent / "data"
LENGTH, STATES, WIDTH = 256, 8, 32
TEXTS = {"short": 6, "long": 29, "one": 1}

GEMMA = {
    "model_type": "gemma3",
    "text_config": {
        "model_type": "gemma3_text",
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": STATES - 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "vocab_size": 64,
        "sliding_window": 12,
        "query_pre_attn_scalar": 20,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000,
        "rope_local_base_freq": 10000,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
}
SHARED = {
    "rope_type": "split",
    "frequencies_precision": "float64",
    "connector_positional_embedding_max_pos": [4096],
    "connector_num_layers": 2,
}
FORMS = {
    "19b": {"connector_num_attention_heads": 2, "connector_attention_head_dim": 16, "caption_channels": WIDTH},
    "23": {
        "connector_num_attention_heads": 3,
        "connector_attention_head_dim": 16,
        "audio_connector_num_attention_heads": 2,
        "audio_connector_attention_head_dim": 8,
        "connector_apply_gated_attention": True,
        "caption_proj_before_connector": True,
        "caption_projection_first_linear": False,
        "caption_proj_input_norm": False,
        "caption_projection_second_linear": False,
        "num_attention_heads": 3,
        "attention_head_dim": 16,
        "audio_num_attention_heads": 2,
        "audio_attention_head_dim": 8,
    },
}
PREFIXES = {
    "feature_extractor.": "text_embedding_projection.",
    "video_connector.": "model.diffusion_model.video_embeddings_connector.",
    "audio_connector.": "model.diffusion_model.audio_embeddings_connector.",
}


def load(module: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    module.load_state_dict({name: value.float() for name, value in weights.items()}, strict=True, assign=True)
    module.eval()


def extractor(form: str) -> torch.nn.Module:
    flat = STATES * WIDTH
    if form == "19b":
        return FeatureExtractorV1(torch.nn.Linear(flat, WIDTH, bias=False), is_av=True)
    return FeatureExtractorV2(torch.nn.Linear(flat, 48), WIDTH, torch.nn.Linear(flat, 16))


@torch.no_grad()
def make(form: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    gemma = Gemma3TextModel(Gemma3TextConfig(**GEMMA["text_config"]))
    gemma_weights = random_weights(gemma, generator)
    for name, value in gemma_weights.items():
        if name.endswith("norm.weight"):  # stored as the distance from one
            gemma_weights[name] = (value.float() - 1).to(torch.bfloat16)
    load(gemma, gemma_weights)

    config = {"transformer": SHARED | FORMS[form]}
    processor = EmbeddingsProcessor(
        feature_extractor=extractor(form),
        video_connector=Embeddings1DConnectorConfigurator.from_config(config),
        audio_connector=AudioEmbeddings1DConnectorConfigurator.from_config(config),
    )
    weights = random_weights(processor, generator)
    load(processor, weights)

    tensors = {f"language_model.model.{name}": value for name, value in gemma_weights.items()}
    for name, value in weights.items():
        component = next(prefix for prefix in PREFIXES if name.startswith(prefix))
        tensors[PREFIXES[component] + name.removeprefix(component)] = value
    for text, count in TEXTS.items():
        ids = torch.randint(3, 64, (count,), generator=generator)
        padded, mask = torch.zeros(2, 1, LENGTH, dtype=torch.int64)
        padded[0, LENGTH - count :], mask[0, LENGTH - count :] = ids, 1
        states = gemma(input_ids=padded, attention_mask=mask, output_hidden_states=True).hidden_states
        features = processor.feature_extractor(states, mask, "left")
        video, audio, _ = processor.process_hidden_states(states, mask, "left")
        tensors[f"in/ids/{text}"] = ids.to(torch.int32)
        tensors[f"out/states/{text}"] = torch.stack(states)[:, 0, LENGTH - count :]
        tensors[f"out/features/{text}"] = features[0][:, LENGTH - count :]
        tensors[f"out/audio_features/{text}"] = features[1][:, LENGTH - count :]
        tensors[f"out/video/{text}"] = video
        tensors[f"out/audio/{text}"] = audio
        print(form, text, [f"{x.std():.3f}" for x in (states[0], states[-1], features[0], video, audio)])
    metadata = {"config": json.dumps(config), "gemma": json.dumps(GEMMA), "facts": json.dumps({"length": LENGTH})}
    DATA.mkdir(exist_ok=True)
    tensors = {name: value.contiguous().clone() for name, value in tensors.items()}
    save_file(tensors, DATA / f"text_{form}.safetensors", metadata)


if __name__ == "__main__":
    make("19b", 3)
    make("23", 4)
