"""A relay under way: stage after stage, each in a worker of its own, with locks, retries and records.

A stage runs only when something after it needs its result; what exists and is whole is used as it is. Whatever happens,
finished results are in the home before anything is said about them, and the run's folder says what happened.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from cache.durable import remove, write_error
from cache.failpoints import failpoint
from cache.home import Home, home_folder
from cache.locks import hold_all
from cache.partial import drop_partial
from cache.prune import limit_from, prune, registration
from cache.runs import Run
from cache.state import StageState
from orchestrator import heal
from orchestrator.effort import effort
from orchestrator.ends import End, error_for
from orchestrator.history import HISTORY, remember
from orchestrator.interrupts import Interrupts
from orchestrator.machine_lock import machine_lock
from orchestrator.memory_plan import StageMemory
from orchestrator.outputs import in_the_way
from orchestrator.pipeline import StagePlan
from orchestrator.prepared import PreparedRelay
from orchestrator.report.write import write_report
from orchestrator.results import Results
from orchestrator.supervisor import WorkerEnd, run_worker
from weights.errors import DoesNotFit, Interrupted, RelayError, WeightsError, WorkerFailed
from workers.protocol import Item, Job, Limits

Kind = TypeVar("Kind", bound=PreparedRelay)
OnEvent = Callable[[dict[str, Any]], None]
FORWARDED = frozenset(
    {
        "loading",
        "loaded",
        "item",
        "resumed",
        "step",
        "memory",
        "preview",
        "warning",
        "sample",
        "stalled",
        "interrupting",
    }
)
"""Events of a worker and of its supervisor that are passed on as they are, with the stage's name added."""


@dataclass(frozen=True)
class RunResult:
    run_id: str
    outputs: tuple[Path, ...]
    seconds: float


class RelayRun(Generic[Kind]):
    """One run under way: its folder, its events, and the stages that are left. A kind of run is a subclass."""

    def __init__(self, prepared: Kind, run: Run, on_event: OnEvent, interrupts: Interrupts, retry: bool = True) -> None:
        self.prepared, self.run, self.on_event, self.interrupts = prepared, run, on_event, interrupts
        self.retry, self.tries, self.shrunk, self.resumed = retry, 1, 0, False
        self.started = time.monotonic()
        self.results = Results(prepared.home, self.damaged)
        self.computed: set[str] = set()

    def carry_out(self) -> RunResult:
        try:
            self.begin()
            for stage in self.prepared.relay:
                self.interrupts.check()
                changed = self.carry_out_stage(stage)
                while changed is not None:
                    changed = self.carry_out_stage(changed)
                self.after(stage)
            outputs: tuple[Path, ...] = ()
            if self.prepared.stop_after is None:
                self.settle_names()
                outputs = self.deliver()
            self.limit_cache()
            self.run.update_state(status="done")
        except RelayError as error:
            if isinstance(error, Interrupted) and self.interrupts.exit_code is not None:
                error.exit_code = self.interrupts.exit_code  # also when it came while waiting for a lock
            self.end_badly(error)
            raise
        except (
            BaseException
        ) as error:  # a mistake of ours, or a terminal that went away: the record is kept all the same
            self.end_badly(RelayError(f"{type(error).__name__}: {error}"))
            raise
        seconds = time.monotonic() - self.started
        going_on = None
        if self.prepared.stop_after is not None:
            going_on = self.going_on()
            message = f"stopped here, as asked; to go on: {going_on}"
            self.emit("stopped", stage=self.prepared.stop_after, message=message)
        made = [str(path) for path in outputs]
        self.emit("run_done", seconds=seconds, outputs=made, next=going_on, report=self.report())
        return RunResult(self.run.id, outputs, seconds)

    def carry_out_stage(self, stage: StagePlan) -> StagePlan | None:
        """Computes what is missing of this stage, and needed. Two runs that need the same result compute it once.

        Returns the stage that has to take its place, with another result: a decode that needs smaller tiles.
        """
        if not self.missing(stage):
            self.finish_stage(stage, "cached", {})
            return None

        def waiting(sentence: str) -> None:
            self.emit("stage_waiting", stage=stage.name, message=sentence)

        with ExitStack() as held:
            keys = [self.prepared.home.lock_path(key) for key in self.locked_keys(stage)]
            held.enter_context(hold_all(keys, on_wait=waiting, stop=lambda: self.interrupts.requested))
            items = self.missing(stage)  # another run may have computed it while we waited
            if not items:
                self.finish_stage(stage, "cached", {})
                return None
            held.enter_context(hold_all([machine_lock()], on_wait=waiting, stop=lambda: self.interrupts.requested))
            self.check_weights(stage)
            end, memory = self.run_healing(stage, items)
            self.check_weights(stage, items)
            smaller = self.smaller_tiles(memory, end)
            if smaller is not None:
                return smaller
            self.check_end(stage, end, memory)
            self.learn(stage, items, end, memory)
            self.finish_stage(stage, "computed", {**figures(end), "notes": self.notes(memory, end)})
        return None

    def missing(self, stage: StagePlan) -> tuple[Item, ...]:
        return self.results.missing(self.prepared.relay)[stage.name]

    def damaged(self, stage: str, sentence: str) -> None:
        self.emit("warning", stage=stage, message=f"{sentence} It was set aside and is computed again.")

    def run_healing(self, stage: StagePlan, items: tuple[Item, ...]) -> tuple[WorkerEnd, StageMemory]:
        """The stage's worker, and where it runs out of memory another one that takes less."""

        def tell(memory: StageMemory, end: WorkerEnd, sentence: str) -> None:
            self.tries += 1
            self.run.update_stage(stage.name, status="pending", **figures(end))
            self.emit("retry", stage=stage.name, message=sentence, code=end.code, tries=self.tries, **memory.to_dict())

        def start(memory: StageMemory) -> WorkerEnd:
            self.interrupts.check()
            return self.run_worker(stage, items, memory)

        memory, self.tries = self.prepared.memory[stage.name], max(1, self.shrunk)
        if not self.retry:
            return start(memory), memory
        return heal.run_healing(memory, self.prepared.means.backend, start, tell)

    def notes(self, memory: StageMemory, end: WorkerEnd) -> dict[str, Any]:
        return heal.record(memory, end, self.prepared.means.backend, self.tries)

    def learn(self, stage: StagePlan, items: tuple[Item, ...], end: WorkerEnd, memory: StageMemory) -> None:
        """What this worker took makes the next plan better."""
        whole = len(items) == len(stage.items) and not self.resumed
        backend = self.prepared.means.backend
        remember(
            self.prepared.home.root / HISTORY,
            heal.entry(memory, end, backend, effort(memory.work) if whole else 0.0),
        )

    def run_worker(self, stage: StagePlan, items: tuple[Item, ...], memory: StageMemory | None = None) -> WorkerEnd:
        """One worker, from its start to its end; without `memory` (a preview) within the budget as it stands."""
        means, variables = self.prepared.means, self.prepared.environment.variables
        held: dict[str, Any] = {}
        limits = Limits(memory=means.budget.bytes, cache=means.backend.cache)
        if memory is not None:
            held, limits = memory.holding.params, memory.limits(means.backend)
            variables = {**variables, **(heal.SHORT_BUFFERS if memory.holding.spare else {})}
        self.resumed = False
        job = Job(
            stage=stage.name,
            items=items,
            weights=stage.weights,
            home=str(self.prepared.home.root),
            dtype=stage.dtype,
            params={**stage.params, **held, **self.unkeyed_params(stage.name)},
            limits=limits,
        )

        def forward(event: dict[str, Any]) -> None:
            if event.get("event") == "started":
                weights = {use.path: use.role for use in stage.weights}
                self.run.update_stage(stage.name, status="pending", pid=event.get("pid"))
                planned = {} if memory is None else {"memory": memory.to_dict()}
                self.emit(
                    "stage_started",
                    stage=stage.name,
                    pid=event.get("pid"),
                    items=len(items),
                    weights=weights,
                    **planned,
                )
            elif event.get("event") in FORWARDED:
                self.resumed = self.resumed or event["event"] == "resumed"
                self.emit(**{**event, "stage": stage.name})

        try:
            return run_worker(
                job,
                job_path=self.run.job_path(stage.name),
                log_path=self.run.log_path(stage.name),
                environment=variables,
                on_event=forward,
                interrupts=self.interrupts,
                backend=self.prepared.machine.backend,
                expected=0 if memory is None else memory.expected,
            )
        except OSError as error:  # the job file or the log
            raise write_error(error, self.run.job_path(stage.name), 1 << 16) from error

    def check_weights(self, stage: StagePlan, computed: tuple[Item, ...] = ()) -> None:
        """WeightsError when a file is no longer the one that the keys were made from.

        What was `computed` meanwhile may come from either file: it is taken back.
        """
        for use in stage.weights:
            for path, known in [(use.path, use.fingerprint), *((lora.path, lora.fingerprint) for lora in use.loras)]:
                if self.prepared.fingerprint(Path(path)) != known:
                    for item in computed:
                        remove(Path(item.output))
                        drop_partial(self.prepared.home, item.key)
                    raise WeightsError(
                        f"{path} changed while the run was under way.",
                        advice="Run the same command again: what does not depend on that file is reused.",
                    )

    def check_end(self, stage: StagePlan, end: WorkerEnd, memory: StageMemory) -> None:
        if end.code:
            self.run.update_stage(stage.name, status="failed", **figures(end), notes=self.notes(memory, end))
            raise error_for(End(end.code, end.kind, end.message, end.advice))
        missing = self.missing(stage)
        absent = [item for item in stage.items if item in missing]
        if absent:
            raise WorkerFailed(f"The {stage.name} worker ended well, but its result {absent[0].output} is not there.")

    def finish_stage(self, stage: StagePlan, status: str, worker: Mapping[str, Any]) -> None:
        artifacts = [item.output for item in stage.items if Path(item.output).exists()]
        for path in artifacts:
            self.results.use(path)
        for item in stage.items:  # its worker was killed between publishing and this
            if item.output in artifacts:
                drop_partial(self.prepared.home, item.key)
        if status == "computed":
            self.computed.add(stage.name)
        keys = [item.key for item in stage.items]
        self.run.update_stage(stage.name, status=status, keys=keys, artifacts=artifacts, **worker)
        if status == "cached":
            self.emit("stage_cached", stage=stage.name)
        else:
            self.emit("stage_done", stage=stage.name, **worker)

    def register(self) -> list[str]:
        """Says in the run's state what it makes and needs, which keeps that from being pruned; returns the outputs."""
        # The videos in the order of the seeds, then what --keep-base keeps: `resume` reads them in that order.
        last = self.prepared.relay[-1]
        outputs = [str(self.prepared.outputs[item.key]) for item in last.items if item.key in self.prepared.outputs]
        with registration(self.prepared.home, stop=lambda: self.interrupts.requested):
            known = self.run.state().stages
            keys = {stage.name: tuple(item.key for item in stage.items) for stage in self.prepared.relay}
            stages = {name: replace(known.get(name, StageState()), keys=keys[name]) for name in keys}
            self.run.update_state(status="running", outputs=outputs, stages=stages, stop_after=self.prepared.stop_after)
        return outputs

    def settle_names(self) -> None:
        """A name that nobody gave may have been taken while this run computed: the video gets the next number.

        A run that computed nothing chose its names a moment ago, and need not read its videos once more.
        """
        prepared = self.prepared
        if not self.computed or prepared.overwrite or not in_the_way(prepared.outputs, prepared.home):
            return
        outputs, remarks = prepared.choose()
        self.prepared = replace(prepared, outputs=outputs)
        self.register()
        for remark in remarks:
            self.emit("warning", message=remark)

    def limit_cache(self) -> None:
        """The least recently used results go when all together are larger than the limit; this run's stay."""
        try:
            limit = limit_from(os.environ)
            pruned = prune(self.prepared.home, max_bytes=limit, damaged=False) if limit is not None else None
        except RelayError as error:
            self.emit("warning", message=f"The cache could not be kept small: {error.message}")
            return
        if pruned is not None and pruned.removed:
            self.emit("cache_pruned", removed=pruned.removed, bytes=pruned.removed_bytes, kept=pruned.kept_bytes)

    def end_badly(self, error: RelayError) -> None:
        resume = self.resume_command() if error.exit_code >= 4 else None
        ended: dict[str, Any] = {"exit_code": error.exit_code, "message": error.message, "advice": error.advice}
        with contextlib.suppress(RelayError):  # a full disk must not hide why the run ended
            self.run.update_state(status="interrupted" if error.exit_code > 128 else "failed")
        message = {"event": "error", "time": time.time(), "run": self.run.id, **ended, "resume": resume}
        with contextlib.suppress(RelayError):
            self.run.append_event(message)
        with contextlib.suppress(Exception):
            message["report"] = self.report()
        with contextlib.suppress(OSError):
            self.on_event(message)

    def report(self) -> str | None:
        """Writes the run's report; its path, or None where that cannot be done: it is worth no run."""
        try:
            return str(write_report(self.prepared.home, self.run, quickly="decode" not in self.computed))
        except Exception as error:
            self.emit("warning", message=f"There is no report of this run: {error}")
            return None

    def emit(self, event: str, **fields: Any) -> None:
        message = {"event": event, "time": time.time(), "run": self.run.id, **fields}
        with contextlib.suppress(DoesNotFit):  # events are a diary: a full disk ends a run where it matters
            self.run.append_event(message)
        self.on_event(message)
        failpoint(f"event.{event}")

    def resume_command(self) -> str:
        """The command line that goes on with this run."""
        overwrite = ["--overwrite"] if self.prepared.overwrite else []
        return command("resume", self.run.id, *overwrite, home=self.prepared.home)

    # -- what a kind of run does in its own way ------------------------------------------------------------------------

    def begin(self) -> None:
        """Registers the run, and emits `run_started`."""
        raise NotImplementedError

    def deliver(self) -> tuple[Path, ...]:
        """Copies the finished videos to their places, and emits `video_done`; one that is there already stays."""
        raise NotImplementedError

    def unkeyed_params(self, stage: str) -> dict[str, Any]:
        """What that stage's worker is told that changes no result."""
        raise NotImplementedError

    def going_on(self) -> str:
        """The command line that carries on after `stop_after`."""
        raise NotImplementedError

    def after(self, stage: StagePlan) -> None:
        """What is done between this stage and the next."""

    def smaller_tiles(self, memory: StageMemory, end: WorkerEnd) -> StagePlan | None:
        """The stage that takes the place of one that ran out of memory, in smaller tiles; None where there is none."""
        return None

    def locked_keys(self, stage: StagePlan) -> list[str]:
        """Keys of which one run at a time computes the results."""
        return [item.key for item in stage.items]


def command(*words: str, home: Home) -> str:
    """A command line of this program, for a shell, that finds this home."""
    place = [] if home.root == home_folder(os.environ) else ["--home", str(home.root)]
    return shlex.join(["ltx-relay", *words, *place])


def figures(end: WorkerEnd) -> dict[str, Any]:
    """What a worker's end says, for the run's state and for `stage_done`."""
    return {
        "pid": end.pid,
        "seconds": end.seconds,
        "mlx_peak": end.mlx_peak,
        "process_peak": end.process_peak,
        "bytes_read": dict(end.bytes_read),
    }
