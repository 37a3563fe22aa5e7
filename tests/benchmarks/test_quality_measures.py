"""The measures of `benchmarks.quality` see what is drawn, and what is done to it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks import quality_measures as measures
from benchmarks.quality_tables import adherence, mean, share
from benchmarks.quality_videos import answers_of, drawn, draws, enlarged
from training.world import captions, scenes
from training.world.captions import BACKGROUNDS, COLOUR_NAMES, MOTIONS, SHAPES, SIZES, Combination
from training.world.measure import measure
from training.world.silhouettes import differing, object_mask


def combination(
    shape: str, motion: str, background: str = "gray", colour: str = "red", size: str = "large"
) -> Combination:
    return Combination(
        SHAPES.index(shape),
        COLOUR_NAMES.index(colour),
        MOTIONS.index(motion),
        BACKGROUNDS.index(background),
        SIZES.index(size),
    )


def render(named: Combination, seed: int = 0, frames: int = 25, fps: float = 24.0) -> tuple[np.ndarray, scenes.Scenes]:
    """A clip of 256x384 as it would be decoded, and its scene."""
    rng = np.random.default_rng(seed)
    sampled = scenes.sample_scenes(np.array([named]), (256, 384), lambda n, k: rng.random((n, k), dtype=np.float32))
    video = scenes.render(sampled, 256, 384, frames, fps)[0].transpose(1, 2, 3, 0)
    return np.ascontiguousarray((video + 1) / 2), sampled


def blurred(video: np.ndarray, times: int) -> np.ndarray:
    for _ in range(times):
        for axis in (1, 2):
            video = (np.roll(video, 1, axis) + video + np.roll(video, -1, axis)) / 3
    return video


@pytest.mark.parametrize("shape", ["square", "triangle", "star"])
@pytest.mark.parametrize("fps", [24, 48])
def test_turning_is_the_scene_s_own(shape, fps):
    named = combination(shape, "spinning", "sand", "blue")
    video, sampled = render(named, frames=fps + 1, fps=fps)
    turns = measures.turning(measures.see(video, named), fps)
    assert turns is not None
    assert turns.rate == pytest.approx(float(sampled.spin[0]), abs=0.1)
    assert turns.coherence > 0.95
    assert turns.spins


@pytest.mark.parametrize("motion", ["still", "right", "bouncing", "growing"])
def test_what_does_not_spin_does_not_turn(motion):
    for shape in ("square", "triangle", "star"):
        named = combination(shape, motion)
        turns = measures.turning(measures.see(render(named)[0], named), 24)
        assert turns is not None
        assert abs(turns.rate) < 0.3
        assert not turns.spins


def test_white_on_white_is_seen_by_its_outline():
    named = combination("triangle", "spinning", "white", "white")
    video, sampled = render(named)
    turns = measures.turning(measures.see(video, named), 24)
    assert turns is not None
    assert turns.rate == pytest.approx(float(sampled.spin[0]), abs=0.1)


def test_turning_backwards_is_not_spinning():
    named = combination("star", "spinning")
    turns = measures.turning(measures.see(render(named)[0][::-1], named), 24)
    assert turns is not None
    assert turns.rate < -1.5
    assert not turns.spins


def test_a_circle_has_no_angle():
    named = combination("circle", "spinning")
    assert measures.turning(measures.see(render(named)[0], named), 24) is None


def test_rotation_of_real_renders_is_recognised():
    """Of unseen combinations as the benchmark draws them."""
    sampled, named = draws(120, 3)
    asked = [index for index, one in enumerate(named) if one.motion == scenes.SPINNING and one.shape in measures.FOLDS]
    answers = []
    for index in asked:
        turns = measures.turning(measures.see(drawn(sampled, index), named[index]), 24)
        answers.append(turns is not None and turns.spins)
    assert len(answers) >= 8
    assert np.mean(answers) >= 0.95


@pytest.mark.parametrize("background", ["gray", "night", "sea"])
def test_an_edge_is_as_wide_as_it_is_blurred(background):
    named = combination("square", "right", background, "yellow")
    video, _ = render(named)
    widths = []
    for times in (0, 2, 6):
        found = measures.edges(measures.see(blurred(video, times), named), range(0, 25, 8))
        assert found is not None
        widths.append(found.width)
    assert 1 < widths[0] < 2.6
    assert widths[0] * 1.3 < widths[1] < widths[2]


def test_enlarging_widens_the_edge():
    sampled, named = draws(3, 5)
    for index, one in enumerate(named):
        sharp = measures.edges(measures.see(drawn(sampled, index, frames=9), one), (4,))
        soft = measures.edges(measures.see(enlarged(drawn(sampled, index, height=128, width=192, frames=9)), one), (4,))
        assert sharp is not None
        assert soft is not None
        assert soft.width > 1.3 * sharp.width


def test_ringing_is_measured_and_a_clean_edge_has_none():
    named = combination("circle", "still")
    video, _ = render(named)
    clean = measures.edges(measures.see(video, named), (12,))
    ringing = video + 1.5 * (video - blurred(video, 4))  # sharpened too much
    rung = measures.edges(measures.see(ringing, named), (12,))
    assert clean is not None
    assert rung is not None
    assert clean.overshoot < 0.01
    assert rung.overshoot > 0.1


def test_rings_farther_away_make_a_halo():
    named = combination("circle", "still")
    video, _ = render(named)
    clean = measures.edges(measures.see(video, named), (12,))
    empty = measures.empty_scene(256, 384, named.background)
    wide = empty + blurred(video[12:13], 60)[0] - blurred(np.broadcast_to(empty, (1, *empty.shape)), 60)[0]
    video[12] = np.where(measures.see(video, named).masks[12][..., None], video[12], wide)
    rung = measures.edges(measures.see(video, named), (12,))
    assert clean is not None
    assert rung is not None
    assert clean.halo < 0.1
    assert rung.halo > 2
    assert rung.halo > 3 * rung.elsewhere


def test_stars_of_the_sky_are_no_part_of_the_object():
    named = combination("circle", "still", "night", "red")
    video, _ = render(named)
    alone = measures.see(video, named).masks
    video[:, 40:44, 300:304] = 1.0
    assert (measures.see(video, named).masks == alone).all()


def test_a_blurred_sky_takes_nothing_from_the_shape():
    named = combination("star", "up", "night", "white", "small")
    video = blurred(render(named)[0], 3)
    assert (differing(video, named) & ~object_mask(video, named)).any()  # the rim of the moon
    assert measure(video, named).shape


def test_frame_doubling_judders_and_twice_the_rate_does_not():
    named = combination("circle", "left", "white", "blue")
    slow, fast = render(named)[0], render(named, frames=49, fps=48.0)[0]
    doubled = measures.smoothness(measures.see(measures.doubled(slow), named))
    even = measures.smoothness(measures.see(fast, named))
    assert doubled.judder == pytest.approx(2, abs=0.05)
    assert doubled.midway == pytest.approx(0.5, abs=0.01)
    assert even.judder < 0.1
    assert even.midway < 0.05
    assert even.change < doubled.change
    assert even.step == pytest.approx(doubled.step, rel=0.05)


def test_cross_fading_is_even_but_blurs_what_is_in_between():
    named = combination("circle", "left", "white", "blue", "small")
    slow, fast = render(named)[0], render(named, frames=49, fps=48.0)[0]
    faded = measures.see(measures.cross_faded(slow), named)
    assert measures.smoothness(faded).judder < 0.3
    between = measures.edges(faded, range(3, 49, 8))
    drawn_between = measures.edges(measures.see(fast, named), range(3, 49, 8))
    assert between is not None
    assert drawn_between is not None
    assert between.width > 1.2 * drawn_between.width


def test_an_empty_scene_has_nothing_to_measure():
    named = combination("star", "right", "grass")
    empty = measures.empty_scene(256, 384, named.background)
    answers = answers_of(np.broadcast_to(empty, (25, 256, 384, 3)).copy(), named, smooth=True)
    assert not answers["visible"]
    assert answers["width"] is None
    assert answers["spins"] is None
    assert math.isnan(answers["shown"]["doubled"]["step"])


def test_means_and_shares_leave_out_what_was_not_measured():
    assert mean([1.0, None, math.nan, 3.0]) == "2.00"
    assert share([True, None, False, True]) == "0.67"
    assert mean([None]) == share([]) == ""


def test_a_row_of_adherence_counts_shares():
    answers = [
        {"visible": True, "colour": True, "background": True, "motion": False, "shape": True},
        {"visible": True, "colour": True, "background": True, "motion": True, "shape": True},
    ]
    row = adherence({"two (2)": (answers, [combination("star", "left"), combination("star", "still")])})
    assert row.splitlines()[-1] == "| two (2) | 1.00 | 1.00 | 1.00 | 0.50 | 0.00 | 1.00 | 0.50 |"


def test_prompts_of_a_short_list_are_the_first_of_a_long_one_in_combination():
    assert [row for row, _ in captions.held_out_prompts(32)] == [row for row, _ in captions.held_out_prompts(400)][:32]
