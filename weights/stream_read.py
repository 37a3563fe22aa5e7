"""Bytes of many tensors into given buffers, with several threads and large reads.

Guarantees: nothing but the tensors' bytes is read, each byte once, straight into its buffer; tensors that lie side by
side in a file are read together; a file is the one whose header was read, before and after each reading, or a
WeightsError says that it changed. A file that is replaced (not overwritten) meanwhile is read to its end as it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from weights.errors import WeightsError
from weights.header import Signature
from weights.header_json import no_access
from weights.reader import OnRead, changed
from weights.select import Stored

READERS = 4
PIECE = 16 << 20
"""Bytes of one read: large enough for a disk, small enough for the readers to share a block evenly."""
_MOST_BUFFERS = 64
_BEAT_SECONDS = 1.0


class Target(NamedTuple):
    """A tensor, and the memory for its bytes: writable, one-dimensional, as long as it is."""

    stored: Stored
    memory: memoryview


class Piece(NamedTuple):
    """One read: from `start` of the file into the buffers, one after the other."""

    path: Path
    start: int
    buffers: tuple[memoryview, ...]


class Reading:
    """A reading under way; its buffers must not be used before `wait` returns."""

    def __init__(self, parts: Sequence[Future[None]], finish: Callable[[], None]) -> None:
        self._parts, self._finish = parts, finish

    def wait(self, beat: Callable[[], None] = lambda: None) -> None:
        """Returns when everything is there. `beat` is called about once a second meanwhile. WeightsError as above."""
        rest: Iterable[Future[None]] = self._parts
        while rest:
            done, rest = wait(rest, _BEAT_SECONDS, FIRST_EXCEPTION)
            for part in done:
                part.result()
            if rest:
                beat()
        self._finish()

    def abandon(self) -> None:
        """Returns when no thread touches the buffers any more; what was read counts for nothing."""
        for part in self._parts:
            part.cancel()
        wait(self._parts)


class ByteReader:
    """Open files and threads that read them; `close` when done.

    `signatures`: of every file that will be read. `on_read` is called from the reading threads.
    """

    def __init__(
        self, signatures: Mapping[Path, Signature], *, readers: int = READERS, on_read: OnRead | None = None
    ) -> None:
        self._signatures, self._on_read = signatures, on_read
        self._descriptors: dict[Path, int] = {}
        self._threads = ThreadPoolExecutor(readers, thread_name_prefix="read")

    def start(self, targets: Sequence[Target]) -> Reading:
        """Begins to read all targets, in the order in which they lie in their files."""
        pieces = list(plan(targets))
        paths = {piece.path for piece in pieces}
        self._check(paths)
        return Reading([self._threads.submit(self._read, piece) for piece in pieces], lambda: self._check(paths))

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def _check(self, paths: Iterable[Path]) -> None:
        for path in paths:
            try:
                if path not in self._descriptors:
                    self._descriptors[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                status = os.fstat(self._descriptors[path])
            except OSError as error:
                raise WeightsError(no_access(path, error)) from error
            if Signature.of(status) != self._signatures[path]:
                raise changed(path)

    def _read(self, piece: Piece) -> None:
        descriptor, position, buffers = self._descriptors[piece.path], piece.start, list(piece.buffers)
        while buffers:
            try:
                count = _into(descriptor, buffers, position)
            except OSError as error:
                raise WeightsError(no_access(piece.path, error)) from error
            if count == 0:
                raise changed(piece.path)
            position += count
            while buffers and count >= len(buffers[0]):
                count -= len(buffers.pop(0))
            if count:
                buffers[0] = buffers[0][count:]
        if self._on_read is not None:
            self._on_read(piece.path, position - piece.start)


def plan(targets: Iterable[Target], piece: int = PIECE) -> Iterator[Piece]:
    """Reads of at most `piece` bytes that fill all targets: large tensors cut, neighbours joined."""
    path, start, end = Path(), 0, 0
    buffers: list[memoryview] = []
    for stored, memory in sorted(targets, key=lambda target: (target.stored.path, target.stored.info.start)):
        for offset in range(0, len(memory), piece):
            part, at = memory[offset : offset + piece], stored.info.start + offset
            joins = (stored.path, at) == (path, end) and end + len(part) - start <= piece
            if buffers and not (joins and len(buffers) < _MOST_BUFFERS):
                yield Piece(path, start, tuple(buffers))
                buffers = []
            if not buffers:
                path, start = stored.path, at
            buffers.append(part)
            end = at + len(part)
    if buffers:
        yield Piece(path, start, tuple(buffers))


def _into(descriptor: int, buffers: Sequence[memoryview], position: int) -> int:
    """Bytes read into the buffers; 0 at the end of the file."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, buffers, position)
    read = os.pread(descriptor, len(buffers[0]), position)  # a macOS older than 11
    buffers[0][: len(read)] = read
    return len(read)
