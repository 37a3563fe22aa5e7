"""The time of a loop with and without saving: real saves, a predictor that takes no time."""

from __future__ import annotations

import mlx.core as mx
import pytest

from benchmarks import saving
from benchmarks.saving import Times
from workers.sampling.schedules import stage2_sigmas

pytestmark = pytest.mark.usefixtures("on_the_cpu")


def test_both_loops_are_timed_and_nothing_is_left_behind(tmp_path):
    seen = []

    def predict(latent: mx.array, sigma: float) -> mx.array:
        seen.append(sigma)
        return latent.astype(mx.float32) * 0.5

    latent = mx.ones((1, 6, 8), mx.bfloat16)
    without, saved, alone = saving.measure(predict, latent, tmp_path / "home", turns=2, steps=3)
    assert seen == [*map(float, stage2_sigmas(2)[:-1]), *4 * list(map(float, stage2_sigmas(3)[:-1]))]
    for times in (without, saved):
        assert len(times.steps) == len(times.between) == 2 * (3 - 1)
        assert all(seconds >= 0 for seconds in (*times.steps, *times.between))
    assert alone > 0
    assert [path for path in (tmp_path / "home" / "partial").iterdir() if path.is_file()] == []


def test_what_saving_costs():
    without, saved = Times((0.4, 0.4, 0.5), (0.001, 0.001)), Times((0.4, 0.41, 0.42), (0.002, 0.004))
    found = saving.cells("stage 1", 4_400_000, without, saved, 0.0123)
    assert found == ["stage 1", "4.4 MB", "0.4000 s", "0.4100 s", "1.00 ms", "3.00 ms", "+12.0 ms (+2.99%)", "12.3 ms"]
