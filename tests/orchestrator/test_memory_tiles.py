"""The ladder of tiles: the geometry is the decoder's own, and the choice depends on nothing that may change."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.memory_tiles import (
    GB,
    Tiles,
    choose,
    choose_encode,
    cut,
    encode_cut,
    encode_normal,
    ladder,
    normal,
    smaller,
    stated_budget,
    with_overlaps,
    work,
)
from orchestrator.sizes import LatentShape
from weights.errors import UsageError
from workers.video.tiling import TileSizes, decode_grid, encode_grid

LATENTS = st.builds(LatentShape, st.integers(1, 40), st.integers(1, 70), st.integers(1, 120))
TILES = st.builds(
    with_overlaps, st.sampled_from([0, 64, 96, 128, 256, 512, 1024]), st.sampled_from([0, 16, 24, 32, 64, 128])
)


def cells(tiles: Tiles, latent: LatentShape) -> int:
    """A peak that grows with the tile, as the model's does."""
    tile = cut(latent, tiles).tile
    return tile.frames * tile.height * tile.width


@settings(max_examples=300, deadline=None)
@given(LATENTS, TILES)
def test_the_cut_is_the_decoders_own(latent: LatentShape, tiles: Tiles) -> None:
    grid = decode_grid(latent.frames, latent.height, latent.width, TileSizes(**tiles.as_params()))
    found = cut(latent, tiles)
    axes = (grid.time, grid.rows, grid.columns)
    assert found.along == tuple(map(len, axes))
    assert found.count == grid.count
    sides = [[span.source.stop - span.source.start for span in axis] for axis in axes]
    assert found.tile == LatentShape(*map(max, sides))
    assert found.cells == sum(sides[0]) * sum(sides[1]) * sum(sides[2])
    rows = [span.target.stop - span.target.start for span in grid.time]
    assert found.row_frames == max(rows)
    assert found.done == max(grid.chunks())
    assert found.carried == max(row - done for row, done in zip(rows, grid.chunks(), strict=True))


@settings(max_examples=100, deadline=None)
@given(LATENTS, TILES)
def test_tiles_are_written_one_way_only(latent: LatentShape, tiles: Tiles) -> None:
    """What one tile covers is whole, so that two ways to say the same thing have one key."""
    one = normal(latent, tiles)
    assert normal(latent, one) == one
    assert cut(latent, one).along == cut(latent, tiles).along
    assert cut(latent, one).cells == cut(latent, tiles).cells
    assert (one.temporal is None) == (cut(latent, tiles).along[0] == 1)
    assert Tiles.from_recipe(one.as_recipe()) == one


@settings(max_examples=100, deadline=None)
@given(LATENTS, st.integers(1, 40_000), st.integers(1, 40_000))
def test_more_memory_never_means_more_work(latent: LatentShape, small: int, large: int) -> None:
    small, large = sorted((small, large))
    few, many = (choose(latent, lambda tiles: cells(tiles, latent), size) for size in (small, large))
    least = min(cells(tiles, latent) for tiles in ladder(latent))
    if least <= small:
        assert work(latent, many) <= work(latent, few)
        assert cells(few, latent) <= small
        assert work(latent, few) == min(work(latent, one) for one in ladder(latent) if cells(one, latent) <= small)
    if least > large:
        assert cells(many, latent) == least, "the last resort"


@settings(max_examples=60, deadline=None)
@given(LATENTS)
def test_smaller_tiles_come_to_an_end(latent: LatentShape) -> None:
    tiles: Tiles | None = choose(latent, lambda tiles: cells(tiles, latent), 1 << 60)
    seen = []
    while tiles is not None:
        seen.append(cells(tiles, latent))
        assert len(seen) < 100
        tiles = smaller(latent, lambda tiles: cells(tiles, latent), tiles)
    assert seen == sorted(set(seen), reverse=True)
    assert seen[-1] == min(cells(tiles, latent) for tiles in ladder(latent))


@pytest.mark.parametrize(
    ("memory", "stated"),
    [
        (23.54, 24),  # a machine sold with 24 GB, as Linux reports it
        (24, 24),
        (21, 16),
        (512, 64),
        (9, 8),
        (1, 2),
    ],
)
def test_tiles_are_chosen_for_what_a_machine_was_sold_with(memory: float, stated: int) -> None:
    assert stated_budget(None, int(memory * GB), 1.0) == stated * GB
    assert stated_budget(None, int(memory * GB), 0.5) == stated * GB // 2


def test_what_was_asked_for_is_the_budget() -> None:
    assert stated_budget(7 * GB, 64 * GB, 0.5) == 7 * GB


def test_a_long_video_is_never_one_piece_in_time() -> None:
    for tiles in ladder(LatentShape(25, 30, 44)):
        assert tiles.temporal is not None
    assert any(tiles.temporal is None for tiles in ladder(LatentShape(13, 30, 44)))


@pytest.mark.parametrize("numbers", [(500, 64, 64, 24), (512, 64, 63, 24), (32, 0, 64, 24), (512, 512, 64, 24), (1, 2)])
def test_a_recipe_with_impossible_tiles_is_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"tiles of|values to unpack"):
        Tiles.from_recipe(numbers)


@settings(max_examples=300, deadline=None)
@given(LATENTS, TILES)
def test_the_cut_of_encoding_is_the_encoders_own(latent: LatentShape, tiles: Tiles) -> None:
    frames, height, width = 8 * (latent.frames - 1) + 1, 32 * latent.height, 32 * latent.width
    try:
        grid = encode_grid(frames, height, width, TileSizes(**tiles.as_params()))
    except UsageError:
        return  # too small for the overlap, and not among what is chosen from
    found = encode_cut(latent, tiles)
    axes = (grid.time, grid.rows, grid.columns)
    assert found.along == tuple(map(len, axes))
    lengths = [max(span.source.stop - span.source.start for span in axis) for axis in axes]
    assert found.tile == LatentShape((lengths[0] - 1) // 8 + 1, lengths[1] // 32, lengths[2] // 32)


@given(LATENTS, st.integers(0, 10**6))
def test_encoding_is_cut_so_that_it_fits_or_as_small_as_can_be(latent: LatentShape, budget: int) -> None:
    def peak(tiles: Tiles) -> int:
        tile = encode_cut(latent, tiles).tile
        return tile.frames * tile.height * tile.width

    chosen = choose_encode(latent, peak, budget)
    encode_grid(8 * (latent.frames - 1) + 1, 32 * latent.height, 32 * latent.width, TileSizes(**chosen.as_params()))
    assert encode_normal(latent, chosen) == chosen
    if peak(chosen) > budget:
        assert peak(chosen) <= peak(Tiles(256, 64, 32, 16))
