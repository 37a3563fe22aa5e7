"""`weights download`: what has to be fetched, whether there is room for it, and the fetching, file by file.

missing = survey_missing(...)     which official files are not here (no network)
order = ask_hub(missing, ...)     their exact sizes, and that this user may have them
check_room(order, folder)         DoesNotFit (4)
fetch(order, ...)                 one after the other; each is looked at when it is there
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.durable import size_text
from weights import hub
from weights.catalogue import CHECKPOINT, GEMMA, LORA, WeightsFile, check_tokenizer, identify
from weights.errors import DoesNotFit, RelayError, UsageError, WeightsError
from weights.header_json import no_access
from weights.resolve_search import survey
from weights.wanted import Wanted, damaged, present, wanted

MARGIN = 200_000_000
"""Left free beside the files: a full disk is of use to nobody."""
KINDS = {"dev": CHECKPOINT, "distilled": CHECKPOINT, "lora": LORA}


@dataclass(frozen=True)
class Missing:
    """`here`: role -> what serves in it already. `files`: what does not."""

    here: dict[str, WeightsFile]
    files: tuple[Wanted, ...]


@dataclass(frozen=True)
class Piece:
    """One file to fetch. place: its folder. again: a damaged one lies there. done: bytes fetched by an earlier try."""

    wanted: Wanted
    file: hub.HubFile
    place: Path
    again: bool
    done: int

    @property
    def left(self) -> int:
        return max(0, (self.file.bytes or 0) - self.done)


def survey_missing(version: str, roles: list[str], folders: list[Path]) -> Missing:
    """WeightsError where a folder cannot be looked into."""
    try:
        shelf = survey(folders, version)
        here = {role: found for role in roles if (found := present(shelf, version, role)) is not None}
    except OSError as error:
        raise WeightsError(no_access(Path(str(error.filename)), error)) from error
    absent = [role for role in roles if role not in here]
    if "distilled" in absent and present(shelf, version, "dev") is not None:
        absent[absent.index("distilled")] = "lora"  # 8 GB on what is there, not 43 GB beside it
    return Missing(here, tuple(wanted(version, absent)))


def ask_hub(missing: Missing, folder: Path) -> list[Piece]:
    """The files, the text encoder's one by one; WeightsError where one is not served, or not to this user."""
    hub.check_library()
    order: list[Piece] = []
    known: dict[str, Any] = {}
    shelf = survey([folder])
    for one in missing.files:
        if one.repository not in known:
            known[one.repository] = hub.repository_files(one.repository)
        files, place = known[one.repository], folder
        if one.role == GEMMA:
            place, chosen = folder / one.name, hub.text_encoder_files(files)
            if not any(file.name.endswith(".safetensors") for file in chosen):
                raise WeightsError(f"{one.repository} holds no weights.")
        else:
            if one.name not in files:
                raise WeightsError(f"{one.repository} has no file {one.name} (any more).")
            chosen = [files[one.name]]
        hub.check_access(chosen[0])
        for file in chosen:
            size = size_of(place / file.name)
            if size is not None and one.role != GEMMA and not damaged(shelf, place / file.name):
                raise UsageError(
                    f"{place / file.name} is a file of another kind than its name says; it is not replaced.",
                    advice="Move it away, or name another folder with --to FOLDER.",
                )
            if size is not None and one.role == GEMMA and size == file.bytes:
                continue  # this shard is there; others are not
            order.append(Piece(one, file, place, size is not None, hub.fetched_bytes(place, file)))
    return order


def size_of(path: Path) -> int | None:
    """Bytes of the file that is there; None where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def check_room(order: list[Piece], folder: Path) -> None:
    """DoesNotFit (4) where the disk has less room than what is left to fetch."""
    needed = sum(piece.left for piece in order) + MARGIN
    status = os.statvfs(next(path for path in (folder, *folder.parents) if path.exists()))
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise DoesNotFit(
            f"The files need {size_text(needed)} on the disk of {folder}, which has {size_text(free)} free: "
            f"{size_text(needed - free)} too little.",
            advice="Free some space, or name a folder on another disk with --to FOLDER.",
        )


def fetch(order: list[Piece], *, progress: bool, on_begin: Callable[[Piece], None]) -> Iterator[tuple[Piece, Path]]:
    """Each piece when it is there, and what it should be. Raises WeightsError, DoesNotFit."""
    for piece in order:
        on_begin(piece)
        try:
            piece.place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WeightsError(f"{piece.place} cannot be made: {error.strerror}.") from error
        path = hub.fetch_file(piece.file, piece.place, progress=progress)
        if piece.wanted.role != GEMMA:
            check_kind(path, piece.wanted)
        yield piece, path
    for place in dict.fromkeys(piece.place for piece in order if piece.wanted.role == GEMMA):
        identify(place)
        check_tokenizer(place)


def check_kind(path: Path, what: Wanted) -> None:
    """WeightsError when the hub (or a mirror) served something else under this name."""
    try:
        found = identify(path)
    except RelayError as error:
        raise WeightsError(f"What was served as {what.name} is not usable. {error.message}") from error
    if found.kind != KINDS.get(what.role, what.role):
        raise WeightsError(f"What was served as {what.name} is a {found.kind}.")
