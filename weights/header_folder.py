"""A text encoder's folder in Hugging Face layout: config.json, and one safetensors file or an index of several.

Guarantees of a `Folder`: every file that the index names is there, whole, and holds the tensors that the index says; no
tensor is in two files; nothing outside the folder is opened because an index says so (links of the Hugging Face cache
are followed). Every failure is a WeightsError that names the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weights.errors import WeightsError
from weights.header import Header, read_header
from weights.header_json import plain, read_json

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

GEMMA_REPOSITORY = "google/gemma-3-12b-it-qat-q4_0-unquantized"
"""The text encoder that LTX-2 was made with: bf16 weights, trained to bear quantisation."""

_FETCH_AGAIN = f"Fetch the folder again: `hf download {GEMMA_REPOSITORY} --local-dir FOLDER` fetches what is missing."


@dataclass(frozen=True)
class Folder:
    """`config`: the whole config.json. `headers` are in the order of the files' names."""

    path: Path
    config: Mapping[str, Any] = field(repr=False)
    headers: tuple[Header, ...] = field(repr=False)

    @property
    def file_size(self) -> int:
        """Bytes of the weights files."""
        return sum(header.file_size for header in self.headers)


def read_folder(path: Path | str) -> Folder:
    """The headers of all weights files of the folder."""
    path = Path(path)
    if not path.is_dir():
        raise WeightsError(f"{path} is {'no folder' if path.exists() else 'not there'}; a text encoder is a folder.")
    if not (path / CONFIG).exists():
        raise WeightsError(f"{path} holds no {CONFIG}, so it is no text encoder's folder.", advice=_FETCH_AGAIN)
    config = read_json(path / CONFIG)
    headers = _shards(path) if (path / INDEX).exists() else (read_header(_only_file(path)),)
    return Folder(path, config, headers)


def _shards(path: Path) -> tuple[Header, ...]:
    names = read_json(path / INDEX).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(file, str) for file in names.values()):
        raise WeightsError(f"{path / INDEX} has no weight_map of file names.", advice=_FETCH_AGAIN)
    files = sorted(set(names.values()))
    for file in files:
        if Path(file).name != file or not file.endswith(".safetensors") or not file.isprintable():
            raise WeightsError(f"{path / INDEX} names {plain(file)!r}, which is no file of this folder.")
    absent = [file for file in files if not _is_there(path / file)]
    if absent:
        raise WeightsError(
            f"{path} is incomplete: {', '.join(map(plain, absent[:3]))} "
            f"({len(absent)} of {len(files)} files) cannot be found.",
            advice=_FETCH_AGAIN,
        )
    headers = {file: read_header(path / file) for file in files}
    seen: dict[str, str] = {}
    for file, header in headers.items():
        for name in header.tensors:
            if name in seen:
                raise WeightsError(f"{plain(name)} is in both {seen[name]} and {file} of {path}.")
            seen[name] = file
    for name, file in names.items():
        if seen.get(name) != file:
            raise WeightsError(
                f"{path / file} does not hold {plain(name)}, which the index says is there.", advice=_FETCH_AGAIN
            )
    return tuple(headers.values())


def _is_there(path: Path) -> bool:
    """Not of a name that is too long for any file."""
    try:
        return path.exists()
    except OSError:
        return False


def _only_file(path: Path) -> Path:
    if (path / SINGLE).exists():
        return path / SINGLE
    files = sorted(path.glob("[!.]*.safetensors"))
    if len(files) == 1:
        return files[0]
    if not files:
        raise WeightsError(f"{path} holds no safetensors file.", advice=_FETCH_AGAIN)
    raise WeightsError(f"{path} holds {len(files)} safetensors files but no {INDEX}.", advice=_FETCH_AGAIN)
