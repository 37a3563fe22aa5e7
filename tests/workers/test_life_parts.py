"""The parts of a worker's shell, without a process: errors, events, memory, limits."""

from __future__ import annotations

import errno
import json
import mmap
import os
import struct
import sys
import types
from collections.abc import Callable
from typing import Any

import av
import pytest

from weights.errors import DoesNotFit, Interrupted, RelayError, UsageError, WeightsError
from weights.own_limits import OwnLimit
from workers import __main__ as main_module
from workers import context as context_module
from workers import memory
from workers.__main__ import describe
from workers.channel import TEXT_LIMIT, EventChannel
from workers.context import Context, Stopped
from workers.limits import apply_limits
from workers.protocol import EVENT_FD_VARIABLE, Job, Limits


def _wrapped(cause: BaseException, outer: BaseException) -> BaseException:
    outer.__cause__ = cause
    return outer


METAL_MEMORY = (
    "[METAL] Command buffer execution failed: Insufficient Memory "
    "(00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"
)
METAL_DISPLAY = (
    "[METAL] Command buffer execution failed: Impacting Interactivity "
    "(0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)"
)


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (UsageError("x"), "usage", 2),
        (WeightsError("x"), "weights", 3),
        (DoesNotFit("x"), "fit", 4),
        (Stopped("x"), "stopped", 130),
        (Interrupted("x"), "stopped", 130),
        (RelayError("x"), "failed", 7),
        (MemoryError(), "memory", 5),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory", 5),
        (RuntimeError("[malloc] Unable to allocate 4294967296 bytes."), "memory", 5),
        (RuntimeError("[metal::malloc] Resource limit (499000) exceeded."), "memory", 5),
        (RuntimeError(METAL_MEMORY), "memory", 5),
        (RuntimeError("cudaMallocAsync(&data, size, stream) failed: out of memory"), "memory", 5),
        (RuntimeError("std::bad_alloc"), "memory", 5),
        (RuntimeError(METAL_DISPLAY), "gpu", 6),
        (RuntimeError("[METAL] Command buffer execution failed: Caused GPU Timeout Error (00000002:...)"), "gpu", 6),
        (RuntimeError("cudaStreamSynchronize failed: an illegal memory access was encountered"), "gpu", 6),
        (RuntimeError("[matmul] Last dimension of first input must match"), "failed", 7),
        (OSError(errno.ENOSPC, "No space left on device", "/h/a"), "disk", 4),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk", 4),
        (_wrapped(OSError(errno.ENOSPC, "No space left"), RuntimeError("cannot write")), "disk", 4),
        (_wrapped(MemoryError("x"), RelayError("the stage failed")), "memory", 5),
        (_wrapped(MemoryError("x"), WeightsError("the file is wrong")), "weights", 3),
        (FileNotFoundError(errno.ENOENT, "No such file"), "failed", 7),
        (KeyboardInterrupt(), "failed", 7),
        (SystemExit(0), "failed", 7),
    ],
    ids=repr,
)
def test_what_an_error_is(error: BaseException, kind: str, code: int) -> None:
    failure = describe(error)
    assert (failure.kind, failure.exit_code) == (kind, code)
    assert failure.message


STARVED = [
    RuntimeError("can't start new thread"),
    RuntimeError("Resource temporarily unavailable"),
    BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    ImportError("libmlx.so: failed to map segment from shared object"),
    _wrapped(
        av.error.ExternalError(542398533, "Generic error in an external library"),
        RelayError("Writing the video failed."),
    ),
]


@pytest.mark.parametrize("error", STARVED, ids=repr)
def test_words_that_mean_memory_only_at_a_limit(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main_module, "near_own_limit", lambda: None)
    assert describe(error).exit_code == 7
    monkeypatch.setattr(main_module, "near_own_limit", lambda: OwnLimit("data", 470 << 20, 480 << 20))
    failure = describe(error)
    assert failure.exit_code == 5
    assert failure.message.endswith("This process may have no more than 480 MB of data (ulimit -d).")
    assert describe(WeightsError("failed to map segment from shared object")).exit_code == 3


def test_a_ring_of_causes_ends() -> None:
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    assert describe(first).exit_code == 7


def test_a_disk_that_is_full_names_the_file() -> None:
    assert "/h/a" in describe(OSError(errno.ENOSPC, "No space left on device", "/h/a")).message


@pytest.fixture
def channel() -> Any:
    ours, theirs = os.pipe()
    reader = os.fdopen(ours, "rb")
    made = EventChannel(theirs)
    yield made, lambda: json.loads(reader.readline())
    os.close(theirs)
    reader.close()


def test_an_event_needs_its_fields(channel: Any) -> None:
    with pytest.raises(ValueError, match="seconds"):
        channel[0].emit("step", key="k", index=1, total=2)
    with pytest.raises(ValueError, match="nonsense"):
        channel[0].emit("nonsense")


def test_an_event_is_one_line_whatever_it_says(channel: Any) -> None:
    emitter, read = channel
    emitter.emit("warning", message="a\nb\u2028\udcff" + "x" * 10 * TEXT_LIMIT, path=types.SimpleNamespace())
    event = read()
    assert event["message"].startswith("a\nb\u2028\udcff")
    assert len(event["message"]) < TEXT_LIMIT + 10


def test_a_descriptor_that_is_not_open_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("987654", "-1", "", "x", "9" * 30):
        monkeypatch.setenv(EVENT_FD_VARIABLE, text)
        made = EventChannel.from_environment()
        assert not made.supervised
        assert EVENT_FD_VARIABLE not in os.environ
        made.emit("heartbeat")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> tuple[Context, list[str], Callable[[float], None]]:
    """A context whose clock the test moves, and the kinds of its events."""
    now = [100.0]
    monkeypatch.setattr(context_module, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    kinds: list[str] = []

    class Recorder(EventChannel):
        def emit(self, event: str, **fields: Any) -> None:
            kinds.append(event)

    def move(seconds: float) -> None:
        now[0] += seconds

    return Context(Job("text", (), (), "/h"), Recorder(None)), kinds, move


def test_heartbeats_are_sent_at_most_once_a_second(
    recorded: tuple[Context, list[str], Callable[[float], None]],
) -> None:
    context, kinds, move = recorded
    for _ in range(100):
        context.heartbeat()
        move(0.1)
    assert 9 <= kinds.count("heartbeat") <= 11
    assert 0 < kinds.count("memory") <= 11


def test_a_step_is_a_sign_of_life_itself(recorded: tuple[Context, list[str], Callable[[float], None]]) -> None:
    context, kinds, move = recorded
    for index in range(20):
        context.step("k", index, 20, 0.1)
        context.heartbeat()
        move(0.1)
    assert kinds.count("heartbeat") == 0
    assert kinds.count("step") == 20
    assert 3 <= kinds.count("memory") <= 5


def test_only_a_request_stops(recorded: tuple[Context, list[str], Callable[[float], None]]) -> None:
    context = recorded[0]
    context.check_stop()
    context.request_stop(15)
    with pytest.raises(Stopped, match="SIGTERM") as caught:
        context.check_stop()
    assert caught.value.exit_code == 130


def test_this_process_has_a_size_and_a_peak() -> None:
    before = memory.process_memory()
    with mmap.mmap(-1, 64 << 20) as block:  # its own pages: the heap may have room to reuse
        block[::4096] = b"x" * len(block[::4096])
        during = memory.process_memory()
    after = memory.process_memory()
    assert during.now - before.now > 32 << 20
    assert after.peak >= during.now - (1 << 20)  # the kernel's counters are a few pages late
    assert after.now < during.now


def test_mlx_is_not_counted_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mlx.core", raising=False)
    assert memory.mlx_memory() == (0, 0, 0)
    assert "mlx.core" not in sys.modules


def test_the_footprint_is_read_from_where_macos_keeps_it() -> None:
    # struct rusage_info_v4 counted in words of 8 bytes: the uuid takes two, then ri_user_time is the third.
    words = list(range(2 + 35))
    words[9], words[30] = 5 << 30, 7 << 30
    raw = struct.pack("=37Q", *words)
    assert memory._footprint(raw) == memory.ProcessMemory(5 << 30, 7 << 30)
    assert memory._footprint(raw[:-1]) == memory.ProcessMemory(0, 0)


class FakeMlx(types.ModuleType):
    """Records the limits that are set."""

    def __init__(self, metal: bool, working_set: int = 0) -> None:
        super().__init__("mlx.core")
        self.calls: dict[str, int] = {}
        self.metal = types.SimpleNamespace(is_available=lambda: metal)
        self.device_info = lambda: {"max_recommended_working_set_size": working_set} if metal else {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("set_"):
            return lambda value: self.calls.__setitem__(name, value)
        raise AttributeError(name)


@pytest.mark.parametrize(
    ("metal", "limits", "calls"),
    [
        (False, Limits(memory=5, cache=6, wired=7), {"set_memory_limit": 5, "set_cache_limit": 6}),
        (True, Limits(memory=5, cache=6, wired=7), {"set_memory_limit": 5, "set_cache_limit": 6, "set_wired_limit": 7}),
        (True, Limits(memory=None, cache=None, wired=999), {"set_wired_limit": 100}),
        (True, Limits(memory=None, cache=0, wired=None), {"set_cache_limit": 0}),
    ],
)
def test_limits(monkeypatch: pytest.MonkeyPatch, metal: bool, limits: Limits, calls: dict[str, int]) -> None:
    fake = FakeMlx(metal, working_set=100)
    package = types.ModuleType("mlx")
    package.core = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlx", package)
    monkeypatch.setitem(sys.modules, "mlx.core", fake)
    apply_limits(limits)
    assert fake.calls == calls
