"""How people spell the keys of a LoRA: to official module names, and which half of a pair a tensor is.

    prefixes   diffusion_model. (official), model.diffusion_model., transformer., base_model.model., lora_unet_, none
    halves     lora_A / lora_B, lora_down / lora_up, lora.down / lora.up, with PEFT's adapter name, and alpha
    modules    official; as diffusers renames them (proj_in, time_embed, ...); with underscores for dots (kohya)

Only spellings whose meaning is certain are read; every other key is for `lora.match` to refuse.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

Part = Literal["a", "b", "alpha"]

_PREFIXES = ("base_model.model.", "model.", "diffusion_model.", "transformer.", "lora_unet_", "lora_transformer_")
_ENDINGS: tuple[tuple[str, Part], ...] = (
    (".lora_A.weight", "a"),
    (".lora_B.weight", "b"),
    (".lora_A.default.weight", "a"),
    (".lora_B.default.weight", "b"),
    (".lora_down.weight", "a"),
    (".lora_up.weight", "b"),
    (".lora.down.weight", "a"),
    (".lora.up.weight", "b"),
    (".alpha", "alpha"),
)
_HALVES = tuple(ending for ending, part in _ENDINGS if part != "alpha")
_DIFFUSERS: tuple[tuple[str, str], ...] = (
    ("av_ca_video_scale_shift_adaln_single", "av_cross_attn_video_scale_shift"),
    ("av_ca_audio_scale_shift_adaln_single", "av_cross_attn_audio_scale_shift"),
    ("av_ca_a2v_gate_adaln_single", "av_cross_attn_video_a2v_gate"),
    ("av_ca_v2a_gate_adaln_single", "av_cross_attn_audio_v2a_gate"),
    ("audio_prompt_adaln_single", "audio_prompt_adaln"),
    ("prompt_adaln_single", "prompt_adaln"),
    ("audio_adaln_single", "audio_time_embed"),
    ("adaln_single", "time_embed"),
    ("audio_patchify_proj", "audio_proj_in"),
    ("patchify_proj", "proj_in"),
)
"""Official name of a top module, and what diffusers calls it; the modules of blocks are the same."""


class Key(NamedTuple):
    """module: as the file spells it, without prefix and ending."""

    module: str
    part: Part


def parse(key: str) -> Key | None:
    """None: no ending that we know."""
    for ending, part in _ENDINGS:
        if key.endswith(ending):
            return Key(_without_prefix(key.removesuffix(ending)), part)
    return None


def is_lora(names: Iterable[str]) -> bool:
    """Whether tensor names are those of a LoRA: at least one half of a pair."""
    return any(name.endswith(_HALVES) for name in names)


def spellings(modules: Iterable[str]) -> dict[str, str]:
    """Every spelling of these official modules -> the official name."""
    found = {}
    for module in modules:
        for spelt in (module, _diffusers(module)):
            found[spelt] = found[spelt.replace(".", "_")] = module
    return found


def _without_prefix(name: str) -> str:
    while True:
        prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None)
        if prefix is None:
            return name
        name = name.removeprefix(prefix)


def _diffusers(module: str) -> str:
    for official, other in _DIFFUSERS:
        if module == official or module.startswith(f"{official}."):
            return other + module.removeprefix(official)
    return module
