"""What changes under a run: its weights, the terminal, the machine's sleep."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import weights
from tests.faults.conftest import COMMAND, Reference, wait_for_a_stop
from tests.faults.relay import Ended, Place

TINY = Path(weights.__path__[0]) / "tiny"
DEV = "ltx-2-tiny-dev.safetensors"
Disturbed = Callable[..., Ended]


def other(content: bytes) -> bytes:
    """The same file with the lowest bit of one weight in sixteen changed."""
    changed = bytearray(content)
    for at in range(len(changed) // 2 & ~1, len(changed), 32):
        changed[at] ^= 1
    return bytes(changed)


def with_own_weights(place: Place) -> tuple[Path, tuple[str, ...]]:
    model = place.folder / "model"
    shutil.copytree(TINY, model)
    command = tuple(str(model) if word == "tiny" else word for word in COMMAND)
    return model / DEV, command


@pytest.mark.parametrize(
    ("point", "in_place", "kept"),
    [("run.event.stage_done:2", False, "stage1"), ("stage2.step.saved:2", True, "stage1")],
)
def test_weights_that_change_under_a_run(
    place: Place, tmp_path: Path, disturbed: Disturbed, point: str, in_place: bool, kept: str
) -> None:
    path, command = with_own_weights(place)
    content = other(path.read_bytes())

    def exchange() -> None:
        if in_place:
            path.write_bytes(content)
        else:
            (path.parent / "new").write_bytes(content)
            (path.parent / "new").rename(path)

    ended = disturbed(place, command, point, exchange)
    assert ended.code == 3, (ended.out, ended.err)
    assert f"{DEV} changed while the run was under way" in ended.err
    assert [event["stage"] for event in ended.of("stage_done")] == ["text", kept], "nothing of the mixture is kept"
    assert not place.litter()
    if not in_place:
        return
    again = place.run(*command)
    assert again.code == 0, again.err
    fresh = Place(tmp_path / "fresh").make()
    assert fresh.run(*command).code == 0
    assert place.made() == fresh.made(), "as with the new weights from the beginning"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_asked_to_end(place: Place, reference: Reference, number: signal.Signals, code: int) -> None:
    process = place.start(COMMAND, {"LTX_RELAY_FAILPOINTS": "stage1.step.computed:2=stop"})
    worker = wait_for_a_stop(process)
    process.send_signal(number)
    time.sleep(0.2)
    os.kill(worker, signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert err.strip().splitlines()[-1].startswith("ltx-relay resume ")
    assert not place.wait_for_silence(2)
    again = place.run("resume", "--json")
    assert again.code == 0, again.err
    steps = [event["index"] for event in again.of("step") if event["stage"] == "stage1"]
    assert steps == [3], "the step under way was finished and saved"
    assert place.made() == reference.videos


def test_sleep_and_wake(place: Place, reference: Reference, disturbed: Disturbed) -> None:
    """Both processes stand still for a while, as on a machine that sleeps."""
    process = place.start(COMMAND, {"LTX_RELAY_FAILPOINTS": "stage2.step.computed:1=stop"})
    worker = wait_for_a_stop(process)
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.0)
    os.kill(worker, signal.SIGCONT)
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert place.made() == reference.videos
