"""`weights verify`: the content of weights files against the hash that they were served under, or an earlier look.

What was read is noted in the home by the file's path, so that a later look can tell whether it changed where nothing
else says what it should be. The notes are sealed; damaged ones are as good as none.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cache.durable import publish_text
from cache.records import read_json, sealed, unsealed
from weights.errors import RelayError, WeightsError
from weights.header_folder import read_folder
from weights.verify import Content, published, read_content

NOTES = "weights.json"
"""Its name in the home."""
FORMAT = 1


@dataclass(frozen=True)
class Verdict:
    """whole: as it was served, or as it was at an earlier look. noted: nothing to compare with before this look."""

    path: str
    state: Literal["whole", "noted", "damaged"]
    bytes: int
    sha256: str
    why: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def verify(path: Path, notes: Path, *, accept: bool = False) -> Verdict:
    """Reads the whole file; of a folder, which files there must be. What cannot be read is a verdict too.

    accept: what is there now is right, whatever an earlier look said; not what it was served under.
    """
    name = os.path.realpath(path)
    try:
        if path.is_dir():
            size = read_folder(path).file_size
            return Verdict(str(path), "whole", size, "", "every file that its index names is there")
        content = read_content(path)
    except WeightsError as error:
        return Verdict(str(path), "damaged", 0, "", error.message)
    served = published(path)
    if served is not None:
        right = content.has(served)
        why = "as it was served" if right else f"it was served as {served}, and is {content.sha256}"
        return Verdict(str(path), "whole" if right else "damaged", content.bytes, content.sha256, why)
    known = read_notes(notes)
    note = known.get(name)
    if note is not None and not accept:
        date = time.strftime("%Y-%m-%d", time.localtime(note["time"]))
        right = note["sha256"] == content.sha256
        why = f"as on {date}" if right else f"it is not what it was on {date}"
        return Verdict(str(path), "whole" if right else "damaged", content.bytes, content.sha256, why)
    write_notes(notes, {**known, name: noted(content)})
    why = "nothing to compare it with yet"
    return Verdict(str(path), "noted", content.bytes, content.sha256, why)


def noted(content: Content) -> dict[str, Any]:
    return {"sha256": content.sha256, "bytes": content.bytes, "time": time.time()}


def read_notes(path: Path) -> dict[str, Any]:
    """Path of a weights file -> its note."""
    try:
        raw = unsealed(read_json(path, what="notes"), path, what="notes")
    except RelayError:
        return {}
    return dict(raw["files"]) if raw.get("format") == FORMAT else {}


def write_notes(path: Path, files: Mapping[str, Any]) -> None:
    """Raises DoesNotFit, RelayError."""
    publish_text(path, json.dumps(sealed({"format": FORMAT, "files": dict(files)}), indent=1) + "\n")
