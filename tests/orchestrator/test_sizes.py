"""Sizes: the grid, the final size that the user names, and what the latents are."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import sizes
from orchestrator.sizes import Geometry, LatentShape
from weights.errors import UsageError

SCALES = st.sampled_from([Fraction(1), Fraction(3, 2), Fraction(2)])


def geometry(**changes: object) -> Geometry:
    values = {"base_height": 480, "base_width": 704, "frames": 97, "fps": Fraction(24), "scale": Fraction(2)}
    return Geometry(**{**values, "temporal": True, **changes})  # type: ignore[arg-type]


def test_the_guides_sizes() -> None:
    """480x704x97 becomes 193 frames of 960x1408: 4,290 and 17,160 tokens."""
    found = geometry()
    assert found.stage1 == LatentShape(13, 15, 22)
    assert (found.stage1.tokens, found.stage2.tokens) == (4290, 17160)
    assert found.temporal_latent == LatentShape(25, 30, 44)
    assert found.output_size == (1408, 960)
    assert (found.output_frames, found.output_fps) == (193, 48)


def test_one_stage_keeps_size_and_rate() -> None:
    found = geometry(scale=Fraction(1), temporal=False)
    assert (found.output_size, found.output_frames, found.output_fps) == ((704, 480), 97, 24)


@given(width=st.integers(1, 2000), height=st.integers(1, 2000), scale=SCALES)
def test_the_decoded_video_covers_a_named_size_and_no_smaller_base_does(
    width: int, height: int, scale: Fraction
) -> None:
    size = (2 * width, 2 * height)
    base_height, base_width = sizes.base_for(size, scale)
    sizes.check_base(base_height, base_width, scale)
    decoded = geometry(base_height=base_height, base_width=base_width, scale=scale).decoded
    grid = sizes.GRID * scale.denominator
    for base, shown, wanted in ((base_width, decoded[0], size[0]), (base_height, decoded[1], size[1])):
        assert shown == base * scale
        assert shown >= wanted
        assert base == grid or (base - grid) * scale < wanted


@given(frames=st.integers(0, 3).map(lambda k: 8 * k + 1), scale=SCALES)
def test_frames_of_latents_and_videos_agree(frames: int, scale: Fraction) -> None:
    found = geometry(frames=frames, scale=scale, base_height=64, base_width=64)
    assert (found.temporal_latent.frames - 1) * 8 + 1 == found.output_frames


@pytest.mark.parametrize(
    ("height", "width", "said"),
    [(481, 704, "--height 481"), (480, 700, "--width 700"), (0, 704, "--height 0"), (480, 10**6, "out of range")],
)
def test_a_base_off_the_grid_names_flag_and_neighbours(height: int, width: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        sizes.check_base(height, width, Fraction(2))


def test_the_neighbours_that_are_named_work() -> None:
    with pytest.raises(UsageError, match="480 and 512"):
        sizes.check_base(481, 704, Fraction(2))
    with pytest.raises(UsageError, match="89 and 97"):
        sizes.check_frames(96)
    sizes.check_frames(89)
    sizes.check_frames(1)


def test_three_halves_needs_a_grid_of_64() -> None:
    sizes.check_base(64, 128, Fraction(3, 2))
    with pytest.raises(UsageError, match="multiple of 64"):
        sizes.check_base(96, 128, Fraction(3, 2))


@pytest.mark.parametrize("text", ["1408", "x", "1408x", "axb", "14.5x3", "-2x4", "1408x960x3", ""])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError):
        sizes.parse_size(text)


def test_sizes_are_width_by_height() -> None:
    assert sizes.parse_size("1408x960") == (1408, 960)
    with pytest.raises(UsageError, match="even"):
        sizes.base_for((1407, 960), Fraction(2))


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("24", Fraction(24)),
        ("23.976", Fraction(24000, 1001)),
        ("29.97", Fraction(30000, 1001)),
        ("24000/1001", Fraction(24000, 1001)),
        ("12.5", Fraction(25, 2)),
    ],
)
def test_frame_rates(text: str, rate: Fraction) -> None:
    assert sizes.parse_fps(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "0", "-24", "1/0", "nan", "inf", "241"])
def test_what_is_no_frame_rate(text: str) -> None:
    with pytest.raises(UsageError):
        sizes.parse_fps(text)
