"""Where weights are looked for, and what lies there.

Only folders' listings and headers are read. What cannot be recognised is kept with the reason, so that a truncated
checkpoint is reported as such and not as missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from weights.catalogue import (
    CHECKPOINT,
    GEMMA,
    LORA,
    SPATIAL,
    TEMPORAL,
    TOKENIZERS,
    WeightsFile,
    identify,
    named_variant,
    named_version,
)
from weights.errors import WeightsError
from weights.header_folder import CONFIG

DEFAULT_FOLDER = Path("weights/ltx-2")
FOLDER_VARIABLE = "LTX_RELAY_WEIGHTS"
_HUB_PATTERNS = ("models--Lightricks--LTX-2", "models--Lightricks--LTX-2.3", "models--google--gemma-3-12b-it*")


@dataclass(frozen=True)
class Unusable:
    """A file or folder that is there but was refused. `kind`, `version`, `variant`: what its name promises."""

    path: Path
    error: WeightsError
    kind: str
    version: str | None
    variant: str | None


@dataclass(frozen=True)
class Shelf:
    """Everything found, the preferred of equal files first: 16 bits before fp8 and quantised, by folder, official names
    before others, later revisions before earlier."""

    folders: tuple[Path, ...]
    files: tuple[WeightsFile, ...]
    unusable: tuple[Unusable, ...]


def default_search(environment: Mapping[str, str], current: Path | None = None) -> tuple[Path, ...]:
    """weights/ltx-2 here, the folder in LTX_RELAY_WEIGHTS, and what the Hugging Face cache holds of LTX-2 and Gemma."""
    current = Path.cwd() if current is None else current
    folders = [current / DEFAULT_FOLDER]
    named = environment.get(FOLDER_VARIABLE)
    if named:
        folder = current / Path(named).expanduser()
        if not folder.is_dir():
            raise WeightsError(f"{FOLDER_VARIABLE} names {folder}, which is no folder.")
        folders.append(folder)
    hub = hub_folder(environment)
    for pattern in _HUB_PATTERNS:
        for repository in sorted(hub.glob(pattern)):
            snapshot = _snapshot(repository)
            if snapshot is not None:
                folders.append(snapshot)
    return tuple(folders)


def hub_folder(environment: Mapping[str, str]) -> Path:
    """The Hugging Face cache, by the variables that huggingface_hub obeys."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environment.get(name):
            return Path(environment[name]).expanduser()
    home = environment.get("HF_HOME")
    if not home:
        cache = environment.get("XDG_CACHE_HOME")
        home = f"{cache}/huggingface" if cache else "~/.cache/huggingface"
    return Path(home).expanduser() / "hub"


def survey(folders: Sequence[Path], version: str | None = None) -> Shelf:
    """What lies directly in these folders, with the text encoders in `gemma*` folders of theirs."""
    found: list[tuple[int, WeightsFile]] = []
    unusable: list[Unusable] = []
    for order, folder in enumerate(folders):
        for path in _candidates(folder):
            try:
                found.append((order, identify(path, version=version)))
            except WeightsError as error:
                unusable.append(_unusable(path, error))
    found.sort(key=lambda item: _revision(item[1].path), reverse=True)
    found.sort(key=lambda item: _preference(*item))
    return Shelf(tuple(folders), tuple(file for _, file in found), tuple(unusable))


def _candidates(folder: Path) -> list[Path]:
    """Paths that may be weights, in a stable order; an unreadable or absent folder has none."""
    try:
        if (folder / CONFIG).exists():
            return [folder]
        # Without what macOS keeps beside files on other systems' disks: `._name.safetensors`.
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []
    files = [path for path in entries if path.suffix == ".safetensors"]
    return files + [path for path in entries if path.name.lower().startswith("gemma") and path.is_dir()]


def _unusable(path: Path, error: WeightsError) -> Unusable:
    name = path.name.lower()
    if "lora" in name:
        kind = LORA
    elif "spatial" in name:
        kind = SPATIAL
    elif "temporal" in name:
        kind = TEMPORAL
    else:
        kind = GEMMA if path.is_dir() else CHECKPOINT
    return Unusable(path, error, kind, named_version(path), named_variant(path))


_OFFICIAL = re.compile(
    r"ltx-2(\.\d)?-(\d+b-(dev|distilled)|\d+b-distilled-lora-\d+|(spatial|temporal)-upscaler-x[\d.]+)(-[\d.]+)?"
)


def _preference(order: int, file: WeightsFile) -> tuple[bool, bool, int, bool, bool]:
    """Smaller is better."""
    no_tokenizer = file.kind == GEMMA and not any((file.path / name).exists() for name in TOKENIZERS)
    other_scale = file.kind == SPATIAL and file.scale != Fraction(2)
    return file.compact, no_tokenizer, order, not _OFFICIAL.fullmatch(file.path.stem), other_scale


def _revision(path: Path) -> list[tuple[int, str]]:
    """Sorts distilled before distilled-1.1, and 1.2 before 1.10."""
    return [(int(part or -1), text) for text, part in re.findall(r"(\D*)(\d*)", path.stem)]


def _snapshot(repository: Path) -> Path | None:
    """The folder of the revision that `main` names, else the newest one."""
    snapshots = repository / "snapshots"
    try:
        revision = (repository / "refs" / "main").read_text(encoding="utf-8").strip()[:64]
    except (OSError, UnicodeDecodeError):
        revision = ""
    if re.fullmatch(r"[0-9a-f]{40}", revision) and (snapshots / revision).is_dir():
        return snapshots / revision
    try:
        folders = [path for path in snapshots.iterdir() if path.is_dir()]
        return max(folders, key=lambda path: path.stat().st_mtime, default=None)
    except OSError:
        return None
