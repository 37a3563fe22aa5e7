"""Which frames of a video are computed together. Pure arithmetic.

A video is cut into chunks of one length that overlap; the last one is as long as what is left. Each is encoded,
upsampled and decoded for itself, so memory does not grow with the video's length. Where two chunks overlap the result
fades from one to the other; a piece of the finished video begins where its chunk does.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.sizes import FRAME_GRID
from weights.errors import UsageError

LENGTHS = (97, 73, 49, 41)
"""Frames of a chunk, the first that fits: 8k + 1, and so many that no frame is in three chunks."""
LEAST, MOST = LENGTHS[-1], 513
OVERLAP = 17
"""Frames that two chunks share."""


@dataclass(frozen=True)
class Chunk:
    """`frames` of the video from `start` on."""

    start: int
    frames: int

    @property
    def padded(self) -> int:
        """8k + 1, as the encoder takes them."""
        return padded(self.frames)

    @property
    def stop(self) -> int:
        return self.start + self.frames


@dataclass(frozen=True)
class Piece:
    """What is written of a chunk's result, counted in frames of the result.

    start: the number of the first frame. write: so many frames are in its file; keep: so many after those are for the
    next piece to fade from. shared: so many at its beginning the chunk before has too.
    """

    start: int
    write: int
    keep: int
    shared: int


def check_length(frames: int) -> None:
    """UsageError unless chunks can be so long."""
    if frames % FRAME_GRID != 1 or not LEAST <= frames <= MOST:
        raise UsageError(f"--chunk {frames} cannot be: it must be of the form 8k+1, from {LEAST} to {MOST}.")


def padded(frames: int) -> int:
    """8k + 1, and at least 9: an upsampler that is given a single latent frame makes a poor picture of it."""
    return max(1, -(-(frames - 1) // FRAME_GRID)) * FRAME_GRID + 1


def cut(total: int, length: int, overlap: int = OVERLAP) -> tuple[Chunk, ...]:
    """Chunks of `length` that share `overlap` frames, in order. ValueError when there can be none."""
    if total < 1 or not 0 < overlap < length or length % FRAME_GRID != 1:
        raise ValueError(f"{total} frames cannot be cut into chunks of {length} that share {overlap}")
    step, found = length - overlap, [Chunk(0, min(total, length))]
    while found[-1].stop < total:
        start = found[-1].start + step
        found.append(Chunk(start, min(length, total - start)))
    return tuple(found)


def pieces(chunks: tuple[Chunk, ...], factor: int) -> tuple[Piece, ...]:
    """What is written of each. factor: 2 where frames are put between frames (n become 2n - 1), else 1."""
    made = []
    for index, chunk in enumerate(chunks):
        result = factor * (chunk.frames - 1) + 1
        after = chunks[index + 1] if index + 1 < len(chunks) else None
        before = chunks[index - 1] if index else None
        write = result if after is None else factor * (after.start - chunk.start)
        shared = 0 if before is None else factor * (before.stop - 1 - chunk.start) + 1
        made.append(Piece(factor * chunk.start, write, result - write, shared))
    return tuple(made)


def result_frames(total: int, factor: int) -> int:
    return factor * (total - 1) + 1
