"""Which official files a preset needs, which of them are there, and where the others come from.

Memory changes nothing here: blocks that have no room are streamed from the same 16-bit files, to the same bits. The dev
checkpoint with the distilled LoRA serves both stages, which saves the second checkpoint's 43 GB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from weights.catalogue import CHECKPOINT, GEMMA, LORA, SPATIAL, TEMPORAL, WeightsFile, check_tokenizer
from weights.errors import WeightsError
from weights.header_folder import GEMMA_REPOSITORY
from weights.resolve_advice import OFFICIAL, REPOSITORIES
from weights.resolve_search import Shelf
from weights.select import check_text_encoder, select

GEMMA_FOLDER = "gemma-3-12b"
ABOUT_BYTES: Mapping[tuple[str, str], int] = {
    ("2.0", "dev"): 43_300_000_000,
    ("2.0", "distilled"): 43_300_000_000,
    ("2.0", "lora"): 7_600_000_000,
    ("2.0", SPATIAL): 995_765_578,
    ("2.0", TEMPORAL): 261_965_800,
    ("2.3", "dev"): 46_149_345_334,
    ("2.3", "distilled"): 46_149_345_334,
    ("2.3", "lora"): 7_605_507_256,
    ("2.3", SPATIAL): 995_800_000,
    ("2.3", TEMPORAL): 262_000_000,
    ("2.0", GEMMA): 24_400_000_000,
    ("2.3", GEMMA): 24_400_000_000,
}
"""By version and role; what is said where the hub cannot be asked. It knows them exactly."""


@dataclass(frozen=True)
class Wanted:
    """One official file; of the text encoder its folder. role: of `OFFICIAL`, or "gemma". about: bytes, roughly.

    name: of the file in the repository, or of the folder that the repository's files go to.
    """

    role: str
    repository: str
    name: str
    about: int


def roles_for(variant: str | None, two_stage: bool, temporal: bool) -> list[str]:
    """variant: what stage 1 is to be, None being dev. The text encoder comes first: its licence has to be accepted, and
    that is better known before 50 GB are fetched than after."""
    roles = [GEMMA, "distilled" if variant == "distilled" else "dev"]
    if two_stage and variant != "distilled":
        roles.append("lora")
    return roles + [SPATIAL] * two_stage + [TEMPORAL] * temporal


def wanted(version: str, roles: Sequence[str]) -> list[Wanted]:
    return [
        Wanted(
            role,
            GEMMA_REPOSITORY if role == GEMMA else REPOSITORIES[version],
            GEMMA_FOLDER if role == GEMMA else OFFICIAL[version][role],
            ABOUT_BYTES[version, role],
        )
        for role in roles
    ]


def present(shelf: Shelf, version: str, role: str) -> WeightsFile | None:
    """What is there and serves in this role. A distilled checkpoint makes the distilled LoRA unnecessary, and a dev
    checkpoint with that LoRA the distilled one."""
    if role == GEMMA:
        return _text_encoder(shelf, version)
    files = [file for file in shelf.files if not file.tiny and file.version in (None, version)]
    serving: dict[str, list[tuple[str, str | None]]] = {
        "dev": [(CHECKPOINT, "dev")],
        "distilled": [(CHECKPOINT, "distilled")],
        "lora": [(LORA, "distilled"), (CHECKPOINT, "distilled")],
        SPATIAL: [(SPATIAL, None)],
        TEMPORAL: [(TEMPORAL, None)],
    }
    kinds = serving[role]
    if role == "distilled" and any((file.kind, file.variant) == (CHECKPOINT, "dev") for file in files):
        kinds.append((LORA, "distilled"))
    return next((file for kind in kinds for file in files if (file.kind, file.variant) == kind), None)


def _text_encoder(shelf: Shelf, version: str) -> WeightsFile | None:
    """With its tokenizer, and of the checkpoint's width where there is one to compare with."""
    checkpoint = next((file for file in shelf.files if file.kind == CHECKPOINT and file.version == version), None)
    for file in shelf.files:
        if file.kind == GEMMA:
            try:
                check_tokenizer(file.path)
                if checkpoint is not None:
                    check_text_encoder(select(checkpoint.path, "projection"), select(file.path, GEMMA))
                return file
            except WeightsError:
                continue
    return None


def damaged(shelf: Shelf, path: Path) -> bool:
    """Whether something lies there already that was refused."""
    return any(broken.path == path for broken in shelf.unusable)
