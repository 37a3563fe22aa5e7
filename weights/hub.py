"""The Hugging Face hub: what its repositories hold, and files from there.

Guarantees: nothing is written outside the folder that was named, whatever a repository says its files are called; a
file appears under its own name only when it is whole, by its hash, and what was fetched of it before is not fetched
again; every failure is a WeightsError (DoesNotFit where the disk is full) that says what to do. What is in the files is
for `weights.catalogue` to say.

huggingface_hub knows the user's token, HF_ENDPOINT and proxies, and does the transfers. Its own `hf_hub_download` (2.4)
throws away what it fetched when it is interrupted, which is too much of 43 GB: the parts are kept here. It is imported
when it is needed only: that takes a second.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from weights.errors import DoesNotFit, RelayError, WeightsError
from weights.header_json import plain
from weights.verify import PIECE, SMALL

DOWNLOADS = Path(".cache/huggingface/download")
"""Where, in a folder, huggingface_hub notes what it fetched."""
PARTS = Path(".cache/ltx-relay")
"""Where, in a folder, lies what is not whole yet."""
AGENT = "ltx-relay"
MOST_FILES = 200
_TIMEOUT = 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}")
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class HubFile:
    """A file in the top folder of a repository. bytes: None where the hub does not say. etag: its hash, or empty."""

    repository: str
    revision: str
    name: str
    bytes: int | None
    etag: str


def check_library() -> None:
    """WeightsError where huggingface_hub itself does not load."""
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.file_download  # noqa: F401
    except Exception as error:  # a broken installation may raise anything
        raise WeightsError(
            f"huggingface_hub does not load: {plain(str(error), 300).rstrip('.')}.",
            advice="Install it again (`pip install --force-reinstall huggingface_hub`), or fetch the files otherwise.",
        ) from error


def repository_files(repository: str) -> Mapping[str, HubFile]:
    """Name -> file, of the newest revision. Files in folders, and those with odd names, are none of ours."""
    from huggingface_hub import HfApi

    with in_sentences(repository):
        info = HfApi(library_name=AGENT).model_info(repository, files_metadata=True, timeout=_TIMEOUT)
    revision = info.sha or ""
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise WeightsError(f"The hub names no revision of {repository} that can be fetched.")
    found: dict[str, HubFile] = {}
    for file in (info.siblings or [])[: 100 * MOST_FILES]:
        name, size = file.rfilename, file.size
        if isinstance(name, str) and _NAME.fullmatch(name) and len(found) < MOST_FILES:
            etag = (file.lfs.sha256 if file.lfs is not None else file.blob_id) or ""
            known = size if isinstance(size, int) and size >= 0 else None
            found[name] = HubFile(repository, revision, name, known, etag if _HASH.fullmatch(str(etag)) else "")
    return found


def text_encoder_files(files: Mapping[str, HubFile]) -> list[HubFile]:
    """Of Gemma's repository: weights, config and tokenizer, the small ones first."""
    names = sorted(name for name in files if name.endswith(".safetensors"))
    return [files[name] for name in [*(name for name in SMALL if name in files), *names]]


def check_access(file: HubFile) -> None:
    """WeightsError where this user may not fetch the file; nothing is transferred."""
    with in_sentences(file.repository, file.name):
        locate(file)


def part_of(folder: Path, file: HubFile) -> Path:
    """Where it is while it is not whole; another version of it has another place."""
    return folder / PARTS / f"{file.name}.{(file.etag or file.revision)[:16]}.part"


def fetched_bytes(folder: Path, file: HubFile) -> int:
    """What an earlier, interrupted download left of it."""
    try:
        size = part_of(folder, file).stat().st_size
    except OSError:
        return 0
    return size if file.bytes is None else min(size, file.bytes)


def fetch_file(file: HubFile, folder: Path, *, progress: bool = False) -> Path:
    """The file in the folder, whole, in the place of what was there. progress: a bar on standard error.

    What arrives is kept in a part beside it, whatever ends this call, and the next call goes on from there. Before the
    file gets its name its content is compared with the hub's hash.
    """
    if not _NAME.fullmatch(file.name):
        raise WeightsError(f"{plain(file.name)!r} is no name of a weights file.")
    path, part = folder / file.name, part_of(folder, file)
    with in_sentences(file.repository, file.name, folder):
        part.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644), "r+b") as target:
            try:
                fcntl.flock(target, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise WeightsError(f"{path} is being fetched by another process.", advice="Wait for that.") from error
            transfer(file, target, progress)
            target.flush()
            os.fsync(target.fileno())
            if not is_content(target, file):
                part.unlink()
                raise WeightsError(
                    f"{file.name} of {file.repository} came damaged: its content is not what the hub's hash says.",
                    advice="Run the same command again; this file begins anew.",
                )
            os.replace(part, path)
        note_hash(file, folder)
    for stale in (folder / PARTS).glob(f"{file.name}.*.part"):
        stale.unlink(missing_ok=True)
    return path


def locate(file: HubFile) -> tuple[str, dict[str, str], int | None]:
    """Where its bytes are served just now, with which headers, and how many. That place may be forgotten in an hour."""
    from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url
    from huggingface_hub.utils._headers import build_hf_headers

    url = hf_hub_url(file.repository, file.name, revision=file.revision)
    found = get_hf_file_metadata(url, token=get_token(), timeout=_TIMEOUT, library_name=AGENT)
    headers = dict(build_hf_headers(token=get_token(), library_name=AGENT))
    if urlsplit(found.location).netloc != urlsplit(url).netloc:  # the user's token is for the hub only
        headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
    return found.location, headers, found.size


def transfer(file: HubFile, target: BinaryIO, progress: bool) -> None:
    """What is missing at the end of `target`; begins again where a connection breaks, as long as bytes arrive."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not progress:
        disable_progress_bars()
    while True:
        begin = target.seek(0, os.SEEK_END)
        try:
            location, headers, size = locate(file)
            expected = file.bytes if file.bytes is not None else size
            if expected is not None and begin > expected:
                begin = target.seek(0)
                target.truncate()
            if begin != expected:
                http_get(
                    location,
                    target,
                    resume_size=begin,
                    headers=headers,
                    expected_size=expected,
                    displayed_filename=file.name,
                )
            return
        except Exception:
            if target.seek(0, os.SEEK_END) <= begin:
                raise


def is_content(target: BinaryIO, file: HubFile) -> bool:
    """By the hub's hash: SHA-256 of large files, git's of small ones."""
    if not file.etag:
        return True
    size = target.seek(0, os.SEEK_END)
    known = hashlib.sha256() if len(file.etag) == 64 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    target.seek(0)
    while piece := target.read(PIECE):
        known.update(piece)
    return known.hexdigest() == file.etag


def note_hash(file: HubFile, folder: Path) -> None:
    """As `hf download --local-dir` notes it: revision, hash, time. `weights.verify` reads that."""
    if not file.etag:
        return
    note = folder / DOWNLOADS / f"{file.name}.metadata"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(f"{file.revision}\n{file.etag}\n{time.time()}\n", encoding="utf-8")


@contextlib.contextmanager
def in_sentences(repository: str, name: str = "", folder: Path | None = None) -> Iterator[None]:
    """Whatever goes wrong with the hub, as an error for a person."""
    from huggingface_hub import constants, errors

    what = f"{name} of {repository}" if name else repository
    try:
        yield
    except RelayError:
        raise
    except errors.GatedRepoError as error:
        raise WeightsError(
            f"{repository} asks for its licence to be accepted before anything is served.",
            advice=f"Accept it at {constants.ENDPOINT}/{repository} with your account, then say who you are: "
            "`hf auth login`, or a token in HF_TOKEN. Then run the same command again.",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise WeightsError(
            f"The hub ({constants.ENDPOINT}) shows no repository {repository} to you.",
            advice="If your token in HF_TOKEN or of `hf auth login` is old, renew it; if HF_ENDPOINT names a mirror, "
            "it may not have this repository.",
        ) from error
    except errors.EntryNotFoundError as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise unreachable(what, error) from error
        raise WeightsError(f"{repository} has no file {name} (any more).") from error
    except errors.OfflineModeIsEnabled as error:
        raise WeightsError(
            "HF_HUB_OFFLINE is set, so nothing is fetched.", advice="Unset it, or copy the files into place yourself."
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DoesNotFit(
                f"The disk of {folder} is full.", advice="Free some space and run the same command again: it goes on."
            ) from error
        if isinstance(error, PermissionError) and folder is not None:
            raise WeightsError(f"{folder} may not be written to: {error.strerror}.") from error
        raise unreachable(what, error) from error
    except Exception as error:  # of the HTTP library, which is another one from version to version
        raise unreachable(what, error) from error


def unreachable(what: str, error: BaseException) -> WeightsError:
    cause = error.__cause__ or error
    words = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
    words = re.sub(r"^\[Errno -?\d+\] ", "", words)
    return WeightsError(
        f"{what} could not be fetched: {plain(words, 300).rstrip('.')}.",
        advice="Check the network (and HF_ENDPOINT, HTTPS_PROXY where they are set), then run the same command again: "
        "it goes on where this one stopped.",
    )
