"""Stills: which frames, how they are put on a sheet, and PNG files that others can read."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from workers.video.stills import MAX_WIDTH, contact_sheet, digits, png, shrink, windows


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 13, 25, 33])
def test_windows_cover_the_beginning_middle_and_end(frames: int) -> None:
    found = windows(frames)
    positions = []
    for window in found:
        assert 0 <= window.start < window.stop <= frames
        assert window.stop - window.start <= 3, "the cost does not grow with the video"
        assert window.frame <= 8 * (window.stop - window.start - 1), "a frame that is decoded"
        positions.append(8 * window.start + window.frame)
    assert positions[0] == 0
    assert positions[-1] == 8 * (frames - 1), "the last frame"
    assert positions == sorted(set(positions))
    if frames > 2:
        assert abs(positions[1] - 4 * (frames - 1)) <= 8, "about the middle"


def picture(height: int, width: int, value: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), value, np.uint8)


def read_png(data: bytes) -> NDArray[np.uint8]:
    with av.open(io.BytesIO(data)) as container:
        (frame,) = container.decode(video=0)
        return frame.to_ndarray(format="rgb24")


def test_png_is_what_others_read() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    assert (read_png(png(noise)) == noise).all()


def test_a_sheet_has_a_row_for_each_seed() -> None:
    sheet = contact_sheet([(7, [picture(64, 96, 10), picture(64, 96, 20)]), (8, [picture(64, 96, 30)] * 2)])
    assert sheet.shape[1] == 192
    assert sheet.shape[0] == 64 + 4 + 64
    assert (sheet[40, 50] == 10).all()
    assert (sheet[40, 150] == 20).all()
    assert (sheet[-10, 50] == 30).all()
    assert (sheet[0:8, 0:8] == 255).any(), "a number in the corner"
    assert not (sheet[0:8] == sheet[68:76]).all(), "another number for another seed"


def test_many_seeds_and_large_pictures_stay_bounded() -> None:
    sheet = contact_sheet([(seed, [picture(480, 704, seed)] * 3) for seed in range(8)])
    assert sheet.shape[1] <= MAX_WIDTH
    small = contact_sheet([(2**63 - 1, [picture(32, 32, seed)]) for seed in range(9)])
    assert small.shape[1] <= MAX_WIDTH
    assert (small == 255).any()


def test_shrinking_takes_the_mean() -> None:
    board = np.zeros((5, 6, 3), np.uint8)
    board[::2] = 100
    assert shrink(board, 2).shape == (2, 3, 3)
    assert (shrink(board, 2) == 50).all()
    assert shrink(board, 1) is board


def test_numbers_are_told_apart() -> None:
    pictures = {digits(number, 1).tobytes() for number in range(200)}
    assert len(pictures) == 200
