"""How a block's bytes become arrays, in the background: two ways, of which each suits other hardware.

`InPlace`, for Metal and CPUs, where the CPU and whoever computes share one memory: threads read into a slot's memory.
`Loads`, for CUDA: threads let MLX load whole tensors, each on a stream of its own, so that reading and copying to the
card go on beside the kernels. Both give the same arrays.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol

import mlx.core as mx

from weights.fingerprint import unchanged
from weights.header import Signature
from weights.reader import OnRead, changed
from weights.select import Stored
from weights.stream_read import READERS, ByteReader, Reading
from weights.stream_slots import Slot

Raw = dict[str, mx.array]
Wanted = Mapping[str, Stored]

LOADERS = 8
"""Threads of `Loads`: each copies to the card what it read. On an H100, from page cache, 4 gave 4.6 to 5.4 GB/s,
8 and 12 gave 6.3; with malloc's usual pages (see orchestrator/environment.py) it was 3.6 to 4."""
_BEAT_SECONDS = 1.0


class Pending(Protocol):
    """Tensors on their way."""

    def arrays(self, beat: Callable[[], None]) -> Raw:
        """Returns when they are there, as stored; `beat` is called about once a second meanwhile."""

    def abandon(self) -> None:
        """Returns when nothing is read for it any more."""


class Source(Protocol):
    uses_slots: bool
    """Whether `start` fills the given slot's memory, which must then be free; otherwise each start makes new arrays."""

    def start(self, wanted: Wanted, slot: Slot) -> Pending: ...

    def close(self) -> None: ...


def source(signatures: Mapping[Path, Signature], *, on_read: OnRead | None = None) -> InPlace | Loads:
    """The one for the device that MLX computes on."""
    cuda = mx.default_device().type == mx.DeviceType.gpu and not mx.metal.is_available()
    return (Loads if cuda else InPlace)(signatures, on_read=on_read)


class InPlace:
    """Reads with `ByteReader` into slots."""

    uses_slots = True

    def __init__(
        self, signatures: Mapping[Path, Signature], *, readers: int = READERS, on_read: OnRead | None = None
    ) -> None:
        self._bytes = ByteReader(signatures, readers=readers, on_read=on_read)

    def start(self, wanted: Wanted, slot: Slot) -> Pending:
        return _InPlacePending(self._bytes.start(slot.targets(wanted)), wanted, slot)

    def close(self) -> None:
        self._bytes.close()


class _InPlacePending:
    def __init__(self, reading: Reading, wanted: Wanted, slot: Slot) -> None:
        self._reading, self._wanted, self._slot = reading, wanted, slot

    def arrays(self, beat: Callable[[], None]) -> Raw:
        self._reading.wait(beat)
        return self._slot.arrays(self._wanted)

    def abandon(self) -> None:
        self._reading.abandon()


class Loads:
    """Evaluates MLX's own lazy arrays, a tensor at a time, in threads: a stream belongs to its thread."""

    uses_slots = False

    def __init__(
        self, signatures: Mapping[Path, Signature], *, readers: int = LOADERS, on_read: OnRead | None = None
    ) -> None:
        self._signatures, self._on_read = signatures, on_read
        self._threads = ThreadPoolExecutor(readers, thread_name_prefix="load")
        self._lazy = threading.local()

    def start(self, wanted: Wanted, slot: Slot) -> Pending:
        largest_first = sorted(wanted.items(), key=lambda item: -item[1].info.nbytes)
        return _LoadsPending({name: self._threads.submit(self._load, stored) for name, stored in largest_first})

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _load(self, stored: Stored) -> mx.array:
        """In a thread. An evaluated array keeps its memory, so that each lazy one serves once; then the header is read
        again, about once for every visit of all blocks."""
        files: dict[Path, dict[str, mx.array]] = self._lazy.__dict__.setdefault("files", {})
        if not unchanged(stored.path, self._signatures[stored.path]):
            raise changed(stored.path)
        try:
            if stored.name not in files.get(stored.path, {}):
                loaded = mx.load(str(stored.path), format="safetensors")
                assert isinstance(loaded, dict)
                files[stored.path] = loaded
            array = files[stored.path].pop(stored.name)
            mx.eval(array)
        except RuntimeError as error:
            if unchanged(stored.path, self._signatures[stored.path]):
                raise
            raise changed(stored.path) from error
        if not unchanged(stored.path, self._signatures[stored.path]):
            raise changed(stored.path)
        if self._on_read is not None:
            self._on_read(stored.path, stored.info.nbytes)
        return array


class _LoadsPending:
    def __init__(self, parts: dict[str, Future[mx.array]]) -> None:
        self._parts = parts

    def arrays(self, beat: Callable[[], None]) -> Raw:
        while wait(self._parts.values(), _BEAT_SECONDS).not_done:
            beat()
        read = {name: part.result() for name, part in self._parts.items()}
        self._parts.clear()  # a future keeps its result, and a converted weight's memory must be free at once
        return read

    def abandon(self) -> None:
        for part in self._parts.values():
            part.cancel()
        wait(self._parts.values())
