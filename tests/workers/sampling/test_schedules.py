from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weights.errors import UsageError
from workers.sampling import schedules
from workers.sampling.schedules import distilled_sigmas, interpolated, ltx2_sigmas, stage2_sigmas


def test_released_schedules():
    """The values that the official pipelines print."""
    expected = [1.000000, 0.965712, 0.921875, 0.863856, 0.783445, 0.664579, 0.471003, 0.100000, 0]
    np.testing.assert_allclose(ltx2_sigmas(8), expected, atol=6e-7)
    expected = [1, 0.991471, 0.981722, 0.970473, 0.957346, 0.941831, 0.923209, 0.900444]
    np.testing.assert_allclose(ltx2_sigmas(15, tokens=16 * 16 * 24)[:8], expected, atol=6e-7)
    np.testing.assert_array_equal(distilled_sigmas(), np.array(schedules.DISTILLED, np.float32))
    np.testing.assert_array_equal(stage2_sigmas(), np.array([0.909375, 0.725, 0.421875, 0], np.float32))


@pytest.mark.parametrize("schedule", [ltx2_sigmas, distilled_sigmas, stage2_sigmas])
@given(steps=st.integers(1, 120))
def test_every_schedule_descends_to_zero(schedule, steps):
    sigmas = schedule(steps)
    assert sigmas.dtype == np.float32
    assert len(sigmas) == steps + 1
    assert sigmas[0] == pytest.approx(0.909375 if schedule is stage2_sigmas else 1.0, abs=1e-6)
    assert sigmas[-1] == 0
    assert (np.diff(sigmas) < 0).all()


@pytest.mark.parametrize("schedule", [ltx2_sigmas, distilled_sigmas, stage2_sigmas])
@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps(schedule, steps):
    with pytest.raises(UsageError, match=f"at least one step, not {steps}"):
        schedule(steps)


def test_the_last_sigma_before_the_end_is_the_terminal():
    assert ltx2_sigmas(20)[-2] == pytest.approx(0.1, abs=1e-6)
    assert ltx2_sigmas(20, terminal=0.25)[-2] == pytest.approx(0.25, abs=1e-6)


def test_interpolation_runs_over_the_index():
    np.testing.assert_allclose(interpolated((1.0, 0.5, 0.0), 4), [1, 0.75, 0.5, 0.25, 0])
    np.testing.assert_allclose(stage2_sigmas(6)[::2], stage2_sigmas(3))
    np.testing.assert_allclose(stage2_sigmas(1), [0.909375, 0])
