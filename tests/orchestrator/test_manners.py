"""--on-done and --nice: what is told at the end, and that nothing of it changes how a command ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from orchestrator import cli
from orchestrator.commands.manners import Manners, run_hook
from weights.errors import Interrupted, RelayError, UsageError, WeightsError, WorkerFailed

RUN, VIDEO = "20261126-120000-fox-0001", "/v/a fox.mp4"
TELL = """printf '%s|' "$LTX_RELAY_STATUS" "$LTX_RELAY_EXIT_CODE" "$LTX_RELAY_RUN" "$LTX_RELAY_OUTPUT" > {path}"""


@dataclass
class Played:
    """Stands for `orchestrator.run.generate`: a run of one stage that ends as it is told to."""

    error: BaseException | None = None

    def __call__(self, prepared: Any, *, on_event: Any, interrupts: Any, retry: bool = True) -> None:
        on_event({"event": "run_started", "run": RUN, "stages": [{"name": "text", "items": 1}]})
        on_event({"event": "stage_started", "stage": "text", "run": RUN, "pid": 1})
        if self.error is not None:
            raise self.error
        on_event({"event": "video_done", "run": RUN, "path": VIDEO, "role": "video"})
        on_event({"event": "run_done", "run": RUN, "seconds": 1.0})


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Played:
    monkeypatch.setenv("LTX_RELAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path))  # no program of this machine that would keep it awake
    played = Played()
    monkeypatch.setattr("orchestrator.prepare.prepare", lambda *_, **__: SimpleNamespace())
    monkeypatch.setattr("orchestrator.run.generate", played)
    return played


def told(tmp_path: Path, *flags: str) -> tuple[int, list[str]]:
    """The exit code, and what the hook was told."""
    path = tmp_path / "told"
    code = cli.main(["generate", "a fox", "--on-done", TELL.format(path=path), *flags])
    return code, path.read_text().split("|")[:-1]


def test_a_finished_run_is_told(played: Played, tmp_path: Path) -> None:
    assert told(tmp_path) == (0, ["done", "0", RUN, VIDEO])


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (WorkerFailed("it broke"), 7, "failed"),
        (RelayError("no"), 7, "failed"),
        (Interrupted("stop"), 130, "interrupted"),
        (Interrupted("stop", exit_code=143), 143, "interrupted"),
        (ValueError("a mistake"), 7, "failed"),
    ],
)
def test_a_run_that_ended_early_is_told(
    played: Played, tmp_path: Path, error: BaseException, code: int, status: str
) -> None:
    played.error = error
    assert told(tmp_path) == (code, [status, str(code), RUN, ""])


def test_what_never_began_is_told_too(played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise WeightsError("There are no weights.")

    monkeypatch.setattr("orchestrator.prepare.prepare", refuse)
    assert told(tmp_path) == (3, ["failed", "3", "", ""])


@pytest.mark.parametrize(
    ("command", "words"),
    [("exit 3", "exit status 3"), ("kill -9 $$", "signal 9"), ("no-such-program-at-all", "exit status 127")],
)
def test_a_failing_hook_is_said_and_changes_no_exit_code(
    played: Played, capfd: pytest.CaptureFixture[str], command: str, words: str
) -> None:
    assert cli.main(["generate", "a fox", "--quiet", "--on-done", command]) == 0
    captured = capfd.readouterr()
    assert words in captured.err
    assert captured.out == f"{VIDEO}\n"
    played.error = WorkerFailed("it broke")
    assert cli.main(["generate", "a fox", "--on-done", command]) == 7


def test_what_a_hook_prints_goes_to_standard_error(played: Played, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "a fox", "--json", "--on-done", "echo hello; exit 4"]) == 0
    captured = capfd.readouterr()
    assert "hello" in captured.err
    last = [json.loads(line) for line in captured.out.splitlines()][-1]
    assert (last["event"], "exit status 4" in last["message"]) == ("warning", True)


def test_a_hook_that_hangs_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    for seconds in (0.5, 5, 30):  # on a busy machine half a second may not even start a shell
        words = run_hook(f"sleep 60 & echo $! > {tmp_path}/pid; wait", {}, seconds)
        assert words == f"took longer than {seconds} seconds and was stopped"
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            break
    pid = int((tmp_path / "pid").read_text())
    for _ in range(1500):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.02)
    else:
        raise AssertionError("what the command started is still there")


def test_odd_names_reach_the_hook_as_they_are(tmp_path: Path) -> None:
    path = "/v/\udcff 'fox' $(touch x)\n\u732b.mp4"
    assert run_hook(f'printf %s "$LTX_RELAY_OUTPUT" > {tmp_path}/told', {"LTX_RELAY_OUTPUT": path}) == ""
    assert (tmp_path / "told").read_bytes() == os.fsencode(path)


@pytest.mark.parametrize("flags", [("--nice", "20"), ("--nice", "-1"), ("--on-done", " "), ("--nice", "x")])
def test_what_cannot_be_is_refused(played: Played, flags: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "a fox", *flags]) == 2
    assert flags[0] in capsys.readouterr().err


def test_workers_are_as_nice_as_was_asked() -> None:
    source = (
        "import os, subprocess, sys\n"
        "from orchestrator.commands.manners import Manners\n"
        "with Manners(nice=7):\n"
        "    subprocess.run([sys.executable, '-c', 'import os; print(os.nice(0))'])"
    )
    out = subprocess.run([sys.executable, "-c", source], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert int(out.stdout) == min(19, os.nice(0) + 7)


def test_the_machine_is_kept_awake_and_a_low_battery_said_once(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[str] = []
    monkeypatch.setattr("orchestrator.power.Awake.begin", lambda self: begun.append("begin"))
    monkeypatch.setattr("orchestrator.power.Awake.end", lambda self: begun.append("end"))
    monkeypatch.setattr("orchestrator.power.battery_warning", lambda: "On battery, 9% left.")
    assert cli.main(["generate", "a fox"]) == 0
    assert begun == ["begin", "end"]
    assert capsys.readouterr().err.count("On battery") == 1


def test_manners_are_in_no_setting() -> None:
    """They decide nothing of the video: no recipe and no key can know them."""
    from dataclasses import fields

    from orchestrator.recipe import Recipe
    from orchestrator.settings import Settings

    names = {field.name for kind in (Settings, Recipe) for field in fields(kind)}
    assert not names & {"nice", "on_done"}
    with pytest.raises(UsageError):
        Manners(nice=99)
