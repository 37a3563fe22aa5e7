"""`runs report`: what a run was predicted to take, what it took, and what it was allowed, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.commands.generate import chosen_home
from orchestrator.commands.options import Debug, Home, Json, RunName
from orchestrator.commands.runs import STATUS_STYLES, write_json
from orchestrator.commands.sheet import Line, write_lines
from orchestrator.display.words import duration, memory_size, stage_label
from orchestrator.run_record import run_record


def report_command(
    run: RunName = "last",
    home: Home = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare a run with its plan: predicted and measured peak memory per stage, the budget, and seconds."""
    from cache.runs import open_run

    record = report_record(run_record(open_run(chosen_home(home), run)))
    if json:
        write_json(record)
    else:
        write_lines(report_lines(record))


def report_record(run: Mapping[str, Any]) -> dict[str, Any]:
    """From what `runs show` has: one entry per stage that a worker computed here; bytes, seconds."""
    stages = []
    for stage in run["stages"]:
        memory = stage["notes"].get("memory") if isinstance(stage["notes"], Mapping) else None
        known = memory if isinstance(memory, Mapping) else {}
        stages.append(
            {
                "name": stage["name"],
                "status": stage["status"],
                "seconds": stage["seconds"],
                "predicted": known.get("predicted"),
                "measured": known.get("measured"),
                "budget": known.get("budget"),
                "ratio": ratio(known.get("predicted"), known.get("measured")),
                "mlx_peak": stage["mlx_peak"],
                "process_peak": stage["process_peak"],
                "bytes_read": sum(stage["bytes_read"].values()),
                "holding": known.get("holding"),
                "resident_blocks": known.get("resident_blocks"),
                "blocks": known.get("blocks"),
                "phase": known.get("phase"),
                "tiles": known.get("tiles"),
                "tile_count": known.get("tile_count"),
                "tries": known.get("tries"),
            }
        )
    return {"run": run["run"], "status": run["status"], "stages": stages}


def ratio(predicted: object, measured: object) -> float | None:
    """Predicted / measured: from 1 to 1.1 for a good prediction."""
    if not isinstance(predicted, int) or not isinstance(measured, int) or measured <= 0:
        return None
    return predicted / measured


def report_lines(record: Mapping[str, Any]) -> Iterator[Line]:
    status = str(record["status"])
    yield [(f"{record['run']}  ", "bold"), (status, STATUS_STYLES.get(status, ""))]
    yield []
    yield [(f"{'stage':<10}{'predicted':>10}{'measured':>10}{'off':>8}{'budget':>10}{'time':>9}  held", "dim")]
    for stage in record["stages"]:
        yield stage_line(stage)


def stage_line(stage: Mapping[str, Any]) -> Line:
    label = (f"{stage_label(stage['name']):<10}", "bold")
    if stage["predicted"] is None:
        return [label, (f"{stage['status']}", "dim")]
    # A prediction that was exceeded is the one thing that must be seen.
    share, style = ("", "dim") if stage["ratio"] is None else (f"{stage['ratio'] - 1:+.0%}", "")
    if stage["ratio"] is not None and stage["ratio"] < 1:
        style = "red"
    words = [str(stage["holding"])] if stage["blocks"] else []
    if (stage["tile_count"] or 0) > 1:
        words.append(f"{stage['tile_count']} tiles")
    if (stage["tries"] or 1) > 1:
        words.append(f"{stage['tries']} tries")
    return [
        label,
        (f"{memory_size(stage['predicted']):>10}", ""),
        (f"{memory_size(stage['measured']) if stage['measured'] else '':>10}", ""),
        (f"{share:>8}", style),
        (f"{memory_size(stage['budget']):>10}", "dim"),
        (f"{duration(stage['seconds']) if stage['seconds'] is not None else '':>9}", ""),
        ("  " + ", ".join(words), "dim"),
    ]
