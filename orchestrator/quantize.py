"""`weights quantize`: everything that can be refused first, then one worker that writes the copy."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.durable import reason, size_text, sweep
from cache.home import Home
from cache.locks import hold_all
from orchestrator.ends import End, error_for
from orchestrator.environment import worker_environment
from orchestrator.interrupts import Interrupts
from orchestrator.machine import probe
from orchestrator.machine_lock import machine_lock
from orchestrator.recipe import QUANTIZE
from orchestrator.supervisor import WorkerEnd, run_worker
from weights.catalogue import CHECKPOINT
from weights.errors import DoesNotFit, UsageError
from weights.quantize_plan import QuantizePlan, plan
from workers.protocol import Item, Job, WeightsUse

OnEvent = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Prepared:
    """A copy that only has to be written."""

    planned: QuantizePlan
    output: Path


def prepare(source: Path, output: Path | None, bits: int, *, overwrite: bool) -> Prepared:
    """UsageError (2), WeightsError (3) or DoesNotFit (4, the disk). output: None for a name beside the source."""
    if bits not in QUANTIZE:
        raise UsageError(f"--bits {bits} is not possible: weights are quantised to 8 or 4 bits.")
    planned = plan(source, bits)
    single = planned.kind == CHECKPOINT
    if output is None:
        stem = planned.path.stem if single else planned.path.name
        output = planned.path.with_name(f"{stem}-{bits}bit{'.safetensors' if single else ''}")
    output = Path(os.path.abspath(output))
    if single and output.suffix != ".safetensors":
        raise UsageError(f"--output {output} must end in .safetensors, as checkpoints are found by that.")
    if not output.parent.is_dir():
        raise UsageError(f"--output {output}: the folder {output.parent} does not exist.")
    if _is_there(output):
        if os.path.samefile(output, planned.path):
            raise UsageError(f"--output {output} is the source itself.")
        if not overwrite or output.is_dir():
            advice = "Remove it, or give another --output." if output.is_dir() else "Add --overwrite to replace it."
            raise UsageError(f"{output} exists; nothing was changed.", advice=advice)
    status = os.statvfs(output.parent)
    free = status.f_bavail * status.f_frsize
    if free < planned.size:
        raise DoesNotFit(
            f"The copy takes {size_text(planned.size)}, and the disk of {output.parent} has {size_text(free)} free: "
            f"{size_text(planned.size - free)} too little.",
            advice="Free some space, or give an --output on another disk.",
        )
    return Prepared(planned, output)


def _is_there(output: Path) -> bool:
    """UsageError for a name that no file can have, before any work."""
    try:
        os.lstat(output)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UsageError(f"--output {str(output)!r:.200} is not possible: {reason(error)}.") from error
    return True


def write(prepared: Prepared, *, home: Home, on_event: OnEvent, interrupts: Interrupts) -> WorkerEnd:
    """Runs the worker. Raises a RelayError with its exit code; then there is no copy, nor a part of one."""
    planned, output = prepared.planned, prepared.output
    sweep(output.parent)
    environment = worker_environment(os.environ)
    machine = probe(home.root / "machine.json", environment)
    key = hashlib.sha256(f"{output} {planned.bits}".encode()).hexdigest()
    role = "transformer" if planned.kind == CHECKPOINT else "gemma"
    job = Job(
        stage="quantize",
        items=(Item(key, str(output)),),
        weights=(WeightsUse(role, str(planned.path), ""),),
        home=str(home.root),
        params={"bits": planned.bits},
    )

    def waiting(sentence: str) -> None:
        on_event({"event": "stage_waiting", "stage": "quantize", "message": sentence})

    with (
        hold_all([machine_lock()], on_wait=waiting, stop=lambda: interrupts.requested),
        tempfile.TemporaryDirectory(prefix="ltx-relay-") as folder,
    ):
        end = run_worker(
            job,
            job_path=Path(folder) / "job.json",
            log_path=Path(folder) / "log",
            environment=environment.variables,
            on_event=on_event,
            interrupts=interrupts,
            backend=machine.backend,
        )
    interrupts.check()
    if end.code:
        raise error_for(End(end.code, end.kind, end.message, end.advice))
    return end
