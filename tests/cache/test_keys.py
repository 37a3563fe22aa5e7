"""Keys: equal values share a canonical form, different ones never do, and what has none is refused."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.keys import canonical_json, make_key
from weights.errors import UsageError

NUMBERS = (
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0.0, -0.0, 1.0, 1, 5, 5.0, 0.1, 1e16, 10**16, 2**53, 2**53 + 1, float(2**53), 5e-324, 1e308])
)
TEXTS = st.text() | st.sampled_from(["", "1", "true", "null", '"', "\\", "\u2028", "e\u0301", "\u00e9", "\x00", "\x7f"])
LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)


def meaning(value: Any) -> Any:
    """A value's identity by an independent definition: tagged, numbers exact, mappings without order."""
    if isinstance(value, bool) or value is None:
        return ("constant", value)
    if isinstance(value, int | float):
        return ("number", Fraction(value))
    if isinstance(value, str):
        return ("text", value)
    if isinstance(value, Mapping):
        return ("mapping", frozenset((name, meaning(entry)) for name, entry in value.items()))
    return ("list", tuple(meaning(entry) for entry in value))


def disguised(value: Any, flip: bool) -> Any:
    """An equal value in other clothes: lists as tuples, integers as floats where exact, mappings in reverse order."""
    if isinstance(value, list):
        return tuple(disguised(entry, flip) for entry in value)
    if isinstance(value, dict):
        return {name: disguised(entry, not flip) for name, entry in reversed(value.items())}
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return float(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


@settings(max_examples=500)
@given(VALUES, VALUES)
def test_forms_are_equal_exactly_when_the_values_are(one: Any, other: Any) -> None:
    assert (canonical_json(one) == canonical_json(other)) == (meaning(one) == meaning(other))


@settings(max_examples=300)
@given(VALUES)
def test_equal_values_share_their_form(value: Any) -> None:
    assert canonical_json(disguised(value, True)) == canonical_json(value)


@settings(max_examples=300)
@given(VALUES)
def test_the_form_is_json_of_the_same_value(value: Any) -> None:
    assert meaning(json.loads(canonical_json(value))) == meaning(value)


@given(st.dictionaries(TEXTS, LEAVES, min_size=1, max_size=5), st.data())
def test_a_change_of_one_parameter_changes_the_key(parts: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(parts)))
    changed = {**parts, name: data.draw(LEAVES)}
    assert (make_key(changed) == make_key(parts)) == (meaning(changed) == meaning(parts))


def test_known_forms() -> None:
    value = {"b": [1, 1.5, -0.0, 1e22, None, True], "a": {"é": "\n"}}
    assert canonical_json(value) == '{"a":{"é":"\\n"},"b":[1,1.5,0,10000000000000000000000,null,true]}'
    assert make_key({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_a_key_is_the_same_in_another_process() -> None:
    parts = {"prompt": "ein roter Ball", "cfg": 5.0, "size": [480, 704], "names": {"b": 1, "a": 2}}
    program = f"from cache.keys import make_key; print(make_key({parts!r}), end='')"
    command = [sys.executable, "-c", program]
    for seed in ("1", "2"):
        found = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed})
        assert found.stdout == make_key(parts)


def test_text_is_not_normalised_and_pairs_of_surrogates_are_no_character() -> None:
    assert canonical_json("é") != canonical_json("e\u0301")
    with pytest.raises(UsageError, match="Unicode"):
        canonical_json("\ud83d\ude00")
    with pytest.raises(UsageError, match="Unicode"):
        canonical_json({"\udcff": 1})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 10**400, -(10**4000)])
def test_numbers_without_a_form_are_refused(number: float) -> None:
    with pytest.raises(UsageError, match="parameter"):
        canonical_json({"cfg": [number]})


def test_deep_and_circular_values_are_refused() -> None:
    circular: list[Any] = []
    circular.append(circular)
    with pytest.raises(UsageError, match="nested"):
        canonical_json(circular)


@pytest.mark.parametrize(
    "value", [Path("model.safetensors"), b"bytes", {1, 2}, object(), np.float32(1), {1: "one"}, {None: 1}]
)
def test_what_is_no_json_is_a_mistake_of_ours(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical_json({"value": value})


def test_subclasses_of_numbers_are_numbers() -> None:
    assert canonical_json([np.float64(0.1), np.float64(2)]) == "[0.1,2]"
