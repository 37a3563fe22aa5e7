"""How commands end: what stands on which stream, the exit code, the command that resumes. The runs are played."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator import cli
from weights.errors import (
    DoesNotFit,
    GpuFailure,
    Interrupted,
    OutOfMemory,
    RelayError,
    UsageError,
    WeightsError,
    WorkerFailed,
)

ROOT = Path(__file__).parents[2]
RECORDED = [json.loads(line) for line in (Path(__file__).parent / "data/max-run.jsonl").read_text().splitlines()]
VIDEO = "/home/ada/a-red-ball-bouncing-on-green-grass-0.mp4"
RUN = RECORDED[0]["run"]


@dataclass
class Played:
    """Stands for `orchestrator.run`: sends recorded events, then ends as it is told to."""

    events: list[dict[str, Any]] = field(default_factory=lambda: list(RECORDED))
    error: BaseException | None = None
    announce: bool = True
    resumed: list[str] = field(default_factory=list)

    def generate(
        self, prepared: Any, *, on_event: Callable[[dict[str, Any]], None], interrupts: Any, retry: bool = True
    ) -> None:
        for event in self.events:
            on_event(event)
        if isinstance(self.error, RelayError) and self.announce:
            resume = f"ltx-relay resume {RUN}" if self.error.exit_code >= 4 else None
            told = {"exit_code": self.error.exit_code, "message": self.error.message, "advice": self.error.advice}
            on_event({"event": "error", "time": 0.0, "run": RUN, "resume": resume, **told})
        if self.error is not None:
            raise self.error

    def resume(self, run: Any, *, home: Any, overwrite: bool = False, **rest: Any) -> None:
        self.resumed.append(run.id)
        self.generate(None, **rest)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Played:
    monkeypatch.setenv("LTX_RELAY_HOME", str(tmp_path / "home"))
    fake = Played()
    monkeypatch.setattr("orchestrator.prepare.prepare", lambda settings, **rest: SimpleNamespace(notes=()))
    monkeypatch.setattr("orchestrator.run.generate", fake.generate)
    monkeypatch.setattr("orchestrator.run.resume", fake.resume)
    return fake


Capture = pytest.CaptureFixture[str]


def test_the_path_is_all_of_standard_output(played: Played, capsys: Capture) -> None:
    assert cli.main(["generate", "a fox"]) == 0
    out, err = capsys.readouterr()
    assert out == VIDEO + "\n"
    assert "stage 1: done" in err


def test_quiet_says_the_path_and_nothing_else(played: Played, capsys: Capture) -> None:
    assert cli.main(["generate", "a fox", "--quiet"]) == 0
    assert capsys.readouterr() == (VIDEO + "\n", "")


def test_json_is_events_on_standard_output_and_nothing_on_standard_error(played: Played, capsys: Capture) -> None:
    assert cli.main(["generate", "a fox", "--json"]) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == RECORDED
    assert err == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DoesNotFit("The disk is full.", advice="Make room."), 4),
        (OutOfMemory("The stage2 worker ran out of memory.", advice="Use --frames 49."), 5),
        (GpuFailure("The GPU's watchdog stopped it.", advice=""), 6),
        (WorkerFailed("The worker died.", advice="Its log says why."), 7),
        (Interrupted("Stopped."), 130),
        (Interrupted("Stopped.", exit_code=143), 143),
    ],
)
@pytest.mark.parametrize("announce", [True, False])
def test_a_run_that_fails_says_why_and_last_how_to_resume(
    played: Played, capsys: Capture, error: RelayError, code: int, announce: bool
) -> None:
    played.events, played.error, played.announce = RECORDED[:80], error, announce
    assert cli.main(["generate", "a fox", "--quiet"]) == code
    out, err = capsys.readouterr()
    lines = err.splitlines()
    label = "Error" if code < 128 else "Stopped"
    assert lines[0] == f"{label}: {error.message}"
    assert lines[1:-1] == ([error.advice] if error.advice else [])
    assert lines[-1] == f"ltx-relay resume {RUN}"
    assert out == ""


def test_wrong_weights_in_the_middle_of_a_run_are_not_resumed(played: Played, capsys: Capture) -> None:
    played.events, played.error = RECORDED[:20], WeightsError("The file changed.", advice="Run the same again.")
    assert cli.main(["generate", "a fox", "-q"]) == 3
    assert capsys.readouterr().err == "Error: The file changed.\nRun the same again.\n"


def test_videos_that_were_finished_before_the_error_are_printed(played: Played, capsys: Capture) -> None:
    played.events, played.error = RECORDED[:-1], WorkerFailed("The second one failed.")
    assert cli.main(["generate", "a fox", "-q"]) == 7
    assert capsys.readouterr().out == VIDEO + "\n"


def test_an_error_is_one_json_event_whether_the_run_told_it_or_not(played: Played, capsys: Capture) -> None:
    played.events, played.error = [], WorkerFailed("It died.", advice="Look.")
    for announce in (True, False):
        played.announce = announce
        assert cli.main(["generate", "a fox", "--json"]) == 7
        out, err = capsys.readouterr()
        [event] = [json.loads(line) for line in out.splitlines()]
        assert (event["event"], event["exit_code"], event["message"], event["advice"]) == (
            "error",
            7,
            "It died.",
            "Look.",
        )
        assert err.startswith("Error: It died.\n")


def test_an_error_before_the_run_is_a_json_event_too(capsys: Capture) -> None:
    assert cli.main(["generate", "a fox", "--json", "--heigth", "4"]) == 2
    [event] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (event["event"], event["exit_code"], event["run"], event["resume"]) == ("error", 2, None, None)
    assert "--heigth" in event["message"]


def test_a_prompt_that_looks_like_a_flag_is_none(played: Played, capsys: Capture) -> None:
    played.events, played.error, played.announce = [], WorkerFailed("It died."), False
    assert cli.main(["generate", "--quiet", "--", "--json"]) == 7
    assert capsys.readouterr() == ("", "Error: It died.\n")


def test_what_nobody_foresaw_is_a_sentence_and_a_traceback_only_with_debug(played: Played, capsys: Capture) -> None:
    played.events, played.error = RECORDED[:30], ZeroDivisionError("oh")
    assert cli.main(["generate", "a fox", "-q"]) == 7
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "ZeroDivisionError: oh" in lines[0]
    assert "--debug" in lines[1]
    assert lines[2] == f"ltx-relay resume {RUN}"
    assert cli.main(["generate", "a fox", "-q", "--debug"]) == 7
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_ctrl_c_outside_of_any_worker(monkeypatch: pytest.MonkeyPatch, played: Played, capsys: Capture) -> None:
    def interrupted(*arguments: Any, **rest: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.prepare.prepare", interrupted)
    assert cli.main(["generate", "a fox"]) == 130
    assert capsys.readouterr().err == "Stopped: Interrupted.\n"


def test_a_message_is_one_line_whatever_is_in_it(played: Played, capsys: Capture) -> None:
    played.events, played.error = [], UsageError("no\nsuch \x1b[2Jfile")
    assert cli.main(["generate", "a fox", "-q"]) == 2
    assert capsys.readouterr().err == "Error: no such ?[2Jfile\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "no prompt"),
        ([""], "prompt is empty"),
        (["a", "red", "fox"], "quotes"),
        (["a", "--heigth", "4"], "No such option: --heigth"),
        (["a", "--height"], "requires an argument"),
        (["a", "--height", "tall"], "'--height'"),
        (["a", "--height", "481"], "480 and 512"),
        (["a", "--frames", "96"], "89 and 97"),
        (["a", "--preset", "best"], "draft, dev, two-stage, max"),
        (["a", "--cfg", "nan"], "--cfg nan is out of range"),
        (["a", "--fps", "fast"], "--fps 'fast'"),
        (["a", "--size", "big"], "WIDTHxHEIGHT"),
        (["a", "--seed", "1,1"], "same seed twice"),
        (["a", "--seed", "-1"], "--seed -1"),
        (["a", "--stg-blocks", "x"], "--stg-blocks 'x'"),
        (["a", "--json", "--quiet"], "--json and --quiet"),
        (["a", "--generate-audio"], "use --pipeline text-to-video"),
        (["a", "--recipe", "/no/such"], "--recipe /no/such cannot be read"),
        (["a", "--output", ""], "--output '' names no file"),
        (["a", "--output", "/no/such/x.mp4"], "/no/such"),
        (["a", "--codec", "prores", "--output", "x.mp4"], ".mov"),
        (["a", "--home", ""], "--home"),
    ],
)
@pytest.mark.parametrize("command", ["generate", "plan"])
def test_wrong_usage_is_a_sentence_and_2(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture, command: str, arguments: list[str], sentence: str
) -> None:
    monkeypatch.setenv("LTX_RELAY_HOME", str(tmp_path / "home"))
    assert cli.main([command, "--model", "tiny", *arguments]) == 2
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert lines[0].startswith("Error: ")
    assert sentence in lines[0]
    assert len(lines) <= 2
    assert (out == "") == ("--json" not in arguments)
    assert not list((tmp_path / "home").glob("runs/*")), "nothing was started"


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["runs", "frobnicate"], ["runs", "show"], ["--frob"], ["resume", "a", "b"]]
)
def test_wrong_commands(arguments: list[str], capsys: Capture) -> None:
    assert cli.main(arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_resume_takes_the_last_run_that_is_not_done(
    played: Played, make_run: Callable[..., str], capsys: Capture
) -> None:
    failed = make_run("failed")
    interrupted = make_run("interrupted")
    done = make_run("done")
    assert cli.main(["resume", "-q"]) == 0
    assert cli.main(["resume", failed, "-q"]) == 0
    assert cli.main(["resume", done, "-q"]) == 0
    assert played.resumed == [interrupted, failed, done]
    assert capsys.readouterr().out == 3 * (VIDEO + "\n")


def test_a_run_that_is_under_way_is_not_resumed(played: Played, make_run: Callable[..., str], capsys: Capture) -> None:
    running = make_run("running")  # owned by this very process
    assert cli.main(["resume", running]) == 2
    assert cli.main(["resume"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "still under way" in first
    assert "no run to resume" in second
    assert not played.resumed


def run_program(arguments: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """`ltx-relay` in a shell: `$R` is the program."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LTX_RELAY_HOME": str(tmp_path / "home"), **environment}
    env["R"] = f"{sys.executable} -m orchestrator.cli"
    return subprocess.run(["bash", "-c", arguments], capture_output=True, env=env, cwd=tmp_path, timeout=60)


def test_help_loads_nothing_that_computes(tmp_path: Path) -> None:
    program = (
        "import sys; from orchestrator.cli import main; assert main(['generate', '--help']) == 0; "
        "print(sorted({name.partition('.')[0] for name in sys.modules} "
        "& {'mlx', 'numpy', 'av', 'psutil', 'safetensors', 'tokenizers', 'transformers'}), file=sys.stderr)"
    )
    done = run_program(f'{sys.executable} -c "{program}"', tmp_path)
    assert (done.returncode, done.stderr) == (0, b"[]\n")


@pytest.mark.parametrize("arguments", ["generate --help", "--version"])
def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path, arguments: str) -> None:
    done = run_program(f"$R {arguments} | {{ exec <&-; sleep 1; }}; echo ${{PIPESTATUS[0]}}", tmp_path)
    assert (done.stdout, done.stderr) == (b"0\n", b"")


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing_but_what_is_seen(tmp_path: Path, closed: str) -> None:
    assert run_program(f"$R --version {closed}", tmp_path).returncode == 0
    assert run_program(f"$R generate '' {closed}", tmp_path).returncode == 2


def test_no_file_takes_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    program = "from orchestrator.cli import main; main(['--version']); print(open('x', 'w').fileno() > 2)"
    done = run_program(f'{sys.executable} -c "{program}" <&- 2>&-', tmp_path)
    assert done.stdout.splitlines()[-1] == b"True"


def test_a_locale_without_utf8(tmp_path: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = run_program("$R generate --help && $R generate 'émigré' --preset 日本", tmp_path, **plain)
    assert done.returncode == 2
    assert done.stdout.isascii()
    assert b"--guidance-rescale" in done.stdout
    assert b"does not exist; choose one of" in done.stderr
    assert b"Traceback" not in done.stderr
