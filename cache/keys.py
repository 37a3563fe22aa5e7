"""Canonical JSON, and the keys made of it: equal values always have one form, different values never share it.

What counts as equal: numbers by value, so 5, 5.0 and 5e0 are one parameter value (as they are in JSON and on a command
line), and so are 0.0 and -0.0; true is not 1; a tuple is a list; the order of a mapping's names does not matter.
Strings are compared character by character, without Unicode normalisation, as the tokenizer sees them.
What has no form is refused: NaN and infinities, text that is no Unicode, anything that is not JSON. A Path is refused
on purpose: a key depends on what is in a file (its fingerprint), never on where it lies.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias, Union

from weights.errors import UsageError

Json: TypeAlias = Union[bool, int, float, str, "Sequence[Json]", "Mapping[str, Json]", None]

_DEPTH = 100
_LARGEST = 10**400  # every float is below; Python refuses to print integers of more than 4,300 digits


def canonical_json(value: Json) -> str:
    """The one text of a value: names sorted by code point, no spaces, shortest form of each number.

    Raises UsageError for a value that cannot have one (a NaN may come from a recipe), TypeError for what is no JSON
    (a mistake of ours).
    """
    return json.dumps(_plain(value, _DEPTH), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def make_key(parts: Mapping[str, Json]) -> str:
    """SHA-256 of the canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def _plain(value: Json, depth: int) -> Json:
    """The same value in exact built-in types, integral floats as integers."""
    if depth == 0:
        raise UsageError(f"A value is nested more than {_DEPTH} levels deep.")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if abs(value) >= _LARGEST:
            raise UsageError("A parameter is a whole number of more than 400 digits.")
        return int(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        plain: dict[str, Json] = {}
        for name, entry in value.items():
            if not isinstance(name, str):
                raise TypeError(f"A name in a key must be text, not {name!r}.")
            plain[_text(name)] = _plain(entry, depth - 1)
        return plain
    if isinstance(value, list | tuple):
        return [_plain(entry, depth - 1) for entry in value]
    raise TypeError(f"{value!r} ({type(value).__name__}) cannot be part of a key.")


def _number(value: float) -> int | float:
    if not math.isfinite(value):
        raise UsageError(f"A parameter is {value!r}; it must be a finite number.")
    # Equal numbers, equal text: 5.0 becomes 5. float() strips subclasses such as numpy's, whose repr differs.
    return int(value) if value.is_integer() else float(value)


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"The text {value!r} is not valid Unicode.") from error
    return str.__str__(value)
