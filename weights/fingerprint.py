"""What identifies the content of a weights file without reading 40 GB of it.

Guarantees: the fingerprint depends on content only, never on name, place or time, but for one thing: a file in a
Hugging Face cache has its SHA-256 in its blob's name, which is taken with header and size, so a copy elsewhere has
another. It changes with any change of the header or the size, and with changes of the sampled parts; a file of up to
64 MiB is hashed whole. A flipped bit between the samples of a larger file is not noticed. A memo (a text file, a line
for each fingerprint) keeps what was computed, for as long as the file system says that the file is the same; a damaged,
full or unwritable memo costs time only.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from weights.errors import WeightsError
from weights.header import MAX_HEADER, Signature
from weights.header_folder import CONFIG
from weights.header_json import no_access

SAMPLES = 64
SAMPLE_BYTES = 1 << 20
_DOMAIN = b"ltx-relay fingerprint 1\n"
_FOLDER_DOMAIN = b"ltx-relay folder fingerprint 1\n"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_MEMO_BYTES = 1 << 20
_LINE = re.compile(rb"([0-9:-]+) ([0-9a-f]{64}) ([0-9a-f]{16})")
"""device:inode:size:mtime_ns:ctime_ns, fingerprint, checksum of the line."""
_SETTLED_NS = 2_000_000_000
"""A file written less than this ago may change again within the clock's resolution: it is not memoised."""


def fingerprint(path: Path | str, memo: Path | None = None) -> str:
    """64 hexadecimal digits for a file, or for a text encoder's folder: its config, tokenizer and weights files.

    WeightsError when something cannot be read, or changes while it is read.
    """
    path = Path(path)
    try:
        return _folder(path, memo) if path.is_dir() else _file(path, memo)
    except OSError as error:
        raise WeightsError(no_access(path, error)) from error


def unchanged(path: Path | str, signature: Signature) -> bool:
    """Whether the file is still the one whose header was read (see `Header.signature`)."""
    try:
        return Signature.of(os.stat(path)) == signature
    except OSError:
        return False


def _folder(path: Path, memo: Path | None) -> str:
    weights = sorted(entry.name for entry in path.glob("[!.]*.safetensors"))
    names = [name for name in (CONFIG, *_TOKENIZER_FILES) if (path / name).is_file()] + weights
    if not weights:
        raise WeightsError(f"{path} holds no weights.")
    total = hashlib.sha256(_FOLDER_DOMAIN)
    for name in names:
        total.update(f"{name}\n{_file(path / name, memo)}\n".encode())
    return total.hexdigest()


def _file(path: Path, memo: Path | None) -> str:
    with open(path, "rb") as file:
        before = os.fstat(file.fileno())
        blob = _blob(path)
        if blob:  # costs a header; by the memo's key it could be taken for the blob under its own name
            memo = None
        key = f"{before.st_dev}:{before.st_ino}:{before.st_size}:{before.st_mtime_ns}:{before.st_ctime_ns}"
        known = {} if memo is None else _read_memo(memo)
        if key in known:
            return known[key]
        digest = hashlib.sha256(_DOMAIN + f"{before.st_size}\n".encode())
        for start, length in _header(file.fileno(), before.st_size) if blob else _parts(file.fileno(), before.st_size):
            _update(digest, file.fileno(), start, length)
        digest.update(blob.encode())
        after = os.fstat(file.fileno())
    if Signature.of(after) != Signature.of(before) or after.st_ctime_ns != before.st_ctime_ns:
        raise WeightsError(f"{path} changed while it was read.", advice="Wait until its download is finished.")
    if memo is not None and time.time_ns() - max(before.st_mtime_ns, before.st_ctime_ns) > _SETTLED_NS:
        _write_memo(memo, key, digest.hexdigest())
    return digest.hexdigest()


def _parts(descriptor: int, size: int) -> Iterable[tuple[int, int]]:
    """(start, length) of what is hashed."""
    if size <= SAMPLES * SAMPLE_BYTES:
        return [(0, size)]
    last = size - SAMPLE_BYTES
    samples = [(last * index // (SAMPLES - 1), SAMPLE_BYTES) for index in range(SAMPLES)]
    return [*_header(descriptor, size), *samples]


def _header(descriptor: int, size: int) -> list[tuple[int, int]]:
    """A safetensors header; of any other file the first mebibyte."""
    length = int.from_bytes(os.pread(descriptor, 8, 0), "little")
    return [(0, min(size, 8 + length if length <= MAX_HEADER else SAMPLE_BYTES))]


def _update(digest: hashlib._Hash, descriptor: int, start: int, length: int) -> None:
    while length > 0:
        piece = os.pread(descriptor, min(length, 8 << 20), start)
        if not piece:
            return  # shorter than it was: the check afterwards sees it
        digest.update(piece)
        start, length = start + len(piece), length - len(piece)


def _blob(path: Path) -> str:
    """The SHA-256 that a Hugging Face cache names a large file by: snapshots/REVISION/NAME -> blobs/SHA256."""
    target = Path(os.path.realpath(path))
    if target.parent.name == "blobs" and path.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", target.name):
        return target.name
    return ""


def _read_memo(memo: Path) -> dict[str, str]:
    try:
        with open(memo, "rb") as file:
            lines = file.read(_MEMO_BYTES).splitlines()
    except OSError:
        return {}
    known = {}
    for line in lines:
        match = _LINE.fullmatch(line)
        if match and match[3] == _check(match[1], match[2]):
            known[match[1].decode()] = match[2].decode()
    return known


def _write_memo(memo: Path, key: str, value: str) -> None:
    """Appends one line in one write: writers at once lose nothing, and a kill leaves no temporary file."""
    line = b"%s %s %s\n" % (key.encode(), value.encode(), _check(key.encode(), value.encode()))
    try:
        memo.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(memo, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if os.fstat(descriptor).st_size + len(line) > _MEMO_BYTES:
                os.ftruncate(descriptor, 0)
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
    except OSError:
        return


def _check(key: bytes, value: bytes) -> bytes:
    """So that a torn line never counts."""
    return hashlib.sha256(key + b" " + value).hexdigest()[:16].encode()
