"""Which official file is meant, and the sentence that says how to get it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from weights.catalogue import named_variant, named_version
from weights.header_folder import GEMMA_REPOSITORY

REPOSITORIES: Mapping[str, str] = {"2.0": "Lightricks/LTX-2", "2.3": "Lightricks/LTX-2.3"}
OFFICIAL: Mapping[str, Mapping[str, str]] = {
    "2.0": {
        "dev": "ltx-2-19b-dev.safetensors",
        "distilled": "ltx-2-19b-distilled.safetensors",
        "lora": "ltx-2-19b-distilled-lora-384.safetensors",
        "spatial-upscaler": "ltx-2-spatial-upscaler-x2-1.0.safetensors",
        "temporal-upscaler": "ltx-2-temporal-upscaler-x2-1.0.safetensors",
    },
    "2.3": {
        "dev": "ltx-2.3-22b-dev.safetensors",
        "distilled": "ltx-2.3-22b-distilled.safetensors",
        "lora": "ltx-2.3-22b-distilled-lora-384.safetensors",
        "spatial-upscaler": "ltx-2.3-spatial-upscaler-x2-1.0.safetensors",
        "temporal-upscaler": "ltx-2.3-temporal-upscaler-x2-1.0.safetensors",
    },
}
_FLAGS: Mapping[str, str] = {
    "dev": "--weights-stage1",
    "distilled": "--weights-stage2",
    "spatial-upscaler": "--spatial-upscaler-weights",
    "temporal-upscaler": "--temporal-weights",
}


def nothing_advice(version: str, roles: Sequence[str], folder: Path, text: bool = True) -> str:
    """When there are no weights at all: all ways out. text: whether the text encoder is needed too, as by a preset."""
    theirs = fetch(version, roles, folder) + (f" and {fetch_gemma(folder)}" if text else "")
    ways = f"Fetch them: {theirs}."
    if text:
        ways = f"{download(version, roles, folder)} says how large they are and fetches them; so do {theirs}."
    return f"{ways} Or try the flow with the bundled tiny model: --model tiny."


def download(version: str, roles: Sequence[str], folder: Path) -> str:
    """Our own command that fetches what these roles and the text encoder need into the folder."""
    words = ["ltx-relay weights download"]
    distilled = "distilled" in roles
    if "spatial-upscaler" not in roles:
        words.append("--preset draft" if distilled else "--preset dev")
    elif "temporal-upscaler" not in roles:
        words.append("--preset two-stage")
    if distilled and "spatial-upscaler" in roles:
        words.append("--model-variant distilled")
    if version != "2.0":
        words.append(f"--model-version {version}")
    if folder != Path.cwd() / "weights/ltx-2":
        words.append(f"--to {shown(folder)}")
    return f"`{' '.join(words)}`"


def missing_advice(version: str, tiny: bool, role: str, folder: Path) -> str:
    """When one file is missing. role: of `OFFICIAL`, or "gemma"."""
    if tiny:
        return "Use --model tiny, which brings all files of the tiny model."
    if role == "gemma":
        return f"Fetch it: {fetch_gemma(folder)}; or name its folder with --gemma FOLDER."
    ways = [f"Fetch it: {fetch(version, [role], folder)}"]
    if role == "distilled":
        ways.append(f"or the smaller LoRA: {fetch(version, ['lora'], folder)}")
    return "; ".join([*ways, f"or name a file with {_FLAGS[role]} FILE."])


def missing_file_advice(path: Path, kind: str) -> str:
    """When a flag names a file that is not there: the official file of that kind, of the version that the name says."""
    if kind == "gemma":
        return f"Fetch it: {fetch_gemma(path.parent)}."
    version = named_version(path) or "2.0"
    role = (named_variant(path) or "distilled") if kind == "checkpoint" else kind
    return f"Fetch it: {fetch(version if version in OFFICIAL else '2.0', [role], path.parent)}."


def fetch(version: str, roles: Sequence[str], folder: Path) -> str:
    """The command that fetches the official files in these roles into the folder."""
    names = " ".join(OFFICIAL[version][role] for role in roles)
    return f"`hf download {REPOSITORIES[version]} {names} --local-dir {shown(folder)}`"


def fetch_gemma(folder: Path) -> str:
    return f"`hf download {GEMMA_REPOSITORY} --local-dir {shown(folder / 'gemma-3-12b')}`"


def shown(path: Path) -> str:
    """Relative to the current folder where it lies in it."""
    current = Path.cwd()
    text = str(path.relative_to(current) if path.is_relative_to(current) else path)
    return f'"{text}"' if " " in text else text
