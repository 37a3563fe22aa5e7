"""The mutations of `mutate` still fit the program: each text is there, once, and its tests exist."""

from __future__ import annotations

import pytest

from tests.faults.mutate import MUTATIONS, ROOT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_has_its_place(mutation: Mutation) -> None:
    assert (ROOT / mutation.file).read_text().count(mutation.before) == 1
    assert mutation.after != mutation.before
    assert all((ROOT / test.split("::")[0]).exists() for test in mutation.tests)
