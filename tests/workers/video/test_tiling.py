"""Geometry of tiles: whatever the sizes, everything is covered once, and frames come out in order."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from weights.errors import UsageError
from workers.video.tiling import (
    Box,
    Floats,
    Grid,
    Span,
    TileSizes,
    decode_grid,
    decode_tiles,
    encode_grid,
    encode_tiles,
)

LENGTHS = st.integers(1, 40)
SPATIAL = st.tuples(st.integers(2, 12), st.integers(0, 11)).filter(lambda pair: pair[1] < pair[0])
SIZES = st.builds(
    lambda space, time, tile_space, tile_time: TileSizes(
        32 * space[0] if tile_space else None, 32 * space[1], 8 * time[0] if tile_time else None, 8 * time[1]
    ),
    SPATIAL,
    SPATIAL,
    st.booleans(),
    st.booleans(),
)


def axes(grid: Grid) -> tuple[tuple[Span, ...], ...]:
    return grid.time, grid.rows, grid.columns


def total(spans: tuple[Span, ...]) -> Floats:
    result = np.zeros(spans[-1].target.stop, np.float32)
    for span in spans:
        assert len(span.share) == span.target.stop - span.target.start
        assert (span.share >= 0).all()
        result[span.target] += span.share
    return result


@given(LENGTHS, LENGTHS, LENGTHS, SIZES)
def test_decoding_covers_everything_once(frames: int, height: int, width: int, sizes: TileSizes) -> None:
    grid = decode_grid(frames, height, width, sizes)
    assert grid.size == (8 * frames - 7, 32 * height, 32 * width)
    for spans, length in zip(axes(grid), (frames, height, width), strict=True):
        np.testing.assert_allclose(total(spans), 1, atol=1e-6)
        assert spans[0].source.start == 0
        assert spans[-1].source.stop == length
        assert all(a.source.start <= b.source.start <= a.source.stop for a, b in pairwise(spans))
    assert all(span.target.stop - span.target.start == 8 * size(span) - 7 for span in grid.time)
    assert all(span.target == slice(32 * span.source.start, 32 * span.source.stop) for span in grid.rows)
    assert sum(grid.chunks()) == 8 * frames - 7
    assert min(grid.chunks()) >= 0


@given(LENGTHS, LENGTHS, LENGTHS, SIZES)
def test_no_tile_is_larger_than_asked(frames: int, height: int, width: int, sizes: TileSizes) -> None:
    """A later temporal tile begins one latent earlier; the shorter side may need overlap + 1."""
    grid = decode_grid(frames, height, width, sizes)
    if sizes.temporal is not None:
        assert max(map(size, grid.time)) <= sizes.temporal // 8 + 1
        assert size(grid.time[0]) <= sizes.temporal // 8
    if sizes.spatial is not None:
        assert max(map(size, (*grid.rows, *grid.columns))) <= sizes.spatial // 32


@given(LENGTHS, LENGTHS, LENGTHS, SIZES)
def test_encoding_covers_everything(latent_frames: int, height: int, width: int, sizes: TileSizes) -> None:
    assume((sizes.spatial or 999) > max(64, sizes.spatial_overlap))
    assume((sizes.temporal or 999) > max(16, sizes.temporal_overlap))
    frames = 8 * latent_frames - 7
    grid = encode_grid(frames, 32 * height, 32 * width, sizes)
    assert grid.size == (latent_frames, height, width)
    for spans, length in zip(axes(grid), (frames, 32 * height, 32 * width), strict=True):
        np.testing.assert_allclose(total(spans), 1, atol=1e-6)
        assert spans[-1].source.stop == length
    assert all(size(span) % 8 == 1 for span in grid.time)
    assert all(span.target.stop - span.target.start == (size(span) - 1) // 8 + 1 for span in grid.time)
    assert all(size(span) % 32 == 0 for span in (*grid.rows, *grid.columns))


def size(span: Span) -> int:
    return int(span.source.stop - span.source.start)


def test_the_reference_example() -> None:
    """Latent 16x16x24 with the default sizes, as ltx-core 1.0.0 cuts it."""
    grid = decode_grid(16, 16, 24, TileSizes())
    assert [(s.source.start, s.source.stop) for s in grid.time] == [(0, 8), (4, 13), (9, 16)]
    assert [(s.source.start, s.source.stop) for s in grid.rows] == [(0, 11), (9, 16)]
    assert [(s.source.start, s.source.stop) for s in grid.columns] == [(0, 16), (14, 24)]
    assert [(s.target.start, s.target.stop) for s in grid.time] == [(0, 57), (32, 97), (72, 121)]
    assert grid.count == 12
    assert grid.chunks() == [32, 40, 49]


def test_without_sizes_there_is_one_tile() -> None:
    assert decode_grid(9, 5, 7, None).count == 1
    assert encode_grid(65, 160, 224, None).count == 1
    assert decode_grid(9, 5, 7, TileSizes(224, 64, 72, 24)).count == 1


def test_a_later_temporal_tile_fades_in_from_nothing() -> None:
    """Its first frame is made from a latent that stands for eight frames elsewhere."""
    first, second = decode_grid(6, 1, 1, TileSizes(None, 0, 32, 16)).time
    assert second.share[0] == 0
    assert first.share[0] == 1
    assert (np.diff(second.share[: 1 + 8 + 1]) > 0).all()


@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 6), SIZES)
def test_blending_equal_pictures_gives_the_picture(frames: int, height: int, width: int, sizes: TileSizes) -> None:
    """Tiles that agree where they overlap: the result is exactly that picture, in chunks of the stated lengths."""
    grid = decode_grid(frames, height, width, sizes)
    assume(grid.count <= 60)
    # Cheap pixels: the geometry of the full size, with every 32nd row and column looked at.
    ramp = np.arange(8 * frames - 7, dtype=np.float32)[:, None, None, None]
    plane = np.arange(32 * height, dtype=np.float32)[:, None, None] / 8 + np.arange(32 * width)[:, None] / 16

    def tile(box: Box) -> Floats:
        t, h, w = box
        pixels = ramp[8 * t.start : 8 * t.stop - 7] + plane[32 * h.start : 32 * h.stop, 32 * w.start : 32 * w.stop]
        return np.repeat(pixels, 3, axis=-1).astype(np.float32)

    chunks = list(decode_tiles(tile, grid))
    assert [len(chunk) for chunk in chunks] == [count for count in grid.chunks() if count]
    expected = np.repeat(ramp + plane, 3, axis=-1)
    np.testing.assert_allclose(np.concatenate(chunks), expected, rtol=1e-5, atol=1e-4)


def test_frames_come_before_later_tiles_are_decoded() -> None:
    grid = decode_grid(9, 1, 3, TileSizes(64, 32, 24, 8))
    assert grid.count > len(grid.time) > 1
    decoded: list[Box] = []

    def tile(box: Box) -> Floats:
        decoded.append(box)
        t, h, w = box
        return np.zeros((8 * (t.stop - t.start) - 7, 32 * (h.stop - h.start), 32 * (w.stop - w.start), 3), np.float32)

    chunks = decode_tiles(tile, grid)
    next(chunks)
    assert len(decoded) == len(grid.rows) * len(grid.columns)
    assert sum(map(len, chunks)) == 65 - grid.chunks()[0]


def test_encoded_tiles_are_put_where_they_belong() -> None:
    grid = encode_grid(41, 192, 256, TileSizes(128, 64, 24, 16))
    assert grid.count > 8

    def tile(box: Box) -> Floats:
        t, h, w = (
            np.arange(s.start // d, -(-s.stop // d), dtype=np.float32) for s, d in zip(box, (8, 32, 32), strict=True)
        )
        return (10000 * t[:, None, None] + 100 * h[:, None] + w)[..., None]

    t, h, w = (np.arange(n, dtype=np.float32) for n in grid.size)
    np.testing.assert_allclose(encode_tiles(tile, grid)[..., 0], 10000 * t[:, None, None] + 100 * h[:, None] + w)


@pytest.mark.parametrize(
    ("sizes", "word"),
    [
        ((32, 0, 64, 24), "spatial tile"),
        ((100, 0, 64, 24), "spatial tile"),
        ((512, 48, 64, 24), "spatial overlap"),
        ((128, 128, 64, 24), "spatial overlap"),
        ((512, -32, 64, 24), "spatial overlap"),
        ((512, 64, 8, 0), "temporal tile"),
        ((512, 64, 65, 24), "temporal tile"),
        ((512, 64, 64, 12), "temporal overlap"),
        ((512, 64, 16, 16), "temporal overlap"),
    ],
)
def test_sizes_that_cannot_be(sizes: tuple[int, int, int, int], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        TileSizes(*sizes)


def test_tiles_too_small_to_encode_with() -> None:
    with pytest.raises(UsageError, match="overlap"):
        encode_grid(9, 128, 128, TileSizes(64, 32, None, 0))


@given(LENGTHS, st.integers(1, 3), SIZES, st.integers(0, 12))
def test_pieces_may_be_left_out_at_the_beginning(frames: int, width: int, sizes: TileSizes, begin: int) -> None:
    """To the bit, and no tile is decoded that none of the wanted frames sees."""
    grid = decode_grid(frames, 2, width, sizes)
    seen: list[Box] = []

    def decode(box: Box) -> Floats:
        seen.append(box)
        time, rows, columns = box
        shape = (8 * (time.stop - time.start) - 7, 32 * (rows.stop - rows.start), 32 * (columns.stop - columns.start))
        return np.random.default_rng(time.start + 100 * columns.start).random((*shape, 3), dtype=np.float32)

    whole = list(decode_tiles(decode, grid))
    seen.clear()
    rest = list(decode_tiles(decode, grid, begin))
    assert len(rest) == len(whole[begin:])
    assert all((one == other).all() for one, other in zip(rest, whole[begin:], strict=True))
    start = sum(map(len, whole[:begin]))
    needed = [span for span in grid.time if span.target.stop > start and rest]
    assert len(seen) == len(needed) * len(grid.rows) * len(grid.columns)
