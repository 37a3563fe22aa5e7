"""Limits of a process's own, read from a real one."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from weights import own_limits as module
from weights.own_limits import OwnLimit, own_limits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of a process's own are read on Linux")
MB = 1 << 20
WAIT = "print(flush=True); input()"
SAY = "from weights.own_limits import near_own_limit as near; print(getattr(near(), 'kind', None))"


@pytest.mark.parametrize(("number", "kind"), [(resource.RLIMIT_DATA, "data"), (resource.RLIMIT_AS, "space")])
def test_a_limit_is_read_with_what_is_used_of_it(number: int, kind: str) -> None:
    command, limit = [sys.executable, "-c", WAIT], 900 * MB + 4096
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(number, (limit, limit)),
    )
    assert process.stdout is not None
    process.stdout.readline()
    (found,) = own_limits(process.pid)
    process.communicate(b"\n")
    assert (found.kind, found.limit) == (kind, limit)
    assert MB < found.size < 400 * MB
    assert own_limits(process.pid) == (), "a process that is gone has none"
    assert found.words.startswith("900 MB of ")


@pytest.mark.parametrize(("size", "said"), [(250 * MB, "data"), (8000 * MB, None)])
def test_a_process_is_near_where_its_libraries_could_ask_for_too_much(size: int, said: str | None) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", SAY],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[1])},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (size, size)),
    )
    assert answer.stdout.strip() == str(said), answer.stderr


def test_nothing_is_near_a_limit_that_is_far_away() -> None:
    assert OwnLimit("data", 6000 * MB, 6500 * MB).near
    assert not OwnLimit("data", 5000 * MB, 6500 * MB).near
