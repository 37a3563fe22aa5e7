"""Each row of the table of ends, and what must not be mistaken for it."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from orchestrator.ends import End, Evidence, Usage, classify, error_for
from weights.errors import DoesNotFit, GpuFailure, Interrupted, OutOfMemory, UsageError, WeightsError, WorkerFailed
from weights.own_limits import AT_ONCE
from weights.symptoms import failure_kind

GB, MB = 10**9, 1 << 20
FULL = (Usage(GB, 32 * GB), Usage(95 * GB // 10, 10 * GB))
ROOMY = (Usage(89 * GB // 10, 10 * GB),)
OWN = (Usage(441 * MB, 480 * MB, AT_ONCE, "480 MB of data (ulimit -d)"),)
OWN_FAR = (Usage(441 * MB, 8000 * MB, AT_ONCE, "8000 MB of data (ulimit -d)"),)
OWN_BY_PLAN = (Usage(441 * MB, 8000 * MB, 7000 * MB, "8000 MB of data (ulimit -d)"),)
TERM, KILL = signal.SIGTERM, signal.SIGKILL
SEGV, ABRT = -signal.SIGSEGV, -signal.SIGABRT
OOM_LINE = "RuntimeError: [metal::malloc] Attempting to allocate 134668044288 bytes which is greater than"
METAL_OOM_LINE = "libc++abi: [METAL] Command buffer execution failed: Insufficient Memory (00000008:kIOGPU...)"
WATCHDOG_LINE = "libc++abi: [METAL] Command buffer execution failed: Caused GPU Timeout Error (00000002:...)"


def error(kind: str, code: int, message: str = "What happened.", advice: str = "") -> dict[str, Any]:
    return {"event": "error", "kind": kind, "message": message, "advice": advice, "exit_code": code}


@pytest.mark.parametrize(
    ("evidence", "code", "kind"),
    [
        ({"status": 0, "done": True}, 0, "done"),
        # It said that it was done: what it published is there, whatever came then.
        ({"status": -KILL, "done": True, "oom_kills": 1}, 0, "done"),
        ({"status": 0, "done": True, "interrupted": 130, "sent": (TERM,)}, 0, "done"),
        ({"status": 2, "error": error("usage", 2)}, 2, "usage"),
        ({"status": 3, "error": error("weights", 3)}, 3, "weights"),
        ({"status": 4, "error": error("fit", 4)}, 4, "fit"),
        ({"status": 4, "error": error("disk", 4)}, 4, "disk"),
        ({"status": 5, "error": error("memory", 5)}, 5, "memory"),
        ({"status": 6, "error": error("gpu", 6)}, 6, "gpu"),
        ({"status": 7, "error": error("failed", 7)}, 7, "failed"),
        ({"status": 3, "error": error("strange", 99)}, 7, "failed"),
        ({"status": 0, "error": error("done?", 0)}, 7, "failed"),
        # The error says more than how the process then ended.
        ({"status": SEGV, "error": error("weights", 3)}, 3, "weights"),
        ({"status": 5, "error": error("memory", 5), "interrupted": 130, "sent": (TERM,)}, 5, "memory"),
        # Without an error event only the log is left.
        ({"status": 0}, 7, "failed"),
        ({"status": 1}, 7, "failed"),
        ({"status": 2}, 7, "failed"),
        ({"status": 9}, 7, "failed"),
        ({"status": 137}, 7, "failed"),
        ({"status": 1, "log_tail": ("Traceback", OOM_LINE)}, 5, "memory"),
        ({"status": 1, "usages": FULL, "oom_kills": 1}, 7, "failed"),
        # Interrupted.
        ({"status": 130, "error": error("stopped", 130), "interrupted": 130, "sent": (TERM,)}, 130, "interrupted"),
        ({"status": 130, "error": error("stopped", 130), "interrupted": 143, "sent": (TERM,)}, 143, "interrupted"),
        ({"status": 130, "error": error("stopped", 130), "interrupted": 129, "sent": (TERM,)}, 129, "interrupted"),
        ({"status": 130, "error": error("stopped", 130)}, 143, "interrupted"),
        ({"status": -TERM, "interrupted": 130, "sent": (TERM,)}, 130, "interrupted"),
        ({"status": -KILL, "interrupted": 130, "sent": (TERM, KILL)}, 130, "interrupted"),
        ({"status": -KILL, "interrupted": 129, "sent": (TERM, KILL), "usages": FULL}, 129, "interrupted"),
        ({"status": -TERM}, 143, "interrupted"),
        ({"status": -signal.SIGINT}, 130, "interrupted"),
        ({"status": -signal.SIGHUP}, 129, "interrupted"),
        # SIGKILL that did not come from here.
        ({"status": -KILL}, 7, "failed"),
        ({"status": -KILL, "usages": ROOMY}, 7, "failed"),
        ({"status": -KILL, "usages": FULL}, 5, "memory"),
        ({"status": -KILL, "oom_kills": 1}, 5, "memory"),
        ({"status": -KILL, "oom_kills": 1, "usages": ROOMY}, 5, "memory"),
        ({"status": -KILL, "interrupted": 130, "sent": (TERM,), "oom_kills": 1}, 5, "memory"),
        ({"status": -KILL, "interrupted": 130, "sent": (TERM,)}, 7, "failed"),
        ({"status": -KILL, "usages": FULL, "backend": "metal"}, 5, "memory"),
        ({"status": -KILL, "log_tail": (METAL_OOM_LINE,), "backend": "metal"}, 5, "memory"),
        ({"status": -KILL, "sent": (TERM, KILL), "usages": FULL, "oom_kills": 1}, 7, "failed"),
        # Crashes.
        ({"status": SEGV}, 7, "failed"),
        ({"status": ABRT}, 7, "failed"),
        ({"status": SEGV, "usages": ROOMY}, 7, "failed"),
        ({"status": SEGV, "usages": FULL}, 5, "memory"),
        ({"status": ABRT, "usages": FULL}, 5, "memory"),
        ({"status": -signal.SIGBUS, "usages": FULL}, 7, "failed"),
        ({"status": SEGV, "usages": FULL, "backend": "metal"}, 7, "failed"),
        ({"status": SEGV, "usages": FULL, "backend": "cuda"}, 7, "failed"),
        ({"status": ABRT, "log_tail": (METAL_OOM_LINE,), "backend": "metal"}, 5, "memory"),
        ({"status": ABRT, "log_tail": (WATCHDOG_LINE, "later line"), "backend": "metal"}, 6, "gpu"),
        ({"status": ABRT, "log_tail": (OOM_LINE,)}, 5, "memory"),
        ({"status": -64}, 7, "failed"),
        # Limits of its own make allocations fail; they never kill.
        ({"status": SEGV, "own_usages": OWN}, 5, "memory"),
        ({"status": ABRT, "own_usages": OWN}, 5, "memory"),
        ({"status": SEGV, "own_usages": OWN_BY_PLAN}, 5, "memory"),
        ({"status": SEGV, "own_usages": OWN_FAR}, 7, "failed"),
        ({"status": -KILL, "own_usages": OWN}, 7, "failed"),
        ({"status": SEGV, "own_usages": OWN, "backend": "cuda"}, 7, "failed"),
    ],
    ids=str,
)
def test_the_class_of_an_end(evidence: dict[str, Any], code: int, kind: str) -> None:
    end = classify(Evidence(stage="stage2", **evidence))
    assert (end.code, end.kind) == (code, kind)
    assert bool(end.message) == (code != 0)
    assert "None" not in end.message


@pytest.mark.parametrize("way", [{"status": -KILL, "oom_kills": 1}, {"status": 5, "error": error("memory", 5)}])
def test_out_of_memory_says_what_to_try(way: dict[str, Any]) -> None:
    end = classify(Evidence(stage="stage2", **way))
    assert "stage2" in end.message
    for word in ("smaller size", "33 or 49", "tiles", "quantised", "streamed"):
        assert word in end.advice
    assert "steps" not in end.advice  # fewer steps do not lower the peak


def test_the_limit_that_was_hit_is_named() -> None:
    end = classify(Evidence(stage="decode", status=-KILL, usages=FULL))
    assert "8.8 GB of 9.3 GB" in end.message
    end = classify(Evidence(stage="decode", status=SEGV, own_usages=OWN))
    assert "it crashed (SIGSEGV) at 441 MB, and may have 480 MB of data (ulimit -d)" in end.message


def test_an_advice_of_the_worker_wins() -> None:
    end = classify(Evidence(stage="text", status=4, error=error("fit", 4, advice="Take --frames 33.")))
    assert end.advice == "Take --frames 33."


def test_nothing_is_near_no_limit() -> None:
    assert not Usage(5, 0).near
    assert not Usage(0, 10).near
    assert Usage(9, 10).near


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (2, UsageError),
        (3, WeightsError),
        (4, DoesNotFit),
        (5, OutOfMemory),
        (6, GpuFailure),
        (7, WorkerFailed),
        (130, Interrupted),
        (143, Interrupted),
        (129, Interrupted),
    ],
)
def test_every_end_has_an_exception(code: int, kind: type[Exception]) -> None:
    made = error_for(End(code, "k", "message", "advice"))
    assert type(made) is kind
    assert (made.exit_code, made.message, made.advice) == (code, "message", "advice")


CERTAIN = [
    "OpenBLAS: malloc failed in gemm_driver",
    "OpenBLAS error: Memory allocation still failed after 10 retries, giving up.",
    "Fatal Python error: _PyErr_NoMemory: Out of memory and PyExc_MemoryError is not initialized yet",
    "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 45.9 MiB for an array with shape (49, 32, 48, 160)",
    "MemoryError",
    "OSError: [Errno 12] Cannot allocate memory",
    "av.error.MemoryError: [Errno 12] Cannot allocate memory: 'avcodec_send_frame()'",
    "terminate called after throwing an instance of 'std::bad_alloc'",
]
AT_A_LIMIT = [
    "RuntimeError: can't start new thread",
    "RuntimeError: Resource temporarily unavailable",
    "av.error.BlockingIOError: [Errno 11] Resource temporarily unavailable: 'avcodec_open2(\"libx264\", {})'",
    "av.error.ExternalError: [Errno 542398533] Generic error in an external library: 'avcodec_open2(\"libx264\", {})'",
    "OpenBLAS blas_thread_init: pthread_create failed for thread 1 of 2: Resource temporarily unavailable",
    "ImportError: libmlx.so: failed to map segment from shared object",
    "Original error was: libscipy_openblas64_-32a4b2a6.so: failed to map segment from shared object",
    "RuntimeError: [read] Unable to read from file.",
    "SystemError: error return without exception set",
    "terminate called without an active exception",
]
"""What workers really said when they were run under `ulimit -d` and `ulimit -v`, from the tiniest limits to enough."""


@pytest.mark.parametrize("line", CERTAIN + AT_A_LIMIT)
def test_what_libraries_say_when_memory_runs_out(line: str) -> None:
    """Some words mean memory; others only at a limit of the process's own: threads and codecs fail otherwise too."""
    for status in (1, ABRT):
        said: dict[str, Any] = {"stage": "decode", "status": status, "log_tail": ("Traceback", line, "later")}
        assert classify(Evidence(**said, own_usages=OWN)).code == 5
        assert classify(Evidence(**said)).code == (5 if line in CERTAIN else 7)
        assert classify(Evidence(**said, usages=FULL)).code == (5 if line in CERTAIN or status == ABRT else 7)
        assert classify(Evidence(**said, own_usages=OWN_FAR)).code == (5 if line in CERTAIN else 7)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "libgomp.so.1: cannot allocate memory in static TLS block",
        "malloc works",
        "shape mismatch",
        "ValueError: failed to allocate a name",
        "no more memory cards in stock",
        "connection reset by peer",
        "He said: MemoryErrors are rare",
    ],
)
def test_harmless_words_are_no_symptom(text: str) -> None:
    assert failure_kind(text) is None
    assert failure_kind(text, starved=True) is None
