"""Reads a small JSON file that cannot be trusted: of bounded size, an object, and with nothing that JSON lacks."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any

from cache.durable import reason
from weights.errors import ArtifactError, RelayError

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
