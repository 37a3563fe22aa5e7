"""The tiny model's world: what is held out, and that the measurements see what is drawn and nothing else."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training.world import captions, scenes
from training.world.captions import BACKGROUNDS, COLOUR_NAMES, MOTIONS, SHAPES, SIZES, Combination
from training.world.measure import Measurement, measure, summarise

ROOT = Path(captions.__file__).parents[2]


def render(combination: Combination, seed: int = 0, height: int = 128, width: int = 192) -> np.ndarray:
    """One clip as it would be decoded, `[25, height, width, 3]` in [0, 1]."""
    rng = np.random.default_rng(seed)
    drawn = scenes.sample_scenes(
        np.array([combination]), (height, width), lambda n, k: rng.random((n, k), dtype=np.float32)
    )
    return (scenes.render(drawn, height, width, 25, 24.0)[0].transpose(1, 2, 3, 0) + 1) / 2


def combination(shape: str, colour: str, motion: str, background: str, size: str = "large") -> Combination:
    return Combination(
        SHAPES.index(shape),
        COLOUR_NAMES.index(colour),
        MOTIONS.index(motion),
        BACKGROUNDS.index(background),
        SIZES.index(size),
    )


def test_a_tenth_of_the_combinations_is_held_out_whatever_the_size():
    shown, unseen = captions.all_combinations(), captions.all_combinations(held_out=True)
    assert len(shown) + len(unseen) == 4 * 8 * 8 * 10 * 3
    assert 0.09 < len(unseen) / (len(shown) + len(unseen)) < 0.11
    assert not {row[:4] for row in shown} & {row[:4] for row in unseen}


def test_the_prompts_that_measure_the_model_stay_the_same():
    """Figures of different days are comparable only while these do."""
    prompts = captions.held_out_prompts(96)
    assert prompts == captions.held_out_prompts(96)
    assert all(captions.is_held_out(row) for row, _ in prompts)
    assert [text for _, text in prompts[:3]] == [
        "Huge yellow star bouncing, at the sea",
        "A little pink block turning around against a gray background.",
        "The medium green star is sinking in the dark night sky.",
    ]


def test_a_complete_caption_names_every_attribute():
    for seed in range(50):
        text = captions.caption(
            combination("star", "green", "left", "white", "small"), random.Random(seed), complete=True
        ).lower()
        assert "green" in text
        assert "star" in text
        assert "left" in text
        assert "white" in text
        assert any(word in text for word in ("small", "tiny", "little"))


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_drawn_is_measured(shape, motion):
    for background, colour in (("grass", "red"), ("night", "yellow"), ("gray", "blue")):
        named = combination(shape, colour, motion, background)
        found = measure(render(named), named)
        assert found.visible
        assert found.background
        assert found.colour
        assert found.motion
        assert found.shape
        assert found.overlap > 0.8


@pytest.mark.parametrize(
    ("changed", "attribute"),
    [
        ({"shape": "square"}, "shape"),
        ({"colour": "yellow"}, "colour"),
        ({"motion": "right"}, "motion"),
        ({"motion": "up"}, "motion"),
        ({"motion": "growing"}, "motion"),
        ({"motion": "still"}, "motion"),
        ({"motion": "bouncing"}, "motion"),
        ({"background": "white"}, "background"),
    ],
)
def test_what_is_not_drawn_is_not_measured(changed, attribute):
    drawn = {"shape": "star", "colour": "red", "motion": "left", "background": "night"}
    video = render(combination(**drawn))
    assert getattr(measure(video, combination(**drawn)), attribute)
    assert not getattr(measure(video, combination(**{**drawn, **changed})), attribute)


def test_an_empty_scene_shows_no_object():
    empty = scenes.background_images(128, 192, np.zeros(0, np.float32))[BACKGROUNDS.index("grass")]
    video = np.broadcast_to(empty.transpose(1, 2, 0), (25, 128, 192, 3))
    found = measure(video, combination("circle", "red", "left", "grass"))
    assert found == Measurement(visible=False, background=True)


def test_the_same_scene_is_drawn_at_every_size_and_rate():
    named = combination("triangle", "orange", "right", "sand")
    rng = np.random.default_rng(0)
    drawn = scenes.sample_scenes(np.array([named]), (128, 192), lambda n, k: rng.random((n, k), dtype=np.float32))
    small = scenes.render(drawn, 128, 192, 9, 24.0)
    large = scenes.render(drawn, 256, 384, 9, 24.0)
    halved = large.reshape(1, 3, 9, 128, 2, 192, 2).mean((4, 6))
    assert np.abs(halved - small).mean() < 0.01
    fast = scenes.render(drawn, 128, 192, 17, 48.0)
    np.testing.assert_allclose(fast[:, :, ::2], small, atol=1e-6)


def test_a_summary_counts_shares():
    named = [combination("circle", "red", "left", "grass"), combination("star", "red", "still", "grass")]
    row = summarise(
        [
            Measurement(visible=True, background=True, colour=True, motion=False, shape=True),
            Measurement(visible=True, background=False, colour=True, motion=True, shape=False),
        ],
        named,
    )
    assert row["colour"] == 1
    assert row["background"] == 0.5
    assert row["direction"] == 0
    assert row["colour+background+motion"] == 0
    assert row["shape of circles"] == 1
    assert row["shape of stars"] == 0


def test_the_world_needs_no_torch():
    code = "import sys, training.world.measure; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_window_has_the_very_pixels_of_the_whole_frame_and_most_of_the_object():
    rng = np.random.default_rng(5)

    def uniform(rows: int, columns: int) -> np.ndarray:
        return rng.random((rows, columns), dtype=np.float32)

    everything = np.array(captions.all_combinations())
    drawn = scenes.sample_scenes(everything[rng.integers(len(everything), size=24)], (128, 192), uniform)
    pixels, mask = scenes.render_with_mask(drawn, 128, 192, 9, 24.0)
    windows = scenes.windows_on_objects(drawn, (128, 192), (96, 64), 9 / 24, uniform)
    part, part_mask = scenes.render_with_mask(drawn, 128, 192, 9, 24.0, windows)
    for index, (top, left) in enumerate(zip(windows.top, windows.left, strict=True)):
        assert np.array_equal(part[index], pixels[index, :, :, top : top + 96, left : left + 64])
        assert np.array_equal(part_mask[index], mask[index, :, :, top : top + 96, left : left + 64])
    assert part_mask.sum() > 0.5 * mask.sum() > 0
    assert part_mask.mean() > 1.5 * mask.mean()
