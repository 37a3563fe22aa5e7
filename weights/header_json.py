"""JSON from strangers: bounded in size and depth, strict, and printed safely.

Guarantees: reading costs memory in proportion to the stated limits only, and raises nothing but MalformedError (a text)
or WeightsError (a file).
"""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any

from weights.errors import WeightsError

MAX_ENTRIES = 600_000
"""Commas and opening brackets: they bound the number of values, hence the memory that parsing takes."""


class MalformedError(Exception):
    """What is wrong with a text, as the end of a sentence."""


def parse_json(text: str, max_entries: int = MAX_ENTRIES) -> Any:
    """The value; duplicate keys, NaN, unpaired surrogates and deep nesting are MalformedErrors."""
    if text.count(",") + text.count("[") + text.count("{") > max_entries:
        raise MalformedError("it has far too many entries")
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        if "\\u" in text:  # only an escape can make a lone surrogate
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise MalformedError("its JSON is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise MalformedError("a text in it is not Unicode") from error
    except ValueError as error:
        raise MalformedError(f"its JSON cannot be read ({plain(str(error))})") from error
    return value


def read_json(path: Path, max_bytes: int = 20_000_000) -> dict[str, Any]:
    """The JSON object in a small file such as config.json. WeightsError names the file."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise WeightsError(f"{path} is not a regular file.")
        with open(path, "rb") as file:
            raw = file.read(max_bytes + 1)
    except OSError as error:
        raise WeightsError(no_access(path, error)) from error
    if len(raw) > max_bytes:
        raise WeightsError(f"{path} is larger than {max_bytes:,} bytes; this is not the file that it should be.")
    try:
        value = parse_json(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise WeightsError(f"{path} is damaged: it is not UTF-8.", advice="Fetch it again.") from error
    except MalformedError as error:
        raise WeightsError(f"{path} is damaged: {error}.", advice="Fetch it again.") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} is no JSON object.", advice="Fetch it again.")
    return value


def plain(name: str, longest: int = 100) -> str:
    """A text from a file, safe and short enough to print."""
    text = name if name.isprintable() else ascii(name)[1:-1]
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def no_access(path: Path, error: Exception) -> str:
    """The sentence for an OSError (or a ValueError: a null character in the path)."""
    if isinstance(error, FileNotFoundError):
        if os.path.islink(path):
            return f"{path} is a link to a file that does not exist."
        return f"{path} does not exist."
    if isinstance(error, PermissionError):
        return f"{path} may not be read by this user."
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{plain(str(path))} cannot be read: {reason}."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        ((repeated, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise MalformedError(f"{plain(repeated)} is there twice")
    return values


def _no_constant(name: str) -> Any:
    raise MalformedError(f"{name} is no number")
