"""Latents to small pictures without a decoder: a linear map, found by least squares, for previews only.

A latent cell (128 channels) stands for 32 x 32 pixels of eight frames. Of it a line of algebra guesses 4 x 4 colours.
The map is fitted where latents and pixels meet anyway, in the decode stage, and is kept as its normal equations, so
that every decode makes it better. Before there is one, the first principal component is shown in grey.

Pure numpy; nothing here ever touches a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from cache.durable import publish_bytes
from cache.failpoints import failpoint

CHANNELS = 128
CELL = 32
"""Pixels of a side of a latent cell."""
SUB = 4
"""Colours of a side of a cell in a preview."""
OUTPUTS = SUB * SUB * 3
MOST = 200_000.0
"""Cells; of more the older ones count less."""
RIDGE = 1e-3
LIMIT = 1 << 20
"""Bytes of the file."""
KNOWN = Path(__file__).parent / "known_colours"
"""Maps that come along, under the names that they would have in a home; `training.preview_colours` made them."""

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Equations:
    """Sums over cells: `inner` [129, 129] of x x^T and `outer` [129, 48] of x y^T, x with a 1 at its end; `cells`."""

    inner: Floats
    outer: Floats
    cells: float

    def __add__(self, other: Equations) -> Equations:
        older = min(1.0, max(0.0, MOST - other.cells) / max(self.cells, 1.0))
        return Equations(
            self.inner * older + other.inner, self.outer * older + other.outer, self.cells * older + other.cells
        )

    def solve(self) -> Floats:
        """The map [129, 48]; the constant is not held down, the channels are a little."""
        weight = RIDGE * float(np.trace(self.inner[:-1, :-1])) / CHANNELS + 1e-9
        held: Floats = np.full(CHANNELS + 1, weight)
        held[-1] = 1e-9
        return np.asarray(np.linalg.solve(self.inner + np.diag(held), self.outer), np.float64)


def equations(latents: NDArray[np.float32], pictures: NDArray[np.float32]) -> Equations:
    """latents [n, 128, rows, columns] and what they became, pictures [n, 4 rows, 4 columns, 3] from 0 to 1."""
    count, _, rows, columns = latents.shape
    x = latents.transpose(0, 2, 3, 1).reshape(-1, CHANNELS).astype(np.float64)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    y = pictures.reshape(count, rows, SUB, columns, SUB, 3).transpose(0, 1, 3, 2, 4, 5).reshape(-1, OUTPUTS)
    y = y.astype(np.float64)
    return Equations(x.T @ x, x.T @ y, float(len(x)))


def small(frame: Picture) -> NDArray[np.float32]:
    """A decoded frame [32 rows, 32 columns, 3] as [4 rows, 4 columns, 3] from 0 to 1: means of squares."""
    side = CELL // SUB
    height, width, _ = frame.shape
    squares = frame.reshape(height // side, side, width // side, side, 3)
    means: NDArray[np.float32] = squares.mean(axis=(1, 3), dtype=np.float32) / np.float32(255)
    return means


def colours(latent: NDArray[np.float32], solved: Floats | None) -> Picture:
    """Cells [rows, columns, 128] as a picture [4 rows, 4 columns, 3]; without a map in grey, a colour per cell."""
    rows, columns, _ = latent.shape
    if solved is None:
        return np.repeat(_grey(latent), SUB, axis=0).repeat(SUB, axis=1)[:, :, None].repeat(3, axis=2)
    # Not `@`: numpy's BLAS takes some megabytes at its first use, which no plan knows of.
    y = np.einsum("nc,co->no", latent.reshape(-1, CHANNELS).astype(np.float64), solved[:-1]) + solved[-1]
    picture = y.reshape(rows, columns, SUB, SUB, 3).transpose(0, 2, 1, 3, 4).reshape(rows * SUB, columns * SUB, 3)
    return np.asarray(np.clip(picture, 0, 1) * 255, np.uint8)


def _grey(latent: NDArray[np.float32]) -> Picture:
    """The first principal component, by power iteration; brighter at the top, as most pictures are."""
    x = latent.reshape(-1, CHANNELS).astype(np.float64)
    x = x - x.mean(axis=0)
    vector = np.ones(CHANNELS) + np.arange(CHANNELS) / CHANNELS
    for _ in range(30):
        vector = (x * (x * vector).sum(axis=1)[:, None]).sum(axis=0)
        vector = vector / max(float(np.abs(vector).max()), 1e-30)
    values = (x * vector).sum(axis=1).reshape(latent.shape[:2])
    half = max(1, len(values) // 2)
    if values[:half].mean() < values[half:].mean():
        values = -values
    low, high = np.percentile(values, [2, 98])
    return np.asarray(np.clip((values - low) / max(high - low, 1e-9), 0, 1) * 255, np.uint8)


def enlarged(picture: Picture, factor: int) -> Picture:
    """Larger by a whole factor, linear in between."""
    if factor <= 1:
        return picture
    found: NDArray[np.float32] = picture.astype(np.float32)
    for axis in (0, 1):
        length = found.shape[axis]
        at: NDArray[np.float32] = np.clip(
            (np.arange(length * factor, dtype=np.float32) + 0.5) / factor - 0.5, 0, length - 1
        )
        low = np.floor(at).astype(np.int64)
        share = (at - low).reshape([-1 if a == axis else 1 for a in range(3)])
        high = np.minimum(low + 1, length - 1)
        found = found.take(low, axis) * (1 - share) + found.take(high, axis) * share
    return np.asarray(found + 0.5, np.uint8)


def read_map(path: Path) -> Floats | None:
    """From the file, else from the one of its name that comes along. None where neither is of any use."""
    found = _read(path) or _read(KNOWN / path.name)
    return None if found is None else found[1]


def read_equations(path: Path) -> Equations | None:
    """What that map was made from."""
    found = _read(path) or _read(KNOWN / path.name)
    return None if found is None else found[0]


def _read(path: Path) -> tuple[Equations, Floats] | None:
    try:
        with open(path, "rb") as file:
            data = file.read(LIMIT + 1)
        found = load(data) if len(data) <= LIMIT else {}
        arrays = [found[name].astype(np.float64) for name in ("inner", "outer", "cells", "map")]
    except Exception:  # whatever a damaged file makes of a reader
        return None
    shapes = [(CHANNELS + 1, CHANNELS + 1), (CHANNELS + 1, OUTPUTS), (1,), (CHANNELS + 1, OUTPUTS)]
    if [array.shape for array in arrays] != shapes or not all(np.isfinite(array).all() for array in arrays):
        return None
    inner, outer, cells, solved = arrays
    return Equations(inner, outer, float(cells[0])), solved


def learn(path: Path, made: Equations) -> None:
    """Adds what a decode showed to the file. Of two runs that end in the same moment one may be lost."""
    known = read_equations(path)
    save_equations(path, made if known is None else known + made)


def save_equations(path: Path, total: Equations) -> None:
    """With the map that they give, so that whoever only looks need not solve them."""
    arrays = {"inner": total.inner, "outer": total.outer, "cells": np.array([total.cells]), "map": total.solve()}
    failpoint("map.computed")
    publish_bytes(path, save({name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}))
