"""What `doctor` finds of libraries, disks, weights and power."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cache.home import open_home
from orchestrator.display.words import file_size
from orchestrator.doctor import Finding, reinstall
from orchestrator.environment import worker_environment
from orchestrator.power import LOW_PERCENT, Awake, battery_warning, read_battery
from orchestrator.shelf import look, readiness
from weights.errors import RelayError

LIBRARIES = ("numpy", "safetensors", "tokenizers")
LITTLE_DISK, NO_DISK = 20_000_000_000, 1_000_000_000
_SECONDS = 60
_AWAKE_SECONDS = 0.3


# -- libraries -------------------------------------------------------------------------------------------------------


def library_findings() -> Iterator[Finding]:
    """Each is loaded by a process of its own: one that is broken may take its process with it."""
    variables = dict(worker_environment(os.environ).variables)
    with ThreadPoolExecutor(2) as pool:
        loaded = [
            (name, pool.submit(ask, ["-c", f"import {name}; print({name}.__version__)"], variables))
            for name in LIBRARIES
        ]
        video = pool.submit(ask, ["-m", "workers.probe_video"], variables)
        for name, answer in loaded:
            version, trouble = answer.result()
            yield library_finding(name, version, trouble)
        yield from video_findings(*video.result())


def ask(words: list[str], variables: Mapping[str, str]) -> tuple[str, str]:
    """The last line that this Python prints, and what went wrong, in a line; one of them is empty."""
    try:
        answer = subprocess.run(
            [sys.executable, "-P", *words],
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return "", str(error)
    printed = answer.stdout.strip().splitlines()
    if answer.returncode == 0 and printed:
        return printed[-1], ""
    if answer.returncode < 0:
        return "", f"its process was ended by signal {-answer.returncode}"
    return "", (answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"])[-1]


def library_finding(name: str, version: str, trouble: str) -> Finding:
    if trouble:
        return Finding("libraries", "problem", f"{name} does not load: {trouble.rstrip('.')}", reinstall())
    return Finding("libraries", "ok", f"{name} {version}")


def video_findings(answer: str, trouble: str) -> Iterator[Finding]:
    """answer: of `workers.probe_video`."""
    try:
        known: dict[str, Any] = json.loads(answer) if not trouble else {}
        encoders = dict(known.get("codecs", {}))
    except (ValueError, TypeError, AttributeError):
        known, encoders, trouble = {}, {}, "it gave no answer"
    if trouble:
        yield Finding("video", "problem", f"PyAV does not load: {trouble.rstrip('.')}", reinstall())
        return
    there = [f"{name} by {encoder}" for name, encoder in encoders.items() if encoder]
    absent = [name for name, encoder in encoders.items() if not encoder]
    advice = "`pip install --force-reinstall --only-binary :all: av` brings PyAV's own FFmpeg."
    if absent:
        state = "problem" if "h264" in absent else "warning"
        yield Finding("video", state, f"this FFmpeg cannot write {', '.join(absent)}", advice)  # type: ignore[arg-type]
    if there:
        yield Finding("video", "ok", f"PyAV {known.get('av')} writes {', '.join(there)}")


# -- disks -----------------------------------------------------------------------------------------------------------


def disk_findings(home: Path) -> Iterator[Finding]:
    """Whether results can be kept, and videos be put where one is; both are tried."""
    try:
        open_home(home)
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"0")
    except RelayError as error:
        yield Finding("disk", "problem", error.message.rstrip("."), error.advice)
    except OSError as error:
        yield Finding(
            "disk", "problem", f"the home {home} cannot be written to: {error.strerror}", "Set LTX_RELAY_HOME."
        )
    else:
        yield room_finding(f"the home {home}", home, shutil.disk_usage(home).free)
    here = Path.cwd()
    if not os.access(here, os.W_OK):
        yield Finding("disk", "warning", f"no video can be put into {here}", "Give --output with another folder.")


def room_finding(what: str, place: Path, free: int) -> Finding:
    text = f"{what} has {file_size(free)} free"
    advice = "`ltx-relay cache prune --max-size 10GB` removes old results; LTX_RELAY_HOME may name another disk."
    if free < NO_DISK:
        return Finding("disk", "problem", text, advice)
    return Finding("disk", "warning" if free < LITTLE_DISK else "ok", text, advice if free < LITTLE_DISK else "")


# -- weights ---------------------------------------------------------------------------------------------------------


def weights_findings() -> Iterator[Finding]:
    shelf = look([])
    presets = readiness(shelf, None)
    ready = [one.preset for one in presets if not one.trouble]
    for broken in shelf.unusable:
        yield Finding("weights", "warning", broken.error.message.rstrip("."), broken.error.advice)
    if ready:
        yield Finding("weights", "ok", f"there for the presets {', '.join(ready)}; `ltx-relay weights list` says more")
    if "max" not in ready:
        why = next(one.trouble for one in presets if one.preset == "max").rstrip(".")
        advice = "`ltx-relay weights download` fetches it; `--model tiny` needs none."
        yield Finding("weights", "warning", f"the preset max cannot run: {why}", advice)


# -- power -----------------------------------------------------------------------------------------------------------


def power_findings() -> Iterator[Finding]:
    battery = read_battery()
    if warning := battery_warning(lambda: battery):
        yield Finding("power", "warning", warning.rstrip("."))
    elif battery is not None:
        where = "on mains" if battery.power_plugged else f"on battery, more than {LOW_PERCENT}% left"
        yield Finding("power", "ok", where)
    with Awake() as awake:
        awake.begin()
        if awake.holds(_AWAKE_SECONDS):
            yield Finding("power", "ok", "the machine is kept from idle sleep during a run")
        else:
            yield Finding("power", "ok", "nothing keeps this machine awake during a run, if it ever sleeps by itself")
