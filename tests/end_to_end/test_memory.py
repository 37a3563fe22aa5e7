"""Workers that really run out of memory: told as such, tried again with less, and the video is right.

The limits are the kernel's: a control group kills, a limit of a process's own (`ulimit -d`) makes allocations fail. The
plan is told that there is enough (`--memory`), so that it does not heed them. One thread, because every thread of a
matrix library reserves memory of its own.
"""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.end_to_end.conftest import Program, Result
from tests.end_to_end.deep_model import BLOCK_BYTES, write_deep_model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of a process's memory are Linux's")

PROMPT = "A red ball bouncing on green grass"
BLOCKS = 65
ENOUGH = ("--memory", "8GB", "--json", "--output", "ball.mp4")
DEEP = ("--preset", "dev", "--steps", "2", "--cfg", "1", "--height", "64", "--width", "64", "--frames", "9", *ENOUGH)
LONG = ("--height", "64", "--width", "64", "--frames", "129", "--steps-stage1", "1", "--steps-stage2", "1", *ENOUGH)
"""Whole it is 257 frames at once, and small enough that only time can be cut."""


@dataclass(frozen=True)
class Taken:
    """Bytes that a process had at most: of data as `ulimit -d` counts it, and in memory that no file is behind."""

    data: int = 0
    anonymous: int = 0


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing disturbed, and what the command line ("") and each stage's worker took."""

    program: Program
    arguments: tuple[str, ...]
    taken: dict[str, Taken]

    def group(self, stage: str, less: int) -> int:
        """What a control group must have so that this stage's worker lacks `less`, with the command line beside it."""
        return self.taken[stage].anonymous + self.taken[""].anonymous - less

    def data(self, stage: str, less: int) -> int:
        """The same as a limit of each process's own data."""
        return self.taken[stage].data - less

    @property
    def reserved(self) -> int:
        """Bytes of data that a worker's libraries hold and never touch, as the probe found them."""
        return int(json.loads((self.program.home / "machine.json").read_text())["probe"]["data"])

    def again(self, folder: Path, *without: str) -> Program:
        """A program with this run's results, but for the videos and for the stages named."""
        program = new_program(folder)
        shutil.copytree(self.program.home, program.home, ignore=shutil.ignore_patterns("runs", "locks", "*.mp4"))
        for path in [*program.home.glob("objects/*/*.video.json"), *self.artifacts(program, without)]:
            path.unlink()
        return program

    def artifacts(self, program: Program, stages: tuple[str, ...]) -> list[Path]:
        shown = json.loads(self.program("runs", "show", "last", "--json").out)["stages"]
        paths = [Path(path) for stage in shown if stage["name"] in stages for path in stage["artifacts"]]
        return [program.home / path.relative_to(self.program.home) for path in paths]


def new_program(folder: Path) -> Program:
    program = Program(folder)
    program.environment["LTX_RELAY_THREADS"] = "1"
    return program


def undisturbed(program: Program, *arguments: str) -> Undisturbed:
    process, taken = program.start("generate", PROMPT, *arguments), dict[str, Taken]()
    watching = threading.Thread(target=watch, args=(process, taken))
    watching.start()
    out, err = process.communicate(timeout=300)
    watching.join()
    assert process.returncode == 0, err
    assert not Result(0, out, err).of("retry")
    return Undisturbed(program, arguments, taken)


def watch(process: subprocess.Popen[str], taken: dict[str, Taken]) -> None:
    """Looks at the command line and its workers until it has ended."""
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            seen = psutil.Process(process.pid)
            for one in (seen, *seen.children()):
                look(one, "" if one == seen else None, taken)
        time.sleep(0.005)


def look(one: psutil.Process, stage: str | None, taken: dict[str, Taken]) -> None:
    with contextlib.suppress(psutil.Error, OSError, KeyError, IndexError):  # it may end meanwhile
        stage = Path(one.cmdline()[-1]).stem if stage is None else stage
        status = dict(line.split(":", 1) for line in Path(f"/proc/{one.pid}/status").read_text().splitlines())
        data, anonymous = (int(status[name].split()[0]) * 1024 for name in ("VmData", "RssAnon"))
        most = taken.get(stage, Taken())
        taken[stage] = Taken(max(most.data, data), max(most.anonymous, anonymous))


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """A transformer whose blocks take more than everything else."""
    program = new_program(tmp_path_factory.mktemp("deep"))
    return undisturbed(program, "--model", str(write_deep_model(program.folder / "model", BLOCKS)), *DEEP)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """A decode in one piece that takes more than any other stage."""
    program = new_program(tmp_path_factory.mktemp("long"))
    return undisturbed(program, "--model", "tiny", "--tiles", "0x0", *LONG)


def own_data(size: int) -> Callable[[], object]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    return limit


def held(result: Result, stage: str) -> list[Any]:
    """How many blocks were in memory at each try."""
    return [event["memory"]["resident_blocks"] for event in result.of("stage_started") if event["stage"] == stage]


@pytest.mark.parametrize("limit", ["group", "data"])
def test_a_transformer_that_does_not_fit_is_streamed_and_gives_the_same_video(
    deep: Undisturbed, limit: str, tmp_path: Path, memory_group: Any
) -> None:
    """All blocks are too many, with one block's arrays at a time too; and nothing but memory is short."""
    program, less = deep.again(tmp_path, "stage1"), int(0.75 * BLOCKS * BLOCK_BYTES)
    program.before = (
        memory_group(deep.group("stage1", less)) if limit == "group" else own_data(deep.data("stage1", less))
    )
    result = program("generate", PROMPT, *deep.arguments)
    assert result.code == 0, result.err
    assert [event["stage"] for event in result.of("stage_cached")] == ["text"]
    blocks = held(result, "stage1")
    assert blocks[0] is None
    assert blocks[-1] in (BLOCKS // 2, 0)
    retries = result.of("retry")
    assert len(retries) == len(blocks) - 1
    assert {event["code"] for event in retries} == {5}
    assert all(event["message"].startswith("Stage 1 ran out of memory; trying from its last") for event in retries)
    assert "streamed" in retries[-1]["message"]
    assert (tmp_path / "ball.mp4").read_bytes() == (deep.program.folder / "ball.mp4").read_bytes()
    shown = json.loads(program("runs", "show", "last", "--json").out)
    (stage,) = [stage for stage in shown["stages"] if stage["name"] == "stage1"]
    assert stage["notes"]["memory"]["tries"] == len(blocks)


def psnr(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    return float(10 * np.log10(255**2 / np.mean(np.square(one.astype(np.float64) - other))))


@pytest.mark.parametrize("limit", ["group", "data"])
def test_a_decode_that_does_not_fit_gets_smaller_tiles(
    long: Undisturbed, limit: str, tmp_path: Path, memory_group: Any, read_video: Callable[[Path], Any]
) -> None:
    """First without another try, as the person asked; then the command that it names goes on, and heals."""
    program, less = long.again(tmp_path), int(0.2 * long.taken["decode"].anonymous)
    program.before = (
        memory_group(long.group("decode", less)) if limit == "group" else own_data(long.data("decode", less))
    )
    failed = program("generate", PROMPT, *long.arguments, "--no-retry")
    assert failed.code == 5
    (error,) = failed.of("error")
    assert error["message"].startswith("The decode worker ran out of memory")
    assert ("the kernel killed it" in error["message"]) == (limit == "group")
    assert "smaller size" in error["advice"]
    assert not failed.of("retry")
    assert failed.err.strip().splitlines()[-1] == error["resume"]
    assert not (tmp_path / "ball.mp4").exists()

    result = program(*error["resume"].split()[1:], "--json")
    assert result.code == 0, result.err
    assert [event["stage"] for event in result.of("stage_started")][:2] == ["decode", "decode"], "all else is there"
    first, *_ = result.of("retry")
    assert first["code"] == 5
    assert "decoding again in smaller tiles" in first["message"]
    assert "a key of its own" in first["message"]
    (video,) = result.of("video_done")
    assert not list(long.program.home.glob(f"objects/*/{video['key']}.*")), "other bits have another key"
    pictures = read_video(tmp_path / "ball.mp4")
    assert psnr(pictures.frames, read_video(long.program.folder / "ball.mp4").frames) >= 40
    assert json.loads(pictures.metadata["comment"])["tiles"] != [0, 64, 0, 24]


def test_what_fits_in_no_way_ends_and_says_so(deep: Undisturbed, tmp_path: Path) -> None:
    """Every way of holding the weights is tried once."""
    program = deep.again(tmp_path, "stage1")
    program.before = own_data(deep.reserved + (64 << 20))
    result = program("generate", PROMPT, *deep.arguments)
    assert result.code == 5, result.err
    blocks = held(result, "stage1")
    assert (blocks[0], blocks[-3:]) == (None, [BLOCKS // 2, 0, 0])
    assert [event["tries"] for event in result.of("retry")] == list(range(2, len(blocks) + 1))
    (error,) = result.of("error")
    assert "ran out of memory" in error["message"]
    assert result.err.strip().splitlines()[-1].startswith("ltx-relay resume ")


def test_a_limit_of_its_own_bounds_the_plan(deep: Undisturbed, tmp_path: Path) -> None:
    """Without `--memory`: what does not fit is held otherwise, or refused before anything starts."""
    program = deep.again(tmp_path, "stage1")
    arguments = [*deep.arguments[:2], *DEEP[: -len(ENOUGH)], "--json"]
    program.before = own_data(deep.data("stage1", 0))
    (plan,) = [json.loads(program("plan", PROMPT, *arguments).out)]
    (stage,) = [stage for stage in plan["stages"] if stage["name"] == "stage1"]
    assert 0 < stage["memory"]["resident_blocks"] < BLOCKS
    program.before = own_data(deep.reserved + (20 << 20))
    refused = program("generate", PROMPT, *deep.arguments)
    assert refused.code == 4
    assert f"This process may have {(deep.reserved >> 20) + 20} MB of data (ulimit -d)" in refused.err
    assert not program.runs()


def test_a_limit_below_what_libraries_reserve_is_named(program: Program) -> None:
    """OpenBLAS waits for ever for what it cannot have; a probe and a worker must not."""
    program.before = own_data(100 << 20)
    refused = program("plan", PROMPT, "--model", "tiny")
    assert refused.code in (4, 5)
    assert "100 MB of data (ulimit -d)" in refused.err
