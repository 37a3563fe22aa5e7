"""A sample of the fuzzing; `python -m tests.faults.fuzz` does all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.fuzz import fuzz
from tests.faults.fuzz_readers import readers

SLOW = {"network": 100, "upscaler": 100, "index": 200, "tokenizer": 60}
ONE_END = ("events", "diary", "artifact", "upscaler", "record", "history", "memo", "lock")
"""Nothing is raised for bad ones; or hardly ever is a changed one accepted."""


@pytest.mark.parametrize("name", sorted(readers()))
def test_only_documented_errors(name: str, tmp_path: Path) -> None:
    found = fuzz(name, SLOW.get(name, 600), seed=7, folder=tmp_path)
    assert not found["broken"], found["examples"]
    assert len(found["ends"]) > 1 or name in ONE_END, "both accepted and refused, or nothing was tried"
