"""How a decode is cut into tiles: the geometry as numbers, and the ladder of tile sizes.

Tiles change bits, so they are chosen by what is in a recipe, in the weights' headers and in the *stated* budget alone:
`--memory`, or the machine's memory rounded down to a usual size. What happens to be free, and what earlier runs took,
have no say. Axes that one tile covers are `None`, so that machines whose tiles do not differ share results.

The geometry is that of `workers.video.tiling` (ltx-core 1.0.0's), which a test compares; here it is arithmetic, because
the orchestrator imports no numpy for a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from orchestrator.sizes import FRAME_GRID, GRID, LatentShape

GB = 1 << 30
STATED = tuple(size * GB for size in (2, 4, 8, 16, 24, 32, 48, 64))
"""Memory as machines are sold. More than the last counts as the last: nothing gets better beyond it."""
SOLD_AS = 0.93
"""A machine sold with 24 GB reports a little less, where the firmware or the kernel keeps some."""

SPATIAL: tuple[tuple[int | None, int], ...] = (
    (None, 64),
    (1280, 64),
    (1024, 64),
    (768, 64),
    (640, 64),
    (512, 64),
    (384, 64),
    (320, 64),
    (256, 64),
    (192, 64),
    (128, 32),
)
"""Pixels along the longer side, and overlap. Below 256 the overlap is most of the work; it is the last resort."""
TEMPORAL: tuple[tuple[int | None, int], ...] = ((128, 24), (96, 24), (64, 24), (48, 16), (32, 16), (16, 8))
"""Frames, and overlap. Never a whole long video: its frames would all be in memory at once."""
_WHOLE = 64, 24
"""Overlaps that stand for axes which one tile covers."""


@dataclass(frozen=True)
class Tiles:
    """Sizes as `workers.video.tiling.TileSizes` takes them; None leaves an axis whole."""

    spatial: int | None
    spatial_overlap: int
    temporal: int | None
    temporal_overlap: int

    def as_params(self) -> dict[str, int | None]:
        return {
            "spatial": self.spatial,
            "spatial_overlap": self.spatial_overlap,
            "temporal": self.temporal,
            "temporal_overlap": self.temporal_overlap,
        }

    def as_recipe(self) -> tuple[int, ...]:
        """Four numbers, 0 for an axis that is whole."""
        return (self.spatial or 0, self.spatial_overlap, self.temporal or 0, self.temporal_overlap)

    @staticmethod
    def from_recipe(numbers: tuple[int, ...]) -> Tiles:
        """ValueError for what no tiles can be."""
        spatial, spatial_overlap, temporal, temporal_overlap = numbers
        for size, overlap, unit in ((spatial, spatial_overlap, GRID), (temporal, temporal_overlap, FRAME_GRID)):
            if size and (size < 2 * unit or size % unit or not 0 <= overlap < size or overlap % unit):
                raise ValueError(f"tiles of {size} with an overlap of {overlap} are not possible")
        return Tiles(spatial or None, spatial_overlap, temporal or None, temporal_overlap)


def with_overlaps(pixels: int, frames: int) -> Tiles:
    """Tiles of a size (0: whole) with the overlaps that the ladder has for such sizes."""
    space = next((overlap for size, overlap in SPATIAL if size is not None and pixels >= size), SPATIAL[-1][1])
    time = next((overlap for size, overlap in TEMPORAL if size is not None and frames >= size), TEMPORAL[-1][1])
    return Tiles(pixels or None, space if pixels else _WHOLE[0], frames or None, time if frames else _WHOLE[1])


@dataclass(frozen=True)
class Cut:
    """What tiles make of a latent. Cells of the largest tile; tiles along each axis; cells in all tiles together.

    row_frames: frames of the longest temporal row of tiles. carried: of them not finished when the row is.
    done: the most frames that are finished at once.
    """

    tile: LatentShape
    along: tuple[int, int, int]
    cells: int
    row_frames: int
    carried: int
    done: int

    @property
    def count(self) -> int:
        return self.along[0] * self.along[1] * self.along[2]


def cut(latent: LatentShape, tiles: Tiles) -> Cut:
    """The grid of a latent of that size."""
    longer = max(latent.height, latent.width)

    def space(length: int) -> list[tuple[int, int]]:
        if tiles.spatial is None:
            return [(0, length)]
        overlap = tiles.spatial_overlap // GRID
        return intervals(length, max(2, overlap + 1, round(tiles.spatial // GRID * length / longer)), overlap)

    time = [(0, latent.frames)]
    if tiles.temporal is not None:
        time = intervals(latent.frames, tiles.temporal // FRAME_GRID, tiles.temporal_overlap // FRAME_GRID)
    time = [(max(0, start - 1), stop) for start, stop in time]
    rows, columns = space(latent.height), space(latent.width)
    starts = [start * FRAME_GRID for start, _ in time]
    ends = [1 + (stop - 1) * FRAME_GRID for _, stop in time]
    done = [after - start for start, after in zip(starts, [*starts[1:], ends[-1]], strict=True)]
    return Cut(
        tile=LatentShape(longest(time), longest(rows), longest(columns)),
        along=(len(time), len(rows), len(columns)),
        cells=total(time) * total(rows) * total(columns),
        row_frames=max(end - start for start, end in zip(starts, ends, strict=True)),
        carried=max(end - start - n for start, end, n in zip(starts, ends, done, strict=True)),
        done=max(done),
    )


def encode_cut(latent: LatentShape, tiles: Tiles) -> Cut:
    """The same for encoding frames to a latent of that size: the tile size goes for both sides, overlaps are at least
    two positions, and a tile that is not the last reads a frame more. Frames that are put together: none."""
    space = max(2, tiles.spatial_overlap // GRID)
    time = max(2, tiles.temporal_overlap // FRAME_GRID)

    def along(length: int, size: int | None, unit: int, overlap: int) -> list[tuple[int, int]]:
        return [(0, length)] if size is None else intervals(length, size // unit, overlap)

    rows = along(latent.height, tiles.spatial, GRID, space)
    columns = along(latent.width, tiles.spatial, GRID, space)
    frames = (latent.frames - 1) * FRAME_GRID + 1
    spans = [(0, frames)]
    if tiles.temporal is not None:
        spans = intervals(frames, tiles.temporal, time * FRAME_GRID)
    chunks = [(start, (min(frames, stop + 1) - 1 - start) // FRAME_GRID + 1 + start) for start, stop in spans]
    return Cut(
        tile=LatentShape(longest(chunks), longest(rows), longest(columns)),
        along=(len(chunks), len(rows), len(columns)),
        cells=total(chunks) * total(rows) * total(columns),
        row_frames=0,
        carried=0,
        done=0,
    )


def choose_encode(latent: LatentShape, peak: Callable[[Tiles], int], budget: int) -> Tiles:
    """As `choose`, for encoding. Its overlaps leave out the smallest tiles of the ladder."""

    def work_of(tiles: Tiles) -> tuple[int, int]:
        found = encode_cut(latent, tiles)
        return found.cells, found.count

    candidates = {
        encode_normal(latent, Tiles(spatial, space, temporal, time)): None
        for spatial, space in SPATIAL
        for temporal, time in TEMPORAL
        if temporal is None or temporal >= 4 * FRAME_GRID
    }
    fitting = [tiles for tiles in candidates if peak(tiles) <= budget]
    return min(fitting, key=work_of) if fitting else min(candidates, key=peak)


def encode_normal(latent: LatentShape, tiles: Tiles) -> Tiles:
    """As `normal`, for encoding."""
    found = encode_cut(latent, tiles)
    if found.along[1:] == (1, 1):
        tiles = replace(tiles, spatial=None, spatial_overlap=_WHOLE[0])
    if found.along[0] == 1:
        tiles = replace(tiles, temporal=None, temporal_overlap=_WHOLE[1])
    return tiles


def stated_budget(asked: int | None, memory: int, share: float) -> int:
    """Bytes that tiles are chosen for: what was asked, or `share` of the memory that the machine was sold with."""
    if asked is not None:
        return asked
    fitting = [size for size in STATED if memory >= SOLD_AS * size]
    return int(share * (fitting[-1] if fitting else STATED[0]))


def choose(latent: LatentShape, peak: Callable[[Tiles], int], budget: int) -> Tiles:
    """The tiles with the least work among those whose predicted peak is within the budget; the last resort if none is.

    Equal work: fewer tiles.
    """
    candidates = list(ladder(latent))
    fitting = [tiles for tiles in candidates if peak(tiles) <= budget]
    return min(fitting, key=lambda tiles: work(latent, tiles)) if fitting else min(candidates, key=peak)


def smaller(latent: LatentShape, peak: Callable[[Tiles], int], now: Tiles, factor: float = 0.7) -> Tiles | None:
    """The next choice after a decode with `now` failed: at most `factor` of its memory. None: there is none."""
    fitting = [tiles for tiles in ladder(latent) if peak(tiles) <= factor * peak(now)]
    least = min(ladder(latent), key=peak)
    if fitting:
        return min(fitting, key=lambda tiles: work(latent, tiles))
    return least if peak(least) < peak(now) else None


def work(latent: LatentShape, tiles: Tiles) -> tuple[int, int]:
    found = cut(latent, tiles)
    return found.cells, found.count


def ladder(latent: LatentShape) -> Iterator[Tiles]:
    """Every choice for a latent of that size, each once."""
    seen: set[Tiles] = set()
    for spatial, spatial_overlap in SPATIAL:
        for temporal, temporal_overlap in TEMPORAL:
            tiles = normal(latent, Tiles(spatial, spatial_overlap, temporal, temporal_overlap))
            if tiles not in seen:
                seen.add(tiles)
                yield tiles


def normal(latent: LatentShape, tiles: Tiles) -> Tiles:
    """The same tiles with the axes that one of them covers left whole."""
    found = cut(latent, tiles)
    if found.along[1:] == (1, 1):
        tiles = replace(tiles, spatial=None, spatial_overlap=_WHOLE[0])
    if found.along[0] == 1:
        tiles = replace(tiles, temporal=None, temporal_overlap=_WHOLE[1])
    return tiles


def intervals(length: int, size: int, overlap: int) -> list[tuple[int, int]]:
    """Start and end of tiles of `size`, each beginning size - overlap after the one before; the last ends the axis."""
    if length <= size:
        return [(0, length)]
    step = size - overlap
    count = (length + size - 2 * overlap - 1) // step
    return [(i * step, length if i == count - 1 else i * step + size) for i in range(count)]


def longest(spans: list[tuple[int, int]]) -> int:
    return max(stop - start for start, stop in spans)


def total(spans: list[tuple[int, int]]) -> int:
    return sum(stop - start for start, stop in spans)
