"""Sizes that suit the grid and the codec, and times that keep those of the old frames."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.sizes import LatentShape
from orchestrator.upscaling.geometry import LEAST_SIDE, SIDES, piece_rate, sizes, times
from orchestrator.upscaling.prepare import FORMATS
from orchestrator.video_files import CONTAINERS
from tests.orchestrator.upscaling.facts_of import plain
from weights.errors import UsageError
from workers.video.codecs import CODECS

SCALES = st.sampled_from([Fraction(1), Fraction(2), Fraction(3, 2)])


def test_the_tables_are_those_of_the_workers() -> None:
    for name, codec in CODECS.items():
        assert SIDES[name] == tuple(2 if even else 1 for even in codec.even)
        assert LEAST_SIDE.get(name, 2) == codec.smallest
        assert all(codec.containers[suffix] == FORMATS[suffix] for suffix in CONTAINERS[name])


@given(width=st.integers(32, 4000), height=st.integers(32, 4000), scale=SCALES, codec=st.sampled_from(list(SIDES)))
def test_what_is_padded_is_cut_off_again(width: int, height: int, scale: Fraction, codec: str) -> None:
    found = sizes(width, height, scale, codec)
    top, bottom, left, right = found.padding
    assert min(found.padding) >= 0
    assert found.grid == (height + top + bottom, width + left + right)
    assert all(side % (32 * scale.denominator) == 0 for side in found.grid)
    assert found.decoded == tuple(side * scale for side in found.grid)
    crop_top, crop_left, rows, columns = found.crop
    assert (crop_top, crop_left) == (top * scale, left * scale), "the same pixel, enlarged"
    assert crop_top + rows <= found.decoded[0]
    assert crop_left + columns <= found.decoded[1]
    assert columns % SIDES[codec][0] == rows % SIDES[codec][1] == 0
    assert 0 <= columns - int(width * scale) < 2
    assert 0 <= rows - int(height * scale) < 2


def test_padding_is_on_both_sides() -> None:
    assert sizes(100, 60, Fraction(1), "ffv1").padding == (2, 2, 14, 14)


def test_latents_of_a_chunk() -> None:
    found = sizes(1920, 1080, Fraction(2), "h264")
    assert found.before(97) == LatentShape(13, 34, 60)
    assert found.after(97, 1) == LatentShape(13, 68, 120)
    assert sizes(1920, 1080, Fraction(1), "h264").after(97, 2) == LatentShape(25, 34, 60)


def test_a_size_that_the_codec_cannot_store() -> None:
    with pytest.raises(UsageError, match="16x64"):
        sizes(16, 64, Fraction(1), "hevc")


def test_a_steady_rate_is_doubled_exactly() -> None:
    ntsc = plain(rate=Fraction(30000, 1001), time_base=Fraction(1001, 30000), ticks=tuple(range(9)))
    found = times(ntsc, 2, with_sound=False)
    assert (found.times, found.base, found.rate) == (17, Fraction(1001, 60000), Fraction(60000, 1001))
    assert found.seconds == Fraction(17 * 1001, 60000)


@given(steps=st.lists(st.integers(1, 5000), min_size=1, max_size=50), first=st.integers(0, 10_000), sound=st.booleans())
def test_a_variable_rate_keeps_every_time(steps: list[int], first: int, sound: bool) -> None:
    ticks = [first]
    for step in steps:
        ticks.append(ticks[-1] + step)
    facts = plain(frames=len(ticks), ticks=tuple(ticks), rate=None, time_base=Fraction(1, 1000))
    found = times(facts, 2, with_sound=sound)
    assert isinstance(found.times, tuple)
    seconds = [time * found.base for time in found.times]
    begins = 0 if sound else Fraction(first, 1000)
    assert seconds[::2] == [Fraction(tick, 1000) - begins for tick in ticks]
    assert seconds[1::2] == [(a + b) / 2 for a, b in pairwise(seconds[::2])]
    assert found.seconds == facts.seconds, "the last frame is shown as long as before"


def test_pictures_that_begin_after_the_sound_still_do() -> None:
    late = plain(ticks=tuple(1600 + 512 * index for index in range(9)))
    found = times(late, 2, with_sound=True)
    assert isinstance(found.times, tuple)
    assert found.times[0] * found.base == Fraction(1, 8)
    assert found.rate == 50
    assert {after - before for before, after in pairwise(found.times)} == {512}
    assert times(late, 2, with_sound=False).times == 17


def test_spatial_upscaling_leaves_the_times() -> None:
    found = times(plain(), 1, with_sound=False)
    assert (found.times, found.rate) == (9, 25)


def test_pieces_have_a_rate_that_encoders_take() -> None:
    assert piece_rate(plain(), 2) == 50
    assert piece_rate(plain(rate=None, usual_rate=Fraction(90_000)), 2) == 50
