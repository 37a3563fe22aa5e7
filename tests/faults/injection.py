"""One fault: the command is run until it strikes, then run again; and everything that must hold is looked at."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.disk import MEGABYTES, small_disk
from tests.faults.meddling import MEDDLING, Meddled
from tests.faults.relay import INSPECT, Ended, Hit, Place, hits, wait_for_a_stop
from tests.faults.scenario import Point, Scenario

ORPHAN_SECONDS = 2.0
CODES = {
    "kill": (7,),  # of a worker; the orchestrator's own is below
    "kill-parent": (-signal.SIGKILL,),
    "orphan": (-signal.SIGKILL,),
    "enospc": (4,),
    "full-disk": (4,),
    "interrupt-parent": (130,),
    "sleep": (0,),
    # Where what is gone or changed was still to be read, it ends in a sentence; else the video is the right one.
    "lose": (0, 7),
    "spoil": (0, 7),
    "film-gone": (0, 2),
    "film-exchanged": (0, 2),
    "film-rewritten": (0, 2),
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
    """What is recorded lies beside the place, which may be on a disk that is full."""
    folder.mkdir(parents=True)
    with ExitStack() as mounted:
        full = fault.action == "full-disk"
        disk = mounted.enter_context(small_disk(folder / "disk", MEGABYTES)) if full else folder
        return injected(scenario, fault, scenario.place(disk / "place", scenario.home(fault.point.stage)), folder)


def injected(scenario: Scenario, fault: Fault, place: Place, beside: Path) -> Outcome:
    outcome = Outcome(fault)
    first, meddled = disturb(scenario, fault, place, beside / "first")
    orphans = place.wait_for_silence(ORPHAN_SECONDS)
    for process in orphans:
        outcome.problems.append(f"process {process.pid} was left: {' '.join(process.cmdline())}")
        process.kill()
    reached = hits(beside / "first")
    check_end(fault, first, reached, outcome)
    if first.code == 0:
        check_videos(scenario, place, outcome)
    finished = place.finished_keys() - meddled.lost
    record = f"record={beside / 'second'}"
    second = place.run(*scenario.command, LTX_RELAY_FAILPOINTS=record, **scenario.environment)
    outcome.seconds = first.seconds + second.seconds
    if second.code != 0:
        outcome.problems.append(f"the second run ended with {second.code}: {second.err.strip()[-300:]}")
        return outcome
    check_videos(scenario, place, outcome)
    check_nothing_twice(second, reached, hits(beside / "second"), finished, outcome)
    aside = [path for path in place.litter() if meddled.lost and path.endswith(".corrupt")]
    outcome.problems += [f"left behind: {path}" for path in place.litter() if path not in aside]
    outcome.problems += [f"process {process.pid} is left" for process in place.wait_for_silence(ORPHAN_SECONDS)]
    return outcome


def disturb(scenario: Scenario, fault: Fault, place: Place, record: Path) -> tuple[Ended, Meddled]:
    """The command, until the fault has had its effect; what must be made good again is."""
    meddle = MEDDLING.get(fault.action)
    if meddle is None:
        rule = f"record={record}; {fault.point.rule}={fault.action}"
        return place.run(*scenario.command, LTX_RELAY_FAILPOINTS=rule, **scenario.environment), Meddled()
    began = time.monotonic()
    rule = f"record={record}; {fault.point.rule}=stop"
    process = place.start(scenario.command, {"LTX_RELAY_FAILPOINTS": rule, **scenario.environment})
    meddled = Meddled()
    try:
        stopped = wait_for_a_stop(process)
        meddled = meddle(place)
        os.kill(stopped, signal.SIGCONT)
        out, err = process.communicate(timeout=180)
        meddled.undo()
    except LookupError:  # `check_end` says that the point was not reached
        out, err = process.communicate()
    return Ended(process.returncode, out, err, time.monotonic() - began), meddled


def check_videos(scenario: Scenario, place: Place, outcome: Outcome) -> None:
    """They are the undisturbed run's; a video that it began with is as it was."""
    made = place.made()
    if made != scenario.reference:
        same = [name for name in made if made[name] == scenario.reference.get(name)]
        outcome.problems.append(f"other videos than undisturbed: {sorted(made)}, of which {same} are the same")


def check_end(fault: Fault, first: Ended, reached: list[Hit], outcome: Outcome) -> None:
    """The fault struck, and the command ended as it should."""
    point = fault.point
    struck = any((hit.scope, hit.name, hit.n) == (point.scope, point.name, point.n) for hit in reached)
    if not struck:
        outcome.problems.append("the point was not reached")
    expected = (-signal.SIGKILL,) if fault.action == "kill" and point.scope == "run" else CODES[fault.action]
    if fault.action in ("enospc", "full-disk") and point.scope == "run":
        expected = (4, 0)  # what was measured is remembered where there is room
    if fault.action == "enospc" and before(fault, reached) in ("piece.computed", "map.computed"):
        expected = (0,)
    if fault.action == "full-disk" and before(fault, reached) == "map.computed":
        expected = (4, 0)  # no map of colours, and then perhaps no room for the video
    if point.name == "event.done" and fault.action == "kill":
        expected = (0,)  # it had said all that it had to say
    if point.scope == "preview" and fault.action in ("kill", "enospc"):
        expected = (0,)  # no sheet, and a warning; the run goes on
    if point.scope == INSPECT and fault.action == "kill" and point.name == "looked":
        expected = (0,)  # likewise
    if first.code not in expected:
        outcome.problems.append(f"ended with {first.code} instead of {expected}: {first.err.strip()[-300:]}")
    if "Traceback" in first.err:
        outcome.problems.append(f"a traceback: {first.err.strip()[-600:]}")
    if first.code in (4, 7) and not first.err.strip().splitlines()[-1].startswith("ltx-relay resume "):
        started = bool(first.of("run_started"))
        if started:
            outcome.problems.append("the last line is not the command that resumes")


def given_back(fault: Fault, reached: list[Hit]) -> bool:
    """Whether a disk was full when a decoded piece was to be kept: then the room of all pieces is given back."""
    return fault.action in ("enospc", "full-disk") and before(fault, reached) == "piece.computed"


def before(fault: Fault, reached: list[Hit]) -> str | None:
    """The point that the process reached just before the one where the fault struck."""
    point, last = fault.point, dict[int, str]()
    for hit in reached:
        if (hit.scope, hit.name, hit.n) == (point.scope, point.name, point.n):
            return last.get(hit.pid)
        last[hit.pid] = hit.name
    return None


def check_nothing_twice(
    second: Ended, reached: list[Hit], after: list[Hit], finished: set[str], outcome: Outcome
) -> None:
    """No saved step, no saved piece and no finished result was computed again."""
    for what in ("step", "piece") if not given_back(outcome.fault, reached) else ("step",):
        saved = {hit.details for hit in reached if hit.name == f"{what}.saved"}
        again = saved & {hit.details for hit in after if hit.name == f"{what}.computed"}
        outcome.problems += [f"{what} {index} of {key[:12]} was computed twice" for key, index in sorted(again)]
    for event in second.of("item"):
        if event["key"] in finished and event["stage"] != "preview":
            outcome.problems.append(f"the finished {event['stage']} result {event['key'][:12]} was computed twice")
