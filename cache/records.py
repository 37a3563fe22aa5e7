"""Small JSON files that cannot be trusted: of bounded size, an object, and with nothing that JSON lacks.

Records that decide what is made are sealed: they carry the SHA-256 of the rest of them, so that a flipped bit that
leaves good JSON (another seed, another path) is found out too.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cache.durable import reason
from weights.errors import ArtifactError, RelayError

SEAL = "seal"
_AGAIN = "Give the same command again: what was finished is used again."
LIMIT = 2 << 20
"""Bytes. A recipe or a state is a few kB; whatever is larger is refused before it is read."""


def read_json(path: Path, *, what: str, limit: int = LIMIT, error: type[RelayError] = ArtifactError) -> dict[str, Any]:
    """The object in the file. `what` names it in the message; every failure is an `error`."""
    text = _read_bounded(path, what, limit, error)
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as cause:
        raise error(f"The {what} {path} is nested too deeply.") from cause
    except ValueError as cause:  # no UTF-8, no JSON, NaN, an integer of thousands of digits
        raise error(f"The {what} {path} is damaged: {cause}.") from cause
    if not isinstance(value, dict):
        raise error(f"The {what} {path} is damaged: it holds no JSON object.")
    return value


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """The record with its seal. ValueError for a number that JSON does not have."""
    return {**value, SEAL: _seal(value)}


def unsealed(
    value: Mapping[str, Any], path: Path, *, what: str, error: type[RelayError] = ArtifactError
) -> dict[str, Any]:
    """The record without its seal; an `error` when that is not the right one."""
    rest = {name: entry for name, entry in value.items() if name != SEAL}
    if value.get(SEAL) != _seal(rest):
        raise error(f"The {what} {path} is damaged: what it says is not what was written.", advice=_AGAIN)
    return rest


def _seal(value: Mapping[str, Any]) -> str:
    # Not the canonical JSON of keys: that refuses text that is no Unicode, and a path may be none.
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _read_bounded(path: Path, what: str, limit: int, error: type[RelayError]) -> bytes:
    try:
        # Without O_NONBLOCK a named pipe would hang here.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise error(f"The {what} {path} is not a regular file.")
            text = file.read(limit + 1) if status.st_size <= limit else b""
    except (OSError, ValueError) as cause:  # ValueError: a path with a null character
        words = reason(cause) if isinstance(cause, OSError) else str(cause)
        raise error(f"The {what} {path} cannot be read: {words}.") from cause
    if max(len(text), status.st_size) > limit:
        raise error(f"The {what} {path} is larger than {limit:,} bytes, so it is none.")
    return text


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large for a number")
    return value


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
