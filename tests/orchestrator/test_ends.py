"""Each row of the table of ends, and what must not be mistaken for it."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from orchestrator.ends import End, Evidence, Usage, classify, error_for
from weights.errors import DoesNotFit, GpuFailure, Interrupted, OutOfMemory, UsageError, WeightsError, WorkerFailed
from weights.symptoms import failure_kind

GB = 10**9
FULL = (Usage(GB, 32 * GB), Usage(95 * GB // 10, 10 * GB))
ROOMY = (Usage(89 * GB // 10, 10 * GB),)
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
    assert "9.5 of 10.0 GB" in end.message


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


@pytest.mark.parametrize(
    "text",
    [
        "",
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
