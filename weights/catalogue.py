"""What a file is: kind, version, variant, told by its content wherever the content tells.

Guarantees: the kind comes from metadata and tensor names, never from the file's name. Names and folders are asked only
for what two official files with equal content differ in: dev or distilled, and an upscaler's version. A file that is of
no use here is a WeightsError that says what it is. Only headers are read; whether every tensor is there is `select`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from weights.architecture import connector, gemma, projection, transformer, upsampler, vae
from weights.errors import WeightsError
from weights.header import Header, read_config, read_header
from weights.header_folder import CONFIG, GEMMA_REPOSITORY, read_folder
from weights.header_json import plain
from weights.lora_names import is_lora
from weights.quantize_names import PACKED
from weights.select import COMPONENTS

CHECKPOINT, SPATIAL, TEMPORAL, LORA, GEMMA = "checkpoint", "spatial-upscaler", "temporal-upscaler", "lora", "gemma"
VERSIONS = ("2.0", "2.3")
VARIANTS = ("dev", "distilled")
SPATIAL_SCALES = (Fraction(2), Fraction(3, 2))
TOKENIZERS = ("tokenizer.json", "tokenizer.model")


@dataclass(frozen=True)
class WeightsFile:
    """version: "2.0" (19B) or "2.3" (22B); None for Gemma, and for a LoRA that does not say.

    variant: "dev" or "distilled" of a checkpoint, "distilled" of the distilled LoRA; None when no name says.
    scale: of a spatial upscaler, 2 or 3/2. size: bytes of the file (of a folder: of its weights files).
    tiny: made for the bundled tiny model; does not go together with real files. path of Gemma: its folder.
    fp8, quantized: some weights of linear layers are 8-bit floats, or quantised (see `quantize_names`).
    """

    path: Path
    kind: str
    version: str | None
    variant: str | None
    size: int
    config: Mapping[str, Any] = field(repr=False, default_factory=dict)
    scale: Fraction | None = None
    tiny: bool = False
    fp8: bool = False
    quantized: bool = False

    @property
    def compact(self) -> bool:
        """Whether its weights are less exact than the official 16 bits: never preferred to a file that has those."""
        return self.fp8 or self.quantized

    @property
    def family(self) -> str:
        """Files with different families have different latents: they must not be mixed."""
        return f"{self.version or 'unknown'}{' (tiny)' if self.tiny else ''}"


def identify(path: Path | str, *, version: str | None = None) -> WeightsFile:
    """What the file or folder is. `version` is the user's word for an upscaler that does not tell (--model-version)."""
    path = Path(path)
    if path.is_dir():
        return _identify_folder(path)
    header = read_header(path)
    names = header.tensors
    if is_lora(names):
        return _lora(header)
    if f"{transformer.PREFIX}transformer_blocks.0.attn1.to_q.weight" in names:
        return _checkpoint(header)
    if {"initial_conv.weight", "final_conv.weight", "res_blocks.0.conv1.weight"} <= names.keys():
        return _upscaler(header, version)
    if any(f"{prefix}layers.0.pre_feedforward_layernorm.weight" in names for prefix in COMPONENTS[GEMMA].prefixes):
        if (path.parent / CONFIG).exists():
            return _identify_folder(path.parent)
        raise WeightsError(
            f"{path} is a Gemma text encoder without its {CONFIG} and tokenizer.",
            advice=f"Fetch the whole folder (`hf download {GEMMA_REPOSITORY} --local-dir FOLDER`) and name it with "
            "--gemma FOLDER.",
        )
    raise _foreign(header)


def check_tokenizer(folder: Path) -> None:
    """WeightsError when the text encoder's folder holds no tokenizer."""
    if not any((folder / name).exists() for name in TOKENIZERS):
        raise WeightsError(
            f"{folder} has no tokenizer ({' or '.join(TOKENIZERS)}).",
            advice=f"Fetch the whole folder: `hf download {GEMMA_REPOSITORY} --local-dir FOLDER`.",
        )


def named_version(path: Path) -> str | None:
    """The version that the file's name, or else a folder around it, says: "2.0", "2.3", "2.5"; None if neither."""
    for name in (path.name, *(folder.name for folder in list(path.absolute().parents)[:3])):
        match = re.search(r"ltx(?:[-_ ]?video)?[-_ ]?v?2(?:[._](\d))?(?![0-9a-z])", name.lower())
        if match:
            return f"2.{match[1] or 0}"
    return None


def named_variant(path: Path) -> str | None:
    """ "dev" or "distilled" if the file's name says one of them, or else a folder around it that is named after LTX."""
    folders = [folder.name.lower() for folder in list(path.absolute().parents)[:3]]
    for name in (path.name.lower(), *(name for name in folders if "ltx" in name)):
        found = set(re.split(r"[^a-z]+", name)) & set(VARIANTS)
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def _identify_folder(path: Path) -> WeightsFile:
    if (path / "model_index.json").exists():
        raise WeightsError(
            f"{path} is an LTX-2 model in the diffusers layout, whose files are not read here.",
            advice="Use the single checkpoint file of the same repository, e.g. ltx-2-19b-dev.safetensors.",
        )
    if not (path / CONFIG).exists() and any(path.glob("[!.]*.safetensors")):
        raise WeightsError(f"{path} is a folder of weights files; name one of the files.")
    folder = read_folder(path)
    _check_quantization(path, folder.config)
    try:
        gemma.GemmaConfig.from_metadata(folder.config)
    except WeightsError as error:
        raise WeightsError(f"{path / CONFIG}: {plain(error.message, 400)}", advice=error.advice) from error
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise WeightsError(f"{path / CONFIG} cannot be understood ({plain(str(error))}).") from error
    quantized = any(_is_quantized(header) for header in folder.headers)
    return WeightsFile(path, GEMMA, None, None, folder.file_size, folder.config, quantized=quantized)


def _check_quantization(path: Path, config: Mapping[str, Any]) -> None:
    """WeightsError for a scheme that is not MLX's affine one. The bits themselves are read off the shapes."""
    for key in ("quantization", "quantization_config"):
        stated = config.get(key)
        if stated is None:
            continue
        mode = stated.get("mode", stated.get("quant_method", "affine")) if isinstance(stated, dict) else stated
        if mode != "affine":
            raise WeightsError(
                f"{path} is quantised in a way that is not read here ({plain(str(mode))}).",
                advice=f"Use {GEMMA_REPOSITORY}, which is bf16, or `ltx-relay weights quantize` of it.",
            )


def _is_quantized(header: Header) -> bool:
    return any(info.dtype == PACKED for info in header.tensors.values())


def _checkpoint(header: Header) -> WeightsFile:
    names, path = header.tensors, header.path
    parts = {
        "text connector": (connector.PREFIX, COMPONENTS["connector"].prefixes[1]),
        "text projection": (projection.PREFIX,),
        "video VAE": ("vae.encoder.", "vae.decoder."),
        "latent statistics": (vae.STATISTICS_PREFIX,),
    }
    absent = [part for part, prefixes in parts.items() if not any(name.startswith(prefixes) for name in names)]
    if {"text connector", "text projection"} <= set(absent) and len(absent) == 2:
        raise WeightsError(
            f"{path} is a checkpoint of LTX-Video, the model before LTX-2; this program runs LTX-2 only.",
            advice="Use a file of Lightricks/LTX-2, e.g. ltx-2-19b-distilled.safetensors.",
        )
    if absent:
        raise WeightsError(
            f"{path} holds only a part of an LTX-2 checkpoint: no {', no '.join(absent)}.",
            advice="Use the official single file, e.g. ltx-2-19b-dev.safetensors.",
        )
    table = names.get(f"{transformer.PREFIX}transformer_blocks.0.scale_shift_table")
    rows = table.shape[0] if table is not None and table.shape else 6
    version = stated_version(header) or ("2.3" if rows == 9 else "2.0")
    return WeightsFile(
        path=path,
        kind=CHECKPOINT,
        version=_supported(path, version),
        variant=named_variant(path),
        size=header.file_size,
        config=read_config(header),
        tiny=is_tiny_header(header),
        fp8=any(info.dtype.startswith("F8_") for info in names.values()),
        quantized=_is_quantized(header),
    )


def _upscaler(header: Header, said: str | None) -> WeightsFile:
    path, config = header.path, read_config(header)
    try:
        parsed = upsampler.UpsamplerConfig.from_metadata(config)
    except WeightsError as error:
        raise WeightsError(f"{path}: {plain(error.message, 400)}", advice=error.advice) from error
    scale = Fraction(*parsed.ratio)
    if parsed.time and scale != 1:
        raise WeightsError(f"{path} upsamples space and time together; no LTX-2 pipeline uses such an upscaler.")
    if not parsed.time and scale not in SPATIAL_SCALES:
        raise WeightsError(f"{path} is a spatial upscaler x{float(scale):g}; this program uses x2 and x1.5.")
    kind = TEMPORAL if parsed.time else SPATIAL
    version = stated_version(header) or named_version(path) or said
    if version is None:
        raise WeightsError(
            f"{path} is a {kind.replace('-', ' ')}, but neither its metadata nor its name nor its folder says whether "
            "it belongs to LTX-2 (2.0) or LTX-2.3, whose latents differ.",
            advice="Say it with --model-version 2.0 or --model-version 2.3.",
        )
    return WeightsFile(
        path=path,
        kind=kind,
        version=_supported(path, version),
        variant=None,
        size=header.file_size,
        config=config,
        scale=None if parsed.time else scale,
        tiny=is_tiny_header(header),
    )


def _lora(header: Header) -> WeightsFile:
    version = stated_version(header)
    if version is None and any("to_gate_logits." in name for name in header.tensors):
        version = "2.3"
    if version is None and any("caption_projection" in name for name in header.tensors):
        version = "2.0"
    version = version or named_version(header.path)
    return WeightsFile(
        path=header.path,
        kind=LORA,
        version=None if version is None else _supported(header.path, version),
        variant="distilled" if named_variant(header.path) == "distilled" else None,
        size=header.file_size,
        tiny=is_tiny_header(header),
    )


def stated_version(header: Header) -> str | None:
    """From the metadata: "2.3.0" -> "2.3"."""
    stated = header.metadata.get("model_version", "")
    match = re.match(r"(\d+)\.(\d+)", stated)
    return f"{match[1]}.{match[2]}" if match else None


def is_tiny_header(header: Header) -> bool:
    """Whether a file says of itself that it is made for the bundled tiny model ("2.0.0-tiny")."""
    return header.metadata.get("model_version", "").endswith("-tiny")


def _supported(path: Path, version: str) -> str:
    if version not in VERSIONS:
        raise WeightsError(
            f"{path} is of LTX version {plain(version)}; this program runs {' and '.join(VERSIONS)}.",
            advice="Use the files of Lightricks/LTX-2 (2.0) or Lightricks/LTX-2.3.",
        )
    return version


_FOREIGN: tuple[tuple[str, str], ...] = (
    (r"^(transformer_blocks\.\d+\.attn1\.norm_q|proj_in\.)", "an LTX transformer in the diffusers layout"),
    (r"^transformer_blocks\.\d+\.attn1\.q_norm\.", "an LTX transformer cut out of its checkpoint"),
    (r"^(model\.diffusion_model\.audio_|audio_vae\.|vocoder\.)", "only the audio part of an LTX-2 checkpoint"),
    (r"^(vae\.)?(encoder|decoder)\.", "a VAE alone"),
    (r"(^|\.)vision_tower\.", "a vision model, or one shard of a text encoder"),
    (r"(^|\.)layers\.\d+\.self_attn\.", "a language model, or one shard of one, that is not Gemma 3"),
)
"""Tensor names of files that people mistake for the right ones."""


def _foreign(header: Header) -> WeightsError:
    names = list(header.tensors)
    known = (what for pattern, what in _FOREIGN if any(re.search(pattern, name) for name in names))
    what = next(known, "")
    if not what:
        some = ", ".join(plain(name) for name in names[:3])
        what = (
            f"no file of LTX-2 (its tensors: {some}{', ...' if len(names) > 3 else ''})" if names else "without tensors"
        )
    return WeightsError(
        f"{header.path} is {what}.",
        advice=f"The official files are in Lightricks/LTX-2 (checkpoint, upscalers) and {GEMMA_REPOSITORY} (text).",
    )
