"""Cutting a video into overlapping tiles for the VAE, and putting the results together (ltx-core 1.0.0's rules).

Pure geometry and numpy: the network is a function from a box of the input to the pixels or latents of that box.
Guarantees: every frame and pixel of the result is covered, the weights of all tiles at a position sum to 1, and
decoded frames come out in order as soon as no later tile touches them; one temporal row of tiles is held at a time.
Not guaranteed: that tiles give the picture of a whole decode. The network sees less around a tile's border.

Decoding blends with ramps. Temporal tiles after the first begin one latent earlier,
because the first latent of whatever is decoded becomes one frame and not eight. Encoding cuts and concatenates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weights.architecture.vae import SPACE_SCALE, TIME_SCALE
from weights.errors import UsageError

Floats = NDArray[np.float32]
Box = tuple[slice, slice, slice]
"""Frames, rows and columns of the input: latents when decoding, pixels when encoding."""


@dataclass(frozen=True)
class TileSizes:
    """Pixels along the longer side, and frames; None leaves that axis whole. The defaults are ltx-core 1.0.0's."""

    spatial: int | None = 512
    spatial_overlap: int = 64
    temporal: int | None = 64
    temporal_overlap: int = 24

    def __post_init__(self) -> None:
        for axis, size, overlap, unit, least in (
            ("spatial", self.spatial, self.spatial_overlap, SPACE_SCALE, 2 * SPACE_SCALE),
            ("temporal", self.temporal, self.temporal_overlap, TIME_SCALE, 2 * TIME_SCALE),
        ):
            if size is None:
                continue
            if size < least or size % unit:
                raise UsageError(f"The {axis} tile size is {size}; it must be a multiple of {unit} from {least} on.")
            if not 0 <= overlap < size or overlap % unit:
                raise UsageError(
                    f"The {axis} overlap of tiles is {overlap}; "
                    f"it must be a multiple of {unit} below the tile size {size}."
                )


@dataclass(frozen=True, eq=False)
class Span:
    """One tile along one axis: what it reads, where its result goes, and its share there, in [0, 1]."""

    source: slice
    target: slice
    share: Floats


@dataclass(frozen=True)
class Grid:
    """Tiles along frames, rows and columns; every combination is a tile. `size`: of the result."""

    time: tuple[Span, ...]
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @property
    def count(self) -> int:
        return len(self.time) * len(self.rows) * len(self.columns)

    @property
    def size(self) -> tuple[int, int, int]:
        return self.time[-1].target.stop, self.rows[-1].target.stop, self.columns[-1].target.stop

    def chunks(self) -> list[int]:
        """How many frames are finished after each temporal row of tiles; 0 where two begin with the same latent."""
        starts = [span.target.start for span in self.time]
        return [after - start for start, after in zip(starts, [*starts[1:], self.size[0]], strict=True)]

    def left(self, begin: int) -> tuple[int, tuple[int, ...]]:
        """Without the first `begin` chunks: the first temporal row that is needed, and the rows that finish chunks."""
        wanted = tuple(row for row, done in enumerate(self.chunks()) if done)[begin:]
        if not wanted:
            return len(self.time), ()
        start = self.time[wanted[0]].target.start
        return next(row for row, span in enumerate(self.time) if span.target.stop > start), wanted


def decode_grid(frames: int, height: int, width: int, sizes: TileSizes | None) -> Grid:
    """Tiles of a latent of that size. The longer side gets the tile size, the other one its share of it."""
    sizes = sizes or TileSizes(spatial=None, temporal=None)
    longer = max(height, width)
    overlap = sizes.spatial_overlap // SPACE_SCALE

    def space(length: int) -> tuple[Span, ...]:
        if sizes.spatial is None:
            return _normalised([_pixels(_Interval(0, length))])
        size = max(2, overlap + 1, round(sizes.spatial // SPACE_SCALE * length / longer))
        return _normalised([_pixels(interval) for interval in _intervals(length, size, overlap)])

    intervals = [_Interval(0, frames)]
    if sizes.temporal is not None:
        intervals = _intervals(frames, sizes.temporal // TIME_SCALE, sizes.temporal_overlap // TIME_SCALE)
    time = [_frames(_Interval(i.start - 1, i.stop, i.left + 1, i.right) if i.start else i) for i in intervals]
    return Grid(_normalised(time), space(height), space(width))


def encode_grid(frames: int, height: int, width: int, sizes: TileSizes | None) -> Grid:
    """Tiles of 8k + 1 frames of that size. Overlaps are at least 64 pixels and 16 frames, as the encoder needs."""
    sizes = sizes or TileSizes(spatial=None, temporal=None)

    def space(length: int) -> tuple[Span, ...]:
        overlap = max(2 * SPACE_SCALE, sizes.spatial_overlap)
        return _normalised([_cut_space(i) for i in _checked_intervals(length, sizes.spatial, overlap)])

    overlap = max(2 * TIME_SCALE, sizes.temporal_overlap)
    time = [_cut_time(i, frames) for i in _checked_intervals(frames, sizes.temporal, overlap)]
    return Grid(_normalised(time), space(height), space(width))


def decode_tiles(decode: Callable[[Box], Floats], grid: Grid, begin: int = 0) -> Iterator[Floats]:
    """Finished frames [n, height, width, 3] in order; `grid.chunks()` says how many at a time, and none is empty.

    decode: a box of latents -> its pixels [frames, height, width, 3]. With `begin`, the first so many pieces are left
    out; the others are the same to the bit, and only tiles that they see are decoded.
    """
    first, wanted = grid.left(begin)
    if not wanted:
        return
    if grid.count == 1:
        yield decode((grid.time[0].source, grid.rows[0].source, grid.columns[0].source))
        return
    _, height, width = grid.size
    carried = np.zeros((0, height, width, 3), np.float32)
    for row, (time, done) in enumerate(zip(grid.time, grid.chunks(), strict=True)):
        if row < first:
            continue
        frames = np.zeros((time.target.stop - time.target.start, height, width, 3), np.float32)
        frames[: len(carried)] = carried
        carried = carried[:0].copy()  # not two of them while the tiles are decoded
        for rows in grid.rows:
            for columns in grid.columns:
                part = decode((time.source, rows.source, columns.source))
                _blend(frames, part, (time, rows, columns))
                del part
        carried = frames[done:].copy()
        if row in wanted:
            yield frames[:done]
        del frames


def encode_tiles(encode: Callable[[Box], Floats], grid: Grid) -> Floats:
    """The latent [frames, height, width, channels] of the whole video; encode: a box of pixels -> its latents."""
    if grid.count == 1:
        return encode((grid.time[0].source, grid.rows[0].source, grid.columns[0].source))
    result: Floats | None = None
    for time in grid.time:
        for rows in grid.rows:
            for columns in grid.columns:
                part = encode((time.source, rows.source, columns.source))
                if result is None:
                    result = np.zeros((*grid.size, part.shape[-1]), np.float32)
                _blend(result[time.target], part, (time, rows, columns))
    assert result is not None
    return result


@dataclass(frozen=True)
class _Interval:
    """start to stop of one axis of the input, with the lengths of the ramps inside it."""

    start: int
    stop: int
    left: int = 0
    right: int = 0


def _intervals(length: int, size: int, overlap: int) -> list[_Interval]:
    """Tiles of `size`, each beginning size - overlap after the last one; the final one ends with the axis."""
    if length <= size:
        return [_Interval(0, length)]
    step = size - overlap
    count = (length + size - 2 * overlap - 1) // step
    return [
        _Interval(
            start=i * step,
            stop=length if i == count - 1 else i * step + size,
            left=overlap if i else 0,
            right=0 if i == count - 1 else overlap,
        )
        for i in range(count)
    ]


def _checked_intervals(length: int, size: int | None, overlap: int) -> list[_Interval]:
    if size is None:
        return [_Interval(0, length)]
    if overlap >= size:
        raise UsageError(f"Tiles of {size} are too small to encode with; they must overlap by {overlap}.")
    return _intervals(length, size, overlap)


def _pixels(interval: _Interval) -> Span:
    """Latent rows or columns to pixels."""
    target = slice(interval.start * SPACE_SCALE, interval.stop * SPACE_SCALE)
    left, right = interval.left * SPACE_SCALE, interval.right * SPACE_SCALE
    rising = np.linspace(0, 1, left + 2)[1:-1]
    return Span(slice(interval.start, interval.stop), target, _trapezoid(target, rising, right))


def _frames(interval: _Interval) -> Span:
    """Latent frames to frames. A ramp at the beginning starts at 0: that frame is the odd one of its tile."""
    target = slice(interval.start * TIME_SCALE, 1 + (interval.stop - 1) * TIME_SCALE)
    left = 1 + (interval.left - 1) * TIME_SCALE if interval.left else 0
    rising = np.linspace(0, 1, left + 1)[:-1]
    return Span(slice(interval.start, interval.stop), target, _trapezoid(target, rising, interval.right * TIME_SCALE))


def _trapezoid(target: slice, rising: NDArray[np.float64], right: int) -> Floats:
    share = np.ones(target.stop - target.start)
    share[: len(rising)] *= rising[: len(share)]
    right = min(right, len(share))
    if right:
        share[-right:] *= np.linspace(1, 0, right + 2)[1:-1]
    return share.astype(np.float32)


def _cut_space(interval: _Interval) -> Span:
    """Pixel rows or columns to latents: the earlier tile loses its last latent, the later one all others shared."""
    target = slice(interval.start // SPACE_SCALE, interval.stop // SPACE_SCALE)
    left = max(0, interval.left // SPACE_SCALE - 1)
    return _cut(interval, target, left, 1 if interval.right else 0)


def _cut_time(interval: _Interval, frames: int) -> Span:
    """Frames to latents: a tile that is not the last reads one frame more, so that it has 8k + 1 of them."""
    stop = min(frames, interval.stop + 1)
    target = slice(interval.start // TIME_SCALE, (stop - 1) // TIME_SCALE + 1)
    left = 1 + (interval.left - 1) // TIME_SCALE if interval.left else 0
    return _cut(_Interval(interval.start, stop), target, left, 0)


def _cut(interval: _Interval, target: slice, left: int, right: int) -> Span:
    share = np.ones(target.stop - target.start, np.float32)
    share[:left] = 0
    share[len(share) - right :] = 0
    return Span(slice(interval.start, interval.stop), target, share)


def _normalised(spans: list[Span]) -> tuple[Span, ...]:
    """Shares that sum to 1 at every position. The tiles form a grid, so it holds for their products as well."""
    total = np.zeros(spans[-1].target.stop, np.float32)
    for span in spans:
        total[span.target] += span.share
    return tuple(Span(s.source, s.target, np.divide(s.share, total[s.target], dtype=np.float32)) for s in spans)


def _blend(result: Floats, part: Floats, tile: tuple[Span, Span, Span]) -> None:
    """Adds the tile's part, weighted; frame by frame, so that no second array of its size is needed."""
    time, rows, columns = tile
    plane = (rows.share[:, None] * columns.share)[..., None]
    for frame, share in enumerate(time.share):
        result[frame, rows.target, columns.target] += part[frame] * (share * plane)
