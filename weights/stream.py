"""Blocks of a network that come and go: some stay in memory, the others are read anew at each visit.

Guarantees: every visit gives the same bits, whichever blocks stay and however far is read ahead; at most the blocks
that stay, the one in use and the `prefetch` next ones are in memory, where one that is converted (to float32, by a LoRA
or on load to fewer bits) gives the memory that it was read into back before it is used. While a block is used, the next
is read by other threads; arrays are made in the thread that uses them.

What a block gave is gone when the next one is asked for: evaluate what was computed from it before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from weights.header import Signature
from weights.reader import OnRead
from weights.stream_form import Block, Form, converted, held
from weights.stream_slots import Slot
from weights.stream_sources import Pending, Source, source


@dataclass(frozen=True)
class _Ahead:
    """A block that is being read."""

    index: int
    pending: Pending
    slot: Slot


class BlockStream:
    """`with BlockStream(...) as stream: for weights in stream(): ...`, once per step.

    blocks: in their order. resident: how many of them stay; they are read on entering. visits: how often all blocks
    will be asked for; nothing is read ahead beyond the last. on_read: called from reading threads. beat: called about
    once a second while a block is waited for, and after each resident one.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        form: Form,
        *,
        resident: int,
        prefetch: int = 1,
        visits: int = 1,
        on_read: OnRead | None = None,
        beat: Callable[[], None] = lambda: None,
        reading: Source | None = None,
    ) -> None:
        self._blocks, self._form, self._prefetch, self._beat = blocks, form, max(0, prefetch), beat
        self._later = visits
        signatures: dict[Path, Signature] = {}
        for block in blocks:
            signatures |= block.signatures
        self._source: Source = reading or source(signatures, on_read=on_read)
        self._converted = [converted(block, form) for block in blocks]
        self._staying = resident_indices(len(blocks), resident)
        self._streamed = [index for index in range(len(blocks)) if index not in self._staying]
        self._resident: dict[int, dict[str, mx.array]] = {}
        direct = any(not self._converted[index] for index in self._streamed)
        self._slots = [Slot() for _ in range(self._prefetch + 1 if direct else max(1, self._prefetch))]
        self._ahead: deque[_Ahead] = deque()
        self._last: int | None = None
        self._visit: Generator[dict[str, mx.array], None, None] | None = None

    def __enter__(self) -> BlockStream:
        try:
            for index in self._staying:
                self._resident[index] = self._read_resident(index)
                self._beat()
            if not self._streamed:
                self._slots.clear()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends what is being read, and drops all memory."""
        self._drop_ahead()
        self._source.close()
        self._slots.clear()
        self._resident.clear()

    def __call__(self) -> Generator[dict[str, mx.array], None, None]:
        """One visit: each block's weights by their own names, in order. A dict is empty after its turn.

        A visit that was not finished ends when the next begins.
        """
        if self._visit is not None:
            self._visit.close()
        self._visit = self._visiting()
        return self._visit

    def _visiting(self) -> Generator[dict[str, mx.array], None, None]:
        self._later -= 1
        self._last = None
        if self._ahead and self._ahead[0].index != self._streamed[0]:  # the last visit was not finished
            self._drop_ahead()
        self._read_ahead()
        for index in range(len(self._blocks)):
            weights, slot = self._take(index) if index in self._streamed else (dict(self._resident[index]), None)
            try:
                yield weights
            finally:
                weights.clear()
                if slot is not None:
                    self._slots.append(slot)

    def _take(self, index: int) -> tuple[dict[str, mx.array], Slot | None]:
        """The block's weights, and the slot whose memory they share, if they do."""
        if not self._ahead:
            self._start(index)
        ahead = self._ahead.popleft()
        self._last = index
        shared = self._source.uses_slots and not self._converted[index]
        try:
            weights = self._held(index, ahead.pending, own=not shared)
        except BaseException:
            self._slots.append(ahead.slot)
            raise
        if not shared:
            self._slots.append(ahead.slot)
        self._read_ahead()
        return weights, ahead.slot if shared else None

    def _held(self, index: int, pending: Pending, own: bool) -> dict[str, mx.array]:
        try:
            raw = pending.arrays(self._beat)
        except BaseException:
            pending.abandon()
            raise
        return held(self._blocks[index], self._form, raw, own=own and self._source.uses_slots)

    def _read_ahead(self) -> None:
        while self._slots and len(self._ahead) < self._prefetch:
            following = self._following(self._ahead[-1].index if self._ahead else self._last)
            if following is None:
                return
            self._start(following)

    def _following(self, index: int | None) -> int | None:
        """The next block to read after this one: of this visit, or the first of another one to come."""
        if not self._streamed:
            return None
        place = 0 if index is None else self._streamed.index(index) + 1
        if place < len(self._streamed):
            return self._streamed[place]
        return self._streamed[0] if self._later > 0 and len(self._streamed) > len(self._ahead) else None

    def _start(self, index: int) -> None:
        slot = self._slots.pop()
        try:
            self._ahead.append(_Ahead(index, self._source.start(self._blocks[index].wanted, slot), slot))
        except BaseException:
            self._slots.append(slot)
            raise

    def _drop_ahead(self) -> None:
        while self._ahead:
            dropped = self._ahead.popleft()
            dropped.pending.abandon()
            self._slots.append(dropped.slot)

    def _read_resident(self, index: int) -> dict[str, mx.array]:
        """Into memory of its own, unless it is converted anyway."""
        slot = self._slots[-1] if self._converted[index] else Slot()
        pending = self._source.start(self._blocks[index].wanted, slot)
        return self._held(index, pending, own=self._converted[index])


def read_whole(
    block: Block, form: Form, *, on_read: OnRead | None = None, beat: Callable[[], None] = lambda: None
) -> dict[str, mx.array]:
    """What stays for the whole run, in the same form as the blocks: the weights beside them, or a whole network."""
    with BlockStream([block], form, resident=1, on_read=on_read, beat=beat) as stream:
        return dict(next(stream()))


def resident_indices(blocks: int, resident: int) -> tuple[int, ...]:
    """Which blocks stay: spread evenly, from the first on, so that each block that is read has the compute of others to
    hide behind, where a row of streamed ones at the end would wait for the disk."""
    count = max(0, min(blocks, resident))
    return tuple(index * blocks // count for index in range(count))
