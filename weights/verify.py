"""Whether the content of weights files is what it should be: every byte is read and hashed.

The right hash comes from where a file was fetched: the Hugging Face cache names its blobs by it, and `hf download
--local-dir` writes it to `.cache/huggingface/download` (SHA-256 of large files, git's SHA-1 of small ones). For a file
from elsewhere there is none, and only a hash that was noted earlier can say whether it changed.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from weights.catalogue import TOKENIZERS
from weights.errors import WeightsError
from weights.fingerprint import unchanged
from weights.header import Signature, read_header
from weights.header_folder import CONFIG, INDEX
from weights.header_json import no_access

PIECE = 8 << 20
GIT_BYTES = 16 << 20
"""Larger files are served under a SHA-256."""
SMALL = (CONFIG, INDEX, *TOKENIZERS, "tokenizer_config.json")
"""What of a text encoder's folder is no safetensors file."""
_HASH = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
_METADATA_BYTES = 1 << 12


@dataclass(frozen=True)
class Content:
    """What was read of a file. `git`: the SHA-1 that git gives such a content."""

    bytes: int
    sha256: str
    git: str

    def has(self, published: str) -> bool:
        return published in (self.sha256, self.git)


def files_of(path: Path) -> list[Path]:
    """The file itself; or a text encoder's folder, and what it holds of weights, config and tokenizer."""
    if not path.is_dir():
        return [path]
    return [path, *sorted(path.glob("[!.]*.safetensors")), *(path / name for name in SMALL if (path / name).is_file())]


def published(path: Path) -> str | None:
    """The hash that the file was served under; None where nothing beside it says so."""
    target = Path(os.path.realpath(path))
    if target.parent.name == "blobs" and _HASH.fullmatch(target.name):
        return target.name
    for folder in list(path.absolute().parents)[:4]:
        inside = path.absolute().relative_to(folder)
        stated = _stated(folder / ".cache" / "huggingface" / "download" / f"{inside}.metadata")
        if stated is not None:
            return stated
    return None


def read_content(path: Path) -> Content:
    """Reads all of it, after a look at its header. WeightsError when it cannot be read, or changes meanwhile."""
    if path.name not in SMALL:
        read_header(path)
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            sha256 = hashlib.sha256()
            git = hashlib.sha1(b"blob %d\0" % status.st_size, usedforsecurity=False)
            small = status.st_size <= GIT_BYTES
            while piece := file.read(PIECE):
                sha256.update(piece)
                if small:
                    git.update(piece)
    except OSError as error:
        raise WeightsError(no_access(path, error)) from error
    if not unchanged(path, Signature.of(status)):
        raise WeightsError(f"{path} changed while it was read.", advice="Wait until its download is finished.")
    return Content(status.st_size, sha256.hexdigest(), git.hexdigest() if small else "")


def _stated(metadata: Path) -> str | None:
    """The second of three lines: revision, hash, time."""
    try:
        with open(metadata, encoding="utf-8", errors="replace") as file:
            lines = file.read(_METADATA_BYTES).splitlines()
    except OSError:
        return None
    return lines[1] if len(lines) > 1 and _HASH.fullmatch(lines[1]) else None
