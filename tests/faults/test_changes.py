"""What changes under a run: its weights, its terminal, the machine's sleep, the clock."""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import weights
from tests.faults.conftest import COMMAND, Reference
from tests.faults.meddling import film_rewritten
from tests.faults.relay import ROOT, Ended, Place, wait_for_a_stop
from tests.workers.video.films import drawn, write

UPSCALE = ("upscale-temporal", "film.mp4", "--model", "tiny", "--output", "smooth.mp4", "--json")
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


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ("inspect.looked", "changed while it was looked at"),
        ("encode.event.step", "changed while the run was under way"),
        ("join.event.step", "changed while the run was under way"),
    ],
    ids=["looked", "encode", "join"],
)
def test_a_video_that_changes_under_its_upscaling(
    tmp_path: Path, upscaled: Path, disturbed: Disturbed, point: str, said: str
) -> None:
    place = Place(tmp_path / "place").make(upscaled if point.startswith("join") else None)
    write(place.videos / "film.mp4", drawn(9, 32, 32), sound="aac")
    before = place.finished_keys()
    ended = disturbed(place, UPSCALE, point, lambda: film_rewritten(place))
    assert ended.code == 2, (ended.out, ended.err)
    assert f"film.mp4 {said}" in ended.err
    assert place.finished_keys() == before, "nothing that was made of the mixture is kept"
    assert not place.litter()


@pytest.fixture(scope="module")
def upscaled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which that video has only to be joined."""
    place = Place(tmp_path_factory.mktemp("upscaled")).make()
    write(place.videos / "film.mp4", drawn(9, 32, 32), sound="aac")
    assert place.run(*UPSCALE, LTX_RELAY_FAILPOINTS="join.event.started=kill").code == 7
    return place.home


def wait_for_a_request(stopped: int) -> None:
    """Until the stopped worker has been asked to end, however busy the machine is; else it might be done before."""
    status = Path(f"/proc/{stopped}/status")
    if not status.exists():  # not Linux
        time.sleep(0.5)
        return
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        pending = re.search(r"^ShdPnd:\s*([0-9a-f]+)", status.read_text(), re.MULTILINE)
        if pending and int(pending[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.01)
    raise AssertionError("the worker was never asked to end")


def test_asked_to_end(place: Place, reference: Reference) -> None:
    process = place.start(COMMAND, {"LTX_RELAY_FAILPOINTS": "stage1.step.computed:2=stop"})
    worker = wait_for_a_stop(process)
    process.send_signal(signal.SIGTERM)
    wait_for_a_request(worker)
    os.kill(worker, signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
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


def test_ctrl_c_twice_kills(place: Place, reference: Reference) -> None:
    process = place.start(COMMAND, {"LTX_RELAY_FAILPOINTS": "stage1.step.computed:2=stop"})
    wait_for_a_stop(process)  # and it stays so: it neither finishes its step nor hears of anything
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)  # two signals at once would be one press
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.strip().splitlines()[-1].startswith("ltx-relay resume ")
    assert not place.wait_for_silence(2)
    again = place.run("resume", "--json")
    assert again.code == 0, again.err
    assert [event["index"] for event in again.of("step") if event["stage"] == "stage1"] == [2, 3]
    assert place.made() == reference.videos


def test_the_terminal_is_closed(place: Place, reference: Reference) -> None:
    """In the middle of a step the program hears SIGHUP, and whatever it prints from then on is an error."""
    screen, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "orchestrator", *(word for word in COMMAND if word != "--json")],
        cwd=place.videos,
        env=place.environment(LTX_RELAY_FAILPOINTS="stage1.step.computed:2=stop", TERM="xterm"),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    looking = threading.Event()
    looking.set()

    def look() -> None:
        while looking.is_set():
            if select.select([screen], [], [], 0.05)[0]:
                os.read(screen, 1 << 16)

    reader = threading.Thread(target=look)
    reader.start()
    worker = wait_for_a_stop(process)
    looking.clear()
    reader.join()
    os.close(screen)
    wait_for_a_request(worker)
    os.kill(worker, signal.SIGCONT)
    assert process.wait(timeout=60) == 129
    assert not place.wait_for_silence(2)
    again = place.run("resume", "--json")
    assert again.code == 0, again.err
    assert [event["index"] for event in again.of("step") if event["stage"] == "stage1"] == [3]
    assert place.made() == reference.videos


def test_the_clock_jumps(place: Place, reference: Reference) -> None:
    jumping = os.pathsep.join([str(ROOT / "tests" / "faults" / "jumping_clock"), str(ROOT)])
    killed = place.run(*COMMAND, PYTHONPATH=jumping, LTX_RELAY_FAILPOINTS="stage2.step.saved:2=kill")
    assert killed.code == 7, killed.err
    again = place.run("resume", "--json", PYTHONPATH=jumping)
    assert again.code == 0, again.err
    assert [event["index"] for event in again.of("step") if event["stage"] == "stage2"] == [3]
    assert all(event["seconds"] < 60 for event in (*again.of("step"), *again.of("stage_done")))
    assert place.made() == reference.videos
    assert not place.litter()
