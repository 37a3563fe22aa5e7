"""Stage 6: the files in the official layout.

python -m training.export --vae FILE --tokenizer FILE --text FILE --transformer FILE --lora FILE
    --spatial FILE --temporal FILE --out DIR
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from training import sentencepiece_file
from training.configuration import CHECKPOINT, GEMMA, MODEL_VERSION, UPSAMPLERS
from training.files import metadata

_VISION: dict[str, Any] = {
    "attention_dropout": 0.0,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 16,
    "image_size": 28,
    "intermediate_size": 24,
    "layer_norm_eps": 1e-6,
    "num_attention_heads": 2,
    "num_channels": 3,
    "num_hidden_layers": 1,
    "patch_size": 14,
    "vision_use_head": False,
    "model_type": "siglip_vision_model",
    "torch_dtype": "bfloat16",
}
_PREPROCESSOR: dict[str, Any] = {
    "do_convert_rgb": None,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "image_processor_type": "Gemma3ImageProcessor",
    "processor_class": "Gemma3Processor",
    "image_seq_length": 4,
    "resample": 2,
    "rescale_factor": 1 / 255,
    "size": {"height": 28, "width": 28},
}


def _bfloat16(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().to(torch.bfloat16).contiguous().clone() for name, value in state.items()}


def export_checkpoint(vae: Path, transformer: Path, text: Path, path: Path) -> None:
    """Everything but Gemma in one file, as the official checkpoints have it."""
    state = {f"model.diffusion_model.{name}": value for name, value in load_file(transformer).items()}
    for name, value in load_file(text).items():
        if name.startswith("connector."):
            name = name.removeprefix("connector.")
            state[f"model.diffusion_model.video_embeddings_connector.{name}"] = value
        elif name == "feature_extractor.aggregate_embed.weight":
            state["text_embedding_projection.aggregate_embed.weight"] = value
    state.update({f"vae.{name}": value for name, value in load_file(vae).items()})
    save_file(_bfloat16(state), path, metadata=metadata(CHECKPOINT))


def export_gemma(text: Path, tokenizer: Path, folder: Path) -> None:
    """The text encoder's folder, as the hub has it: model, configurations, both forms of the tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    trained = {
        name.removeprefix("gemma."): value for name, value in load_file(text).items() if name.startswith("gemma.")
    }
    config = _gemma_config(trained["embed_tokens.weight"].shape[0], tokenizer)
    state = {f"language_model.model.{name}": value for name, value in trained.items()}
    state.update(_vision_stub(config))
    save_file(_bfloat16(state), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "preprocessor_config.json").write_text(json.dumps(_PREPROCESSOR, indent=1))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer.parent / name, folder / name)
    sentencepiece_file.write(folder / "tokenizer.json", folder / "tokenizer.model")


def _gemma_config(vocabulary: int, tokenizer: Path) -> dict[str, Any]:
    ids = json.loads(tokenizer.read_text())["model"]["vocab"]
    text = {
        **GEMMA,
        "model_type": "gemma3_text",
        "vocab_size": vocabulary,
        "torch_dtype": "bfloat16",
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "layer_types": ["sliding_attention"] * GEMMA["num_hidden_layers"],
    }
    return {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "boi_token_index": ids["<start_of_image>"],
        "eoi_token_index": ids["<end_of_image>"],
        "image_token_index": ids["<image_soft_token>"],
        "eos_token_id": [ids["<eos>"], ids["<end_of_turn>"]],
        "pad_token_id": ids["<pad>"],
        "bos_token_id": ids["<bos>"],
        "initializer_range": 0.02,
        "mm_tokens_per_image": 4,
        "text_config": text,
        "vision_config": _VISION,
        "torch_dtype": "bfloat16",
    }


def _vision_stub(config: Mapping[str, Any]) -> dict[str, Tensor]:
    """An untrained vision tower: loaders expect its keys."""
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(Gemma3Config.from_dict(json.loads(json.dumps(config))))
    tower, projector = "vision_tower.", "multi_modal_projector."
    stub = {}
    for name, value in model.state_dict().items():
        name = name.removeprefix("model.")
        if name.startswith(tower) and "position_ids" not in name:
            inner = name.removeprefix(tower).removeprefix("vision_model.")
            stub[f"{tower}vision_model.{inner}"] = value
        elif name.startswith(projector):
            stub[name] = value
    return stub


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("vae", "tokenizer", "text", "transformer", "lora", "spatial", "temporal", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    export_checkpoint(options.vae, options.transformer, options.text, out / "ltx-2-tiny-dev.safetensors")
    versioned = {"format": "pt", "model_version": MODEL_VERSION}
    save_file(load_file(options.lora), out / "ltx-2-tiny-distilled-lora.safetensors", metadata=versioned)
    for kind, config in UPSAMPLERS.items():
        path = out / f"ltx-2-tiny-{kind}-upscaler-x2.safetensors"
        save_file(load_file(getattr(options, kind)), path, metadata=metadata(config))
    export_gemma(options.text, options.tokenizer, out / "gemma-tiny")
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        print(f"{path.stat().st_size:>12,}  {path.relative_to(out)}")


if __name__ == "__main__":
    main()
