"""Chunks: every frame of the result is written once, by pieces that know what they share."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.upscaling.chunks import LENGTHS, OVERLAP, Chunk, check_length, cut, padded, pieces, result_frames
from weights.errors import UsageError

LENGTH = st.sampled_from(LENGTHS)


@given(total=st.integers(1, 3000), length=LENGTH)
def test_chunks_cover_the_video_and_are_of_one_shape(total: int, length: int) -> None:
    chunks = cut(total, length)
    assert chunks[0].start == 0
    assert chunks[-1].stop == total
    for before, after in pairwise(chunks):
        assert before.frames == length
        assert before.stop - after.start == OVERLAP
        assert after.frames > OVERLAP, "no chunk is only a repetition"
    assert all(chunk.frames <= chunk.padded <= length and chunk.padded % 8 == 1 for chunk in chunks)


@given(total=st.integers(1, 3000), length=LENGTH, factor=st.sampled_from([1, 2]))
def test_pieces_write_every_frame_of_the_result_once(total: int, length: int, factor: int) -> None:
    chunks = cut(total, length)
    made = pieces(chunks, factor)
    written = [frame for piece in made for frame in range(piece.start, piece.start + piece.write)]
    assert written == list(range(result_frames(total, factor)))
    assert made[0].shared == 0
    assert made[-1].keep == 0
    for (chunk, before), after in zip(zip(chunks, made, strict=True), made[1:], strict=False):
        assert before.keep == after.shared > 0, "what one piece leaves is what the next one fades from"
        assert before.write + before.keep == factor * (chunk.frames - 1) + 1, "all that its chunk gives"
        assert after.shared <= after.write, "a fade never reaches into a third chunk"


@pytest.mark.parametrize(("frames", "expected"), [(1, 9), (2, 9), (8, 9), (9, 9), (10, 17), (97, 97), (98, 105)])
def test_frames_are_padded_to_8k_plus_1(frames: int, expected: int) -> None:
    assert padded(frames) == expected


def test_a_short_video_is_one_chunk() -> None:
    assert cut(97, 97) == (Chunk(0, 97),)
    assert cut(98, 97) == (Chunk(0, 97), Chunk(80, 18))


@pytest.mark.parametrize(("total", "length", "overlap"), [(0, 97, 17), (5, 96, 17), (5, 17, 17), (5, 17, 0)])
def test_what_can_be_no_chunks_is_refused(total: int, length: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="cannot be cut"):
        cut(total, length, overlap)


@pytest.mark.parametrize("frames", [9, 33, 40, 96, 521])
def test_a_length_that_no_chunk_can_have_is_refused(frames: int) -> None:
    with pytest.raises(UsageError, match=f"--chunk {frames}"):
        check_length(frames)


def test_lengths_that_can_be() -> None:
    for frames in (*LENGTHS, 513):
        check_length(frames)
