"""One fault: the command is run until it strikes, then run again; and everything that must hold is looked at."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.relay import Ended, Place
from tests.faults.scenario import Point, Scenario

ORPHAN_SECONDS = 2.0
CODES = {
    "kill": (7,),  # of a worker; the orchestrator's own is below
    "kill-parent": (-signal.SIGKILL,),
    "orphan": (-signal.SIGKILL,),
    "enospc": (4,),
    "interrupt-parent": (130,),
}
"""What the disturbed command may end with."""


@dataclass(frozen=True)
class Fault:
    scenario: str
    point: Point
    action: str

    @property
    def text(self) -> str:
        return f"{self.scenario} from {self.point.stage}: {self.point.rule}={self.action}"


@dataclass
class Outcome:
    """`problems` is empty when all is as it must be."""

    fault: Fault
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


def inject(scenario: Scenario, fault: Fault, folder: Path) -> Outcome:
    place = Place(folder).make(scenario.home(fault.point.stage))
    outcome = Outcome(fault)
    rule = f"record={place.folder / 'first'}; {fault.point.rule}={fault.action}"
    first = place.run(*scenario.command, LTX_RELAY_FAILPOINTS=rule)
    orphans = place.wait_for_silence(ORPHAN_SECONDS)
    for process in orphans:
        outcome.problems.append(f"process {process.pid} was left: {' '.join(process.cmdline())}")
        process.kill()
    check_end(place, fault, first, outcome)
    finished = place.finished_keys()
    second = place.run(*scenario.command, LTX_RELAY_FAILPOINTS=f"record={place.folder / 'second'}")
    outcome.seconds = first.seconds + second.seconds
    if second.code != 0:
        outcome.problems.append(f"the second run ended with {second.code}: {second.err.strip()[-300:]}")
        return outcome
    made = place.made()
    if made != scenario.reference:
        same = [name for name in made if made[name] == scenario.reference.get(name)]
        outcome.problems.append(f"other videos than undisturbed: {sorted(made)}, of which {same} are the same")
    check_nothing_twice(place, second, finished, outcome)
    outcome.problems += [f"left behind: {path}" for path in place.litter()]
    outcome.problems += [f"process {process.pid} is left" for process in place.wait_for_silence(ORPHAN_SECONDS)]
    return outcome


def check_end(place: Place, fault: Fault, first: Ended, outcome: Outcome) -> None:
    """The fault struck, and the command ended as it should."""
    point = fault.point
    struck = any((hit.scope, hit.name, hit.n) == (point.scope, point.name, point.n) for hit in place.hits("first"))
    if not struck:
        outcome.problems.append("the point was not reached")
    expected = (-signal.SIGKILL,) if fault.action == "kill" and point.scope == "run" else CODES[fault.action]
    if fault.action == "enospc" and point.scope == "run":
        expected = (4, 0)  # what was measured is remembered where there is room
    if point.name == "event.done" and fault.action == "kill":
        expected = (0,)  # it had said all that it had to say
    if point.scope == "preview" and fault.action in ("kill", "enospc"):
        expected = (0,)  # no sheet, and a warning; the run goes on
    if first.code not in expected:
        outcome.problems.append(f"ended with {first.code} instead of {expected}: {first.err.strip()[-300:]}")
    if "Traceback" in first.err:
        outcome.problems.append(f"a traceback: {first.err.strip()[-600:]}")
    if first.code in (4, 7) and not first.err.strip().splitlines()[-1].startswith("ltx-relay resume "):
        started = bool(first.of("run_started"))
        if started:
            outcome.problems.append("the last line is not the command that resumes")


def check_nothing_twice(place: Place, second: Ended, finished: set[str], outcome: Outcome) -> None:
    """No saved step and no finished result was computed again."""
    saved = {hit.details for hit in place.hits("first") if hit.name == "step.saved"}
    again = saved & {hit.details for hit in place.hits("second") if hit.name == "step.computed"}
    outcome.problems += [f"step {index} of {key[:12]} was computed twice" for key, index in sorted(again)]
    for event in second.of("item"):
        if event["key"] in finished and event["stage"] != "preview":
            outcome.problems.append(f"the finished {event['stage']} result {event['key'][:12]} was computed twice")
