"""The linear map of previews: it finds a linear decoder, learns on, and never trusts a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from weights.fingerprint import fingerprint
from weights.tiny_model import tiny_folder
from workers.video import colours
from workers.video.colours import CHANNELS, OUTPUTS, SUB, Equations, equations, learn, read_equations, read_map

RANDOM = np.random.default_rng(5)
TRUE = RANDOM.standard_normal((CHANNELS + 1, OUTPUTS)) * 0.02 + 0.01


def decoded(latents: np.ndarray) -> np.ndarray:
    """What a linear decoder would make: [n, 4 rows, 4 columns, 3]."""
    count, _, rows, columns = latents.shape
    y = latents.transpose(0, 2, 3, 1) @ TRUE[:-1] + TRUE[-1]
    y = y.reshape(count, rows, columns, SUB, SUB, 3).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(count, rows * SUB, columns * SUB, 3).astype(np.float32)


def sample(count: int, seed: int = 0) -> Equations:
    latents = np.random.default_rng(seed).standard_normal((count, CHANNELS, 6, 8)).astype(np.float32)
    return equations(latents, decoded(latents))


def test_a_linear_decoder_is_found() -> None:
    found = sample(40).solve()
    assert np.abs(found - TRUE).max() < 2e-3
    latent = RANDOM.standard_normal((5, 7, CHANNELS)).astype(np.float32)
    picture = colours.colours(latent, found)
    expected = np.clip(decoded(latent.transpose(2, 0, 1)[None])[0], 0, 1) * 255
    assert picture.shape == (20, 28, 3)
    assert np.abs(picture.astype(float) - expected).max() < 3


def test_what_was_learnt_is_kept_and_grows(tmp_path: Path) -> None:
    path = tmp_path / "colours" / "map.safetensors"
    assert read_map(path) is None
    for seed in range(3):
        learn(path, sample(4, seed))
    kept = read_equations(path)
    assert kept is not None
    assert kept.cells == 3 * 4 * 48
    together = sample(4, 0) + sample(4, 1) + sample(4, 2)
    np.testing.assert_allclose(kept.inner, together.inner, rtol=1e-4, atol=1e-2)


def test_old_knowledge_fades(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colours, "MOST", 300.0)
    assert (sample(5) + sample(4)).cells == 300
    assert (sample(5) + sample(40)).cells == 40 * 48, "the newest counts whole"


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "nan", "huge", "shape"])
def test_a_damaged_map_is_none(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "map.safetensors"
    made = sample(2)
    learn(path, made)
    if damage in ("nan", "shape"):
        inner = np.full_like(made.inner, np.nan) if damage == "nan" else made.inner[:4]
        arrays = {"inner": inner, "outer": made.outer, "cells": np.ones(1), "map": made.solve()}
        path.write_bytes(save({name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}))
    else:
        data = path.read_bytes()
        spoilt = {"empty": b"", "text": b"{}" * 50, "cut": data[:-9], "huge": data + bytes(2 << 20)}
        path.write_bytes(spoilt[damage])
    assert read_map(path) is None
    learn(path, made)  # and is replaced
    assert read_map(path) is not None


def test_without_a_map_it_is_grey_and_shows_the_structure() -> None:
    latent = RANDOM.standard_normal((6, 8, CHANNELS)).astype(np.float32) * 0.1
    latent[:3] += 2.0  # a sky
    picture = colours.colours(latent, None)
    assert (picture[..., 0] == picture[..., 2]).all()
    assert picture[:12].mean() > picture[12:].mean() + 100, "bright above"
    assert colours.colours(np.zeros((2, 2, CHANNELS), np.float32), None).shape == (8, 8, 3)


def test_frames_become_means_of_squares() -> None:
    frame = RANDOM.integers(0, 256, (64, 96, 3), np.uint8)
    small = colours.small(frame)
    assert small.shape == (8, 12, 3)
    np.testing.assert_allclose(small[1, 2], frame[8:16, 16:24].mean(axis=(0, 1)) / 255, rtol=1e-5)


def test_enlarging_is_linear_in_between() -> None:
    picture = np.array([[[0] * 3, [100] * 3]], np.uint8)
    assert colours.enlarged(picture, 4)[0, :, 0].tolist() == [0, 0, 13, 38, 63, 88, 100, 100]
    assert colours.enlarged(picture, 1) is picture


def test_the_map_that_comes_along_is_the_tiny_models(tmp_path: Path) -> None:
    """Under the fingerprint of the checkpoint that its VAE is in; else it would never be found."""
    mark = fingerprint(tiny_folder() / "ltx-2-tiny-dev.safetensors")
    assert read_map(tmp_path / f"{mark}.safetensors") is not None
