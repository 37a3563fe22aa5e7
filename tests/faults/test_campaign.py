"""A sample of the fault campaign; `python -m tests.faults.campaign` does all of it."""

from __future__ import annotations

from pathlib import Path

from tests.faults.campaign import carry_out, faults_of, report, sample
from tests.faults.scenario import Scenario

FAULTS = 12


def test_a_sample_of_the_campaign(tmp_path: Path) -> None:
    scenario = Scenario("max", tmp_path / "max").prepare()
    faults = faults_of(scenario, ("stage2", "decode"))
    assert len(faults) > 100
    outcomes = carry_out([scenario], sample(faults, FAULTS, seed=5), tmp_path, jobs=2, say=False)
    found = report(outcomes, 0)
    assert not found["problems"]
    assert {outcome.fault.action for outcome in outcomes} == {"kill", "kill-parent", "enospc", "interrupt-parent"}
