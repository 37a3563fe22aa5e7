"""The supervisor with real workers: every way to end, and nothing left behind."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.interrupts import Interrupts
from orchestrator.supervisor import WorkerEnd, run_worker
from weights.errors import Interrupted, WorkerFailed
from workers.protocol import Item, Job, Limits

FakeStage = Callable[[str], dict[str, str]]
Supervise = Callable[..., tuple[WorkerEnd, list[dict[str, Any]]]]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job("text", (Item("k", str(tmp_path / "out")),), (), str(tmp_path))


@pytest.fixture
def supervise(tmp_path: Path, fake_stage: FakeStage, job: Job) -> Iterator[Supervise]:
    """Runs a worker with this source as its stage; gives its end and all events."""

    def run(source: str, on_event: Callable[[dict[str, Any]], None] | None = None, **options: Any) -> Any:
        events: list[dict[str, Any]] = []

        def note(event: dict[str, Any]) -> None:
            events.append(event)
            if on_event is not None:
                on_event(event)

        options = {"interrupts": Interrupts(), "environment": fake_stage(source), "job": job, **options}
        end = run_worker(
            options.pop("job"),
            job_path=tmp_path / "job.json",
            log_path=tmp_path / "log",
            on_event=note,
            **options,
        )
        return end, events

    descriptors = _descriptors()
    yield run
    assert _children() == [], "a zombie or an orphan was left"
    assert _descriptors() == descriptors, "a descriptor was left open"


def _children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def _gone(pid: int, seconds: float = 10) -> bool:
    """Whether a process ends within that time; one that only waits to be reaped counts as ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """Without what comes when time allows."""
    return [event["event"] for event in events if event["event"] not in ("memory", "sample", "heartbeat")]


# The ends


def test_a_normal_end(supervise: Supervise, tmp_path: Path, job: Job) -> None:
    end, events = supervise(
        "def run(job, context):\n"
        "    context.record_read('/w/a', 7)\n"
        "    print('a log line')\n"
        "    for index in range(3): context.step('k', index, 3, 0.1)\n"
    )
    assert (end.code, end.kind, end.message, end.signal) == (0, "done", "", None)
    assert kinds(events) == ["started", "step", "step", "step", "done"]
    assert events[0]["pid"] == end.pid
    assert end.bytes_read == {"/w/a": 7}
    assert end.process_peak > 1 << 20
    assert end.maxima["process"] <= end.process_peak
    assert 0 < end.seconds < 30
    assert end.last_log_lines == ("a log line",)
    assert Job.from_json((tmp_path / "job.json").read_text()) == job


def test_an_error_of_the_stage(supervise: Supervise) -> None:
    end, events = supervise(
        "from weights.errors import WeightsError\n"
        "def run(job, context):\n"
        "    raise WeightsError('The file is gone.', advice='Fetch it.')\n"
    )
    assert (end.code, end.kind, end.message, end.advice) == (3, "weights", "The file is gone.", "Fetch it.")
    assert kinds(events) == ["started", "error"]
    assert "Traceback" in end.last_log_lines[0]


@pytest.mark.parametrize(
    ("source", "code", "number"),
    [
        ("os._exit(9)", 7, None),
        ("os._exit(0)", 7, None),
        ("os.abort()", 7, signal.SIGABRT),
        ("os.kill(os.getpid(), signal.SIGKILL)", 7, signal.SIGKILL),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 7, signal.SIGSEGV),
        ("print('[malloc] Unable to allocate 5 bytes.', flush=True); os.abort()", 5, signal.SIGABRT),
        ("raise RuntimeError('[METAL] Command buffer execution failed: Caused GPU Timeout Error')", 6, None),
    ],
)
def test_a_worker_that_dies(supervise: Supervise, source: str, code: int, number: int | None) -> None:
    end, _ = supervise(f"import os, signal\ndef run(job, context):\n    {source}\n")
    assert (end.code, end.signal) == (code, number)
    assert end.message
    assert end.advice


def test_a_crash_leaves_its_python_stack_in_the_log(supervise: Supervise) -> None:
    end, _ = supervise("import os\ndef run(job, context):\n    crash_here()\ndef crash_here():\n    os.abort()\n")
    assert any("crash_here" in line for line in end.last_log_lines)


def test_a_worker_that_python_cannot_start(supervise: Supervise, tmp_path: Path) -> None:
    end, events = supervise("", environment={"PATH": "/bin", "PYTHONHOME": str(tmp_path / "none")})
    assert end.code == 7
    assert kinds(events) == []
    assert end.last_log_lines


def test_no_process_at_all(supervise: Supervise, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(WorkerFailed, match="No worker process can be started"):
        supervise("")


def test_a_kill_at_the_limit_is_memory(supervise: Supervise) -> None:
    source = "import os, time\ndef run(job, context):\n    time.sleep(0.8)\n    os.kill(os.getpid(), 9)\n"
    end, _ = supervise(source, memory_limit=10 << 20)
    assert (end.code, end.kind) == (5, "memory")
    end, _ = supervise(source, memory_limit=100 << 30)
    assert (end.code, end.kind) == (7, "failed")


def test_the_jobs_own_limit_counts_too(supervise: Supervise, tmp_path: Path) -> None:
    end, _ = supervise(
        "import os\ndef run(job, context):\n    os.kill(os.getpid(), 9)\n",
        job=Job("text", (), (), str(tmp_path), limits=Limits(memory=5 << 20)),
    )
    assert end.code == 5


# Events and logs


def test_noise_never_damages_events(supervise: Supervise) -> None:
    end, events = supervise(
        "import os, threading\n"
        "def noise():\n"
        '    for _ in range(500): os.write(1, b\'\\xff{"event": "done"}\\n\')\n'
        "def run(job, context):\n"
        "    thread = threading.Thread(target=noise)\n"
        "    thread.start()\n"
        "    for index in range(500): context.step('k', index, 500, 0.1)\n"
        "    thread.join()\n"
    )
    assert end.code == 0
    assert [event["index"] for event in events if event["event"] == "step"] == list(range(500))
    assert kinds(events).count("done") == 1
    assert len(end.last_log_lines) == 20


WRITE = """
import os

def descriptor():
    # The event pipe, which the channel took from the environment.
    import gc
    from workers.channel import EventChannel
    return next(thing for thing in gc.get_objects() if isinstance(thing, EventChannel))._descriptor

"""


def test_damaged_and_huge_lines_are_dropped_with_a_warning(supervise: Supervise) -> None:
    end, events = supervise(
        WRITE + "def run(job, context):\n"
        "    pipe = descriptor()\n"
        "    os.write(pipe, b'garbage\\n')\n"
        "    for _ in range(40): os.write(pipe, b'x' * 65536)\n"
        "    os.write(pipe, b'\\n')\n"
        "    context.step('k', 1, 1, 0.1)\n"
        '    os.write(pipe, b\'{"event": "step"\')\n'
        "    os._exit(3)\n"
    )
    assert end.code == 7
    assert kinds(events) == ["started", "warning", "warning", "step", "warning"]


def test_a_worker_that_closes_its_event_pipe_is_waited_for(supervise: Supervise, tmp_path: Path) -> None:
    end, events = supervise(
        WRITE + "import time, pathlib\n"
        "def run(job, context):\n"
        "    os.close(descriptor())\n"
        "    time.sleep(0.5)\n"
        f"    pathlib.Path({str(tmp_path / 'finished')!r}).touch()\n"
    )
    assert (tmp_path / "finished").exists()
    assert kinds(events) == ["started"]
    assert end.code == 7  # it never said that it was done
    assert end.seconds > 0.5


def test_what_was_said_before_the_end_is_heard_after_it(supervise: Supervise) -> None:
    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "started":
            time.sleep(0.7)  # by now the worker is gone

    end, events = supervise(
        "def run(job, context):\n    for index in range(300): context.step('k', index, 300, 0.1)\n", on_event
    )
    assert kinds(events).count("step") == 300
    assert end.code == 0


def test_the_log_is_appended_to_and_only_this_workers_lines_are_its_last(supervise: Supervise, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("[malloc] Unable to allocate: an earlier worker's\n")
    end, _ = supervise("import os\ndef run(job, context):\n    os.write(1, b'mine\\x1b[31m\\xff\\n'); os._exit(9)\n")
    assert end.last_log_lines == ("mine [31m\ufffd",)
    assert end.code == 7
    assert (tmp_path / "log").read_text(errors="replace").startswith("[malloc]")


def test_a_silent_worker_is_reported_once_per_silence(supervise: Supervise) -> None:
    _, events = supervise(
        "import time\n"
        "def run(job, context):\n"
        "    for index in range(2):\n"
        "        context.warn('x')\n"
        "        time.sleep(0.8)\n",
        stall_seconds=0.3,
    )
    assert kinds(events) == ["started", "warning", "stalled", "warning", "stalled", "done"]
    assert all(event["seconds"] > 0.3 for event in events if event["event"] == "stalled")


def test_slow_steps_are_not_a_stall(supervise: Supervise) -> None:
    _, events = supervise(
        "import time\ndef run(job, context):\n    context.step('k', 1, 2, 1.0)\n    time.sleep(0.8)\n",
        stall_seconds=0.3,
    )
    assert "stalled" not in kinds(events)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps the peak of a living process")
def test_the_peak_is_the_true_one_even_of_a_worker_that_is_killed(supervise: Supervise) -> None:
    end, _ = supervise(
        "import os, time\n"
        "def run(job, context):\n    block = b'x' * (300 << 20)\n    del block\n    time.sleep(1)\n"
        # The peak has passed, and every sample since has seen less: only the kernel still knows it.
        "    os.kill(os.getpid(), 9)\n"
    )
    assert end.process_peak > 300 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts this process into the worker's peak")
def test_the_peak_is_not_that_of_this_process(supervise: Supervise) -> None:
    block = b"x" * (300 << 20)
    end, _ = supervise("import os\ndef run(job, context):\n    os._exit(9)\n")
    assert end.process_peak < 150 << 20
    assert len(block) == 300 << 20


def test_a_worker_is_sampled_from_outside(supervise: Supervise) -> None:
    end, events = supervise("import time\ndef run(job, context):\n    time.sleep(0.9)\n")
    samples = [event for event in events if event["event"] == "sample"]
    assert samples
    assert all(1 << 20 < event["resident"] <= event["peak"] <= end.process_peak for event in samples)


# Signals


LONG = """
import time

def run(job, context):
    context.warn("begun")
    for index in range(600):
        time.sleep(0.05)
        context.step("k", index + 1, 600, 0.05)
        {check}
"""


def press_at(interrupts: Interrupts, *moments: str) -> Callable[[dict[str, Any]], None]:
    """Sends this process a real Ctrl-C each time that the next of the moments is reached."""
    waiting = list(moments)

    def on_event(event: dict[str, Any]) -> None:
        if waiting and event["event"] == waiting[0]:
            waiting.pop(0)
            time.sleep(0.3)  # presses in the same moment are one
            os.kill(os.getpid(), signal.SIGINT)

    return on_event


def test_one_ctrl_c_lets_the_step_finish(supervise: Supervise) -> None:
    with Interrupts() as interrupts:
        end, events = supervise(
            LONG.format(check="context.check_stop()"), press_at(interrupts, "step"), interrupts=interrupts
        )
        assert (end.code, end.kind, end.signal) == (130, "interrupted", None)
        assert kinds(events)[-1] == "error"
        assert "press again" in next(event for event in events if event["event"] == "interrupting")["message"]
        with pytest.raises(Interrupted):
            interrupts.check()


def test_the_second_ctrl_c_kills(supervise: Supervise) -> None:
    with Interrupts() as interrupts:
        end, events = supervise(
            LONG.format(check="pass"), press_at(interrupts, "warning", "interrupting"), interrupts=interrupts
        )
    assert (end.code, end.kind, end.signal) == (130, "interrupted", signal.SIGKILL)
    assert kinds(events).count("interrupting") == 2


def test_a_ctrl_c_in_the_last_step_is_for_whoever_comes_next(supervise: Supervise) -> None:
    with Interrupts() as interrupts:
        end, _ = supervise(
            "import time\ndef run(job, context):\n    context.warn('x')\n    time.sleep(0.6)\n",
            press_at(interrupts, "warning"),
            interrupts=interrupts,
        )
        assert end.code == 0
        assert interrupts.requested


def test_no_worker_starts_after_a_signal(supervise: Supervise, tmp_path: Path) -> None:
    interrupts = Interrupts()
    with pytest.raises(Interrupted):
        interrupts.receive(signal.SIGTERM)
    with pytest.raises(Interrupted):
        supervise("def run(job, context): pass", interrupts=interrupts)
    assert not (tmp_path / "job.json").exists()


def test_a_sigterm_to_the_worker_itself_is_an_interruption(supervise: Supervise) -> None:
    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "started":
            os.kill(event["pid"], signal.SIGTERM)

    end, _ = supervise(LONG.format(check="context.check_stop()"), on_event)
    assert (end.code, end.kind) == (143, "interrupted")


# What goes wrong on this side


def test_an_exception_of_the_listener_kills_the_worker(supervise: Supervise) -> None:
    pids = []

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] != "started":  # on a busy machine a sample of its memory comes first
            return
        pids.append(event["pid"])
        raise KeyError("a mistake of ours")

    with pytest.raises(KeyError, match="a mistake of ours"):
        supervise(LONG.format(check="pass"), on_event)
    assert not psutil.pid_exists(pids[0])


def test_a_listener_that_cannot_write_lets_the_step_finish(supervise: Supervise, tmp_path: Path) -> None:
    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            raise BrokenPipeError("the terminal is gone")

    with pytest.raises(BrokenPipeError, match="the terminal is gone"):
        supervise(
            LONG.format(check=f"open({str(tmp_path / 'saved')!r}, 'a').write('x'); context.check_stop()"), on_event
        )
    assert 1 <= len((tmp_path / "saved").read_text()) < 300


def test_what_the_worker_leaves_behind_is_killed(supervise: Supervise) -> None:
    end, events = supervise(
        "import subprocess\n"
        "def run(job, context):\n"
        "    child = subprocess.Popen(['sleep', '60'])\n"
        "    context.warn(str(child.pid))\n"
    )
    child = int(next(event for event in events if event["event"] == "warning")["message"])
    assert end.code == 0
    assert _gone(child)


ORCHESTRATOR = """
import json, pathlib, sys
from orchestrator.interrupts import Interrupts
from orchestrator.supervisor import run_worker
from workers.protocol import Job

home = pathlib.Path(sys.argv[1])
environment = json.loads((home / "environment.json").read_text())

def on_event(event):
    print(json.dumps(event), flush=True)

with Interrupts() as interrupts:
    end = run_worker(
        Job("text", (), (), str(home)), job_path=home / "job.json", log_path=home / "log",
        environment=environment, on_event=on_event, interrupts=interrupts,
    )
print(json.dumps({"event": "end", "code": end.code, "message": end.message, "peak": end.process_peak}))
"""


@pytest.fixture
def orchestrate(tmp_path: Path, fake_stage: FakeStage) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """An orchestrator in a process of its own, which prints the events."""
    started = []

    def start(source: str, **options: Any) -> subprocess.Popen[str]:
        environment = fake_stage(source)
        (tmp_path / "environment.json").write_text(json.dumps(environment))
        started.append(
            subprocess.Popen(
                [sys.executable, "-P", "-c", ORCHESTRATOR, str(tmp_path)],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                **options,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _worker_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    while (event := json.loads(process.stdout.readline()))["event"] == "sample":
        pass  # of its memory: on a busy machine the first comes before the worker says that it has started
    assert event["event"] == "started"
    return int(event["pid"])


@pytest.mark.parametrize("work", ["time.sleep(60)", "while True: pass"])
def test_a_worker_ends_within_two_seconds_of_its_orchestrator(
    orchestrate: Callable[..., subprocess.Popen[str]], work: str
) -> None:
    process = orchestrate(f"import time\ndef run(job, context):\n    {work}\n")
    worker = _worker_of(process)
    assert not _gone(worker, seconds=0.2)
    process.kill()
    process.wait()
    assert _gone(worker, seconds=2)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_a_signal_to_the_orchestrator(
    orchestrate: Callable[..., subprocess.Popen[str]], number: signal.Signals, code: int
) -> None:
    process = orchestrate(LONG.format(check="context.check_stop()"))
    worker = _worker_of(process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    end = json.loads(output.splitlines()[-1])
    assert (end["event"], end["code"]) == ("end", code)
    assert not psutil.pid_exists(worker)


# Memory that really runs out


EAT = """
import time
import mlx.core as mx

def run(job, context):
    kept = []
    for index in range(4000):
        kept.append(mx.full((1 << 20,), index, dtype=mx.float32))
        mx.eval(kept[-1])
        context.heartbeat()
        time.sleep({pause})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="MLX on a Mac does not allocate through malloc")
def test_an_address_space_that_is_used_up_is_memory(
    orchestrate: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1500 << 20, 1500 << 20))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    process = orchestrate(EAT.format(pause=0.01), preexec_fn=limited)
    output, _ = process.communicate(timeout=120)
    end = json.loads(output.splitlines()[-1])
    assert end["code"] == 5, (end, (tmp_path / "log").read_text())


def test_a_worker_that_the_kernel_kills_for_memory_is_memory(
    orchestrate: Callable[..., subprocess.Popen[str]], memory_group: Callable[[int], Callable[[], None]]
) -> None:
    process = orchestrate(EAT.format(pause=0), preexec_fn=memory_group(300 << 20))
    output, _ = process.communicate(timeout=120)
    end = json.loads(output.splitlines()[-1])
    assert (end["event"], end["code"]) == ("end", 5), end
    assert "the kernel killed it" in end["message"]
    assert end["peak"] > 150 << 20
