"""A sample of the fault campaign; `python -m tests.faults.campaign` does all of it."""

from __future__ import annotations

from pathlib import Path

from tests.faults import disk
from tests.faults.campaign import carry_out, faults_of, report, sample
from tests.faults.injection import Fault
from tests.faults.scenario import Point, Scenario

FAULTS = 13


def test_a_sample_of_the_campaign(tmp_path: Path) -> None:
    scenario = Scenario("max", tmp_path / "max").prepare()
    faults = faults_of(scenario, ("stage2", "decode"))
    assert len(faults) > 100
    # Before a result is there; before its state is dropped; between a video's two names; in the middle of a file.
    last = {
        name: max(fault.point.n for fault in faults if fault.point.rule.startswith(f"stage2.{name}:"))
        for name in ("write.opened", "write.renamed")
    }
    always = {f"stage2.{name}:{n}" for name, n in last.items()} | {"run.video.linked:1", "stage2.write.opened:2"}
    chosen = [fault for fault in faults if fault.point.rule in always and fault.action == "kill"]
    assert len(chosen) == 4
    chosen += sample(faults, FAULTS - len(chosen), seed=5)
    outcomes = carry_out([scenario], chosen, tmp_path, jobs=2, say=False)
    found = report(outcomes, 0)
    assert not found["problems"]
    actions = {"kill", "kill-parent", "orphan", "enospc", "interrupt-parent"}
    assert {fault.action for fault in chosen} == actions | ({"full-disk"} if disk.allowed() else set())


def test_a_sample_of_the_campaign_of_upscaling(tmp_path: Path) -> None:
    scenario = Scenario("smooth", tmp_path / "smooth").prepare()
    faults = faults_of(scenario, ("decode", "join"))
    assert len(faults) > 150
    # In the middle of a piece; a piece that is damaged as it is to be read; a file of FFmpeg's that meets a full disk.
    wanted = {("decode.event.item:2", "orphan"), ("join.event.started:1", "spoil"), ("join.event.item:1", "full-disk")}
    chosen = [fault for fault in faults if (fault.point.rule, fault.action) in wanted]
    assert len(chosen) == (3 if disk.allowed() else 2)
    # The process that looks at the video loses its orchestrator.
    chosen.append(Fault("smooth", Point("join", "inspect", "looking", 1), "orphan"))
    assert not report(carry_out([scenario], chosen, tmp_path, jobs=2, say=False), 0)["problems"]
