"""A sample of the fuzzing; `python -m tests.faults.fuzz` does all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.fuzz import fuzz, readers


@pytest.mark.parametrize("name", sorted(readers()))
def test_only_documented_errors(name: str, tmp_path: Path) -> None:
    found = fuzz(name, 100 if name == "network" else 600, seed=7, folder=tmp_path)
    assert not found["broken"], found["examples"]
    assert len(found["ends"]) > 1 or name in ("events", "diary", "artifact"), (
        "both accepted and refused, or nothing was tried"
    )
