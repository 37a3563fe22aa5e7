"""The worker's shell as a real process: events, errors, signals, and its parent's death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from workers.protocol import EVENT_FD_VARIABLE, Item, Job, Limits

FakeStage = Callable[[str], dict[str, str]]


class Worker:
    """A worker that this test started the way the supervisor does."""

    def __init__(self, folder: Path, environment: dict[str, str], *arguments: str, log: str = "log") -> None:
        self.log = folder / log
        ours, theirs = os.pipe()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "workers", *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(theirs,),
                start_new_session=True,
                env={**environment, EVENT_FD_VARIABLE: str(theirs)},
            )
        os.close(theirs)
        self.pipe = os.fdopen(ours, "rb")

    def event(self) -> dict[str, Any]:
        return json.loads(self.pipe.readline())

    def until(self, kind: str) -> dict[str, Any]:
        while True:
            event = self.event()
            if event["event"] == kind:
                return event

    def end(self) -> tuple[int, list[dict[str, Any]]]:
        """Exit status, and the events that were not read yet."""
        events = [json.loads(line) for line in self.pipe]
        return self.process.wait(timeout=30), events


@pytest.fixture
def start(tmp_path: Path, fake_stage: FakeStage) -> Iterator[Callable[..., Worker]]:
    started: list[Worker] = []

    def begin(source: str = "def run(job, context): pass", *, limits: Limits | None = None, job: str = "") -> Worker:
        path = tmp_path / "job.json"
        made = Job("text", (Item("k", "out"),), (), str(tmp_path), limits=limits or Limits())
        path.write_text(job or made.to_json())
        started.append(Worker(tmp_path, fake_stage(source), str(path)))
        return started[-1]

    yield begin
    for worker in started:
        if worker.process.poll() is None:
            os.killpg(worker.process.pid, signal.SIGKILL)
            worker.process.wait()
        worker.pipe.close()
        if worker.process.stdin:
            worker.process.stdin.close()


def test_a_stage_reports_from_started_to_done(start: Callable[..., Worker]) -> None:
    code, events = start(
        """
def run(job, context):
    context.item("k", 0, 1)
    context.record_read("/w/a", 10)
    context.record_read("/w/b", 1)
    context.record_read("/w/a", 5)
    context.step("k", 1, 1, 0.25, sigma=1.0)
    context.warn("careful")
"""
    ).end()
    assert code == 0
    assert [event["event"] for event in events] == ["started", "item", "step", "memory", "warning", "done"]
    assert events[0]["stage"] == "text"
    assert events[2]["seconds"] == 0.25
    assert events[2]["sigma"] == 1.0
    done = events[-1]
    assert done["bytes_read"] == {"/w/a": 15, "/w/b": 1}
    assert done["process_peak"] >= done["maxima"]["process"] > 1 << 20
    assert 0 < done["seconds"] < 30


def test_noise_on_stdout_and_stderr_never_reaches_the_events(start: Callable[..., Worker]) -> None:
    worker = start(
        """
import os, sys, threading

def noise():
    for _ in range(300):
        print('{"event": "done"}', flush=True)
        os.write(2, b'\\xff\\x00 half a line')

def run(job, context):
    threads = [threading.Thread(target=noise) for _ in range(3)]
    for thread in threads: thread.start()
    for index in range(300): context.emit("preview", key="k" * 3000, path=str(index))
    for thread in threads: thread.join()
    print("last words, not flushed", end="")
"""
    )
    code, events = worker.end()
    assert code == 0
    assert [event["path"] for event in events if event["event"] == "preview"] == [str(index) for index in range(300)]
    assert sum(event["event"] == "done" for event in events) == 1
    assert worker.log.read_bytes().endswith(b"last words, not flushed") or b"last words" in worker.log.read_bytes()


def test_events_of_several_threads_stay_whole(start: Callable[..., Worker]) -> None:
    code, events = start(
        """
import threading

def run(job, context):
    def talk(name):
        for index in range(200): context.emit("preview", key=name, path="p" * 9000)
    threads = [threading.Thread(target=talk, args=(name,)) for name in "abcd"]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""
    ).end()
    assert code == 0
    assert sum(event["event"] == "preview" for event in events) == 800


@pytest.mark.parametrize(
    ("source", "code", "kind"),
    [
        ("from weights.errors import WeightsError; raise WeightsError('gone', advice='fetch it')", 3, "weights"),
        ("raise ValueError('odd')", 7, "failed"),
        ("import sys; sys.exit(0)", 7, "failed"),
        ("bytearray(1 << 60)", 5, "memory"),
        ("import no_such_module", 7, "failed"),
    ],
)
def test_an_error_is_one_event_an_exit_code_and_a_traceback(
    start: Callable[..., Worker], source: str, code: int, kind: str
) -> None:
    worker = start(f"def run(job, context):\n    {source}\n")
    status, events = worker.end()
    assert status == code
    error = events[-1]
    assert (error["event"], error["kind"], error["exit_code"]) == ("error", kind, code)
    assert "Traceback" not in error["message"]
    assert "Traceback" in worker.log.read_text()
    if code == 3:
        assert (error["message"], error["advice"]) == ("gone", "fetch it")


@pytest.mark.parametrize("job", ["", "{", "[]", '{"format": 99}', '{"format": 1, "stage": "none"}', "\udcff"])
def test_a_job_that_is_none_is_refused(start: Callable[..., Worker], tmp_path: Path, job: str) -> None:
    worker = start(job=" " if not job else job.encode("utf-8", "replace").decode())
    status, events = worker.end()
    assert status == 2
    assert [event["kind"] for event in events] == ["usage"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a file that is always full")
def test_an_error_is_said_although_the_log_cannot_be_written(tmp_path: Path, fake_stage: FakeStage) -> None:
    job = tmp_path / "job.json"
    job.write_text(Job("text", (), (), str(tmp_path)).to_json())
    source = "def run(job, context):\n    raise OSError(28, 'No space left on device', 'out')\n"
    status, events = Worker(tmp_path, fake_stage(source), str(job), log="/dev/full").end()
    assert (status, events[-1]["kind"]) == (4, "disk")


def test_a_job_file_that_is_missing_or_not_named_is_refused(tmp_path: Path, fake_stage: FakeStage) -> None:
    for arguments in ((), (str(tmp_path / "none"),), ("a", "b")):
        worker = Worker(tmp_path, fake_stage(""), *arguments)
        status, events = worker.end()
        assert (status, events[-1]["kind"]) == (2, "usage")


STEPS = """
import time

def run(job, context):
    for index in range(400):
        time.sleep(0.05)
        context.step("k", index + 1, 400, 0.05)
        context.check_stop()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_worker_after_its_step(start: Callable[..., Worker], number: signal.Signals) -> None:
    worker = start(STEPS)
    worker.until("step")
    worker.process.send_signal(number)
    status, events = worker.end()
    assert status == 130
    assert (events[-1]["event"], events[-1]["kind"]) == ("error", "stopped")
    assert sum(event["event"] == "step" for event in events) < 100
    assert number.name in events[-1]["message"]
    assert worker.log.read_text() == ""


def test_a_signal_before_the_stage_begins_keeps_it_from_beginning(start: Callable[..., Worker]) -> None:
    worker = start(
        "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\ndef run(job, context):\n    context.warn('begun')\n"
    )
    status, events = worker.end()
    assert (status, [event["event"] for event in events]) == (130, ["started", "error"])


def test_a_signal_does_not_undo_work_that_goes_on_to_its_end(start: Callable[..., Worker]) -> None:
    worker = start("import time\ndef run(job, context):\n    context.warn('now')\n    time.sleep(0.3)\n")
    worker.until("warning")
    for _ in range(5):
        worker.process.send_signal(signal.SIGTERM)
        time.sleep(0.02)
    status, events = worker.end()
    assert (status, events[-1]["event"]) == (0, "done")


@pytest.mark.parametrize(
    "work",
    [
        "time.sleep(60)",
        "while True: pass",
        "import mlx.core as mx; a = mx.ones((1500, 1500))\n    while True: mx.eval(a @ a)",
    ],
)
def test_the_worker_ends_with_its_parent(start: Callable[..., Worker], work: str) -> None:
    worker = start(f"import time\ndef run(job, context):\n    context.warn('now')\n    {work}\n")
    worker.until("warning")
    assert worker.process.poll() is None
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    assert worker.process.wait(timeout=10) != 0  # the work would go on for a minute, or for ever


def test_what_the_worker_started_ends_with_it_too(start: Callable[..., Worker]) -> None:
    worker = start(
        "import subprocess, time\n"
        "def run(job, context):\n"
        "    child = subprocess.Popen(['sleep', '60'])\n"
        "    context.warn(str(child.pid))\n"
        "    time.sleep(60)\n"
    )
    child = int(worker.until("warning")["message"])
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    worker.process.wait(timeout=30)
    deadline = time.monotonic() + 10
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    """A process that runs; one that waits for somebody to reap it does not."""
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_child_of_the_worker_does_not_hold_the_event_pipe(start: Callable[..., Worker]) -> None:
    worker = start(
        "import subprocess, os\n"
        "def run(job, context):\n"
        "    child = subprocess.Popen(['sleep', '60'], close_fds=False)\n"
        "    context.warn(str(child.pid))\n"
    )
    child = int(worker.until("warning")["message"])
    try:
        assert worker.pipe.read().endswith(b"}\n")  # ends, although the child lives
        assert _alive(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_reader_that_goes_away_does_not_fail_the_stage(start: Callable[..., Worker], tmp_path: Path) -> None:
    worker = start(
        "import time, pathlib\n"
        "def run(job, context):\n"
        "    time.sleep(0.3)\n"
        "    for index in range(5): context.step('k', index, 5, 0.1)\n"
        f"    pathlib.Path({str(tmp_path / 'finished')!r}).touch()\n"
    )
    worker.event()
    worker.pipe.close()
    assert worker.process.wait(timeout=30) == 0
    assert (tmp_path / "finished").exists()


def test_a_worker_run_by_hand_needs_no_orchestrator(tmp_path: Path, fake_stage: FakeStage) -> None:
    environment = fake_stage("import time\ndef run(job, context):\n    time.sleep(0.2)\n    print('did it')\n")
    environment.pop(EVENT_FD_VARIABLE, None)
    environment.pop("PYTHONUNBUFFERED")  # what was printed is flushed at the end all the same
    job = tmp_path / "job.json"
    job.write_text(Job("text", (), (), str(tmp_path)).to_json())
    answer = subprocess.run(
        [sys.executable, "-P", "-m", "workers", str(job)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (answer.returncode, answer.stdout) == (0, "did it\n")


def test_limits_are_set_before_the_stage_runs(start: Callable[..., Worker]) -> None:
    worker = start(
        "import mlx.core as mx\n"
        "def run(job, context):\n"
        "    context.warn(f'{mx.set_memory_limit(1)} {mx.set_cache_limit(1)}')\n",
        limits=Limits(memory=3 << 30, cache=7 << 20),
    )
    assert worker.until("warning")["message"] == f"{3 << 30} {7 << 20}"


def test_the_shell_imports_neither_mlx_nor_numpy(fake_stage: FakeStage) -> None:
    code = "import sys, workers.__main__; print([name for name in ('mlx', 'numpy', 'psutil') if name in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-P", "-c", code], env=fake_stage(""), capture_output=True, text=True, timeout=60
    )
    assert answer.stdout.strip() == "[]"
