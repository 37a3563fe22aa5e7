"""What `plan` and `runs` print: sheets for people, one JSON object per line for programs; and the help pages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import cli
from orchestrator.commands.options import Flags
from orchestrator.commands.plan import plan_lines
from orchestrator.commands.sheet import visible

Capture = pytest.CaptureFixture[str]


def test_runs_without_any(home_root: Path, capsys: Capture) -> None:
    assert cli.main(["runs"]) == 0
    assert capsys.readouterr() == ("", "There is no run yet; `ltx-relay generate` makes one.\n")
    assert cli.main(["runs", "list", "--json"]) == 0
    assert capsys.readouterr() == ("", "")


def test_runs_are_listed_newest_first(make_run: Callable[..., str], capsys: Capture) -> None:
    first, second = make_run("done", prompt="a fox"), make_run("failed", prompt="a \x1b[2Jcat\n")
    for command in (["runs"], ["runs", "list"]):
        assert cli.main(command) == 0
        assert capsys.readouterr().out.splitlines() == [
            f"failed       {second}  a ?[2Jcat",
            f"done         {first}  a fox",
        ]
    assert cli.main(["runs", "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(record["id"], record["status"], record["prompt"]) for record in records] == [
        (second, "failed", "a \x1b[2Jcat\n"),
        (first, "done", "a fox"),
    ]


def test_a_damaged_run_is_listed_and_says_so(make_run: Callable[..., str], home_root: Path, capsys: Capture) -> None:
    run = make_run("done")
    (home_root / "runs" / run / "state.json").write_text("{")
    assert cli.main(["runs"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"damaged      {run}  ")
    assert "state.json" in line


def test_a_run_is_shown_per_stage_in_the_order_of_the_relay(make_run: Callable[..., str], capsys: Capture) -> None:
    stages = {
        "decode": {"status": "cached"},
        "text": {
            "status": "computed", "pid": 41, "seconds": 4.24, "mlx_peak": 3 << 30, "process_peak": 2 << 30,
            "bytes_read": {"/w/gemma": 2_000_000_000, "/w/dev.safetensors": 1_000_000_000},
        },
    }  # fmt: skip
    run = make_run("done", stages=stages)
    assert cli.main(["runs", "show", run[:-2]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3:7] == [
        "stage                 process     time      peak      read",
        "text      computed         41    4.2 s    3.0 GB    3.0 GB",
        "                                          2.0 GB  gemma",
        "                                          1.0 GB  dev.safetensors",
    ]
    assert lines[7] == "decode    cached"
    assert cli.main(["runs", "show", "last", "--json"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    record = json.loads(line)
    assert (record["run"], record["status"]) == (run, "done")
    text, decode = record["stages"]
    assert (text["name"], text["pid"], text["seconds"], text["mlx_peak"]) == ("text", 41, 4.24, 3 << 30)
    assert text["bytes_read"]["/w/gemma"] == 2_000_000_000
    assert (decode["name"], decode["status"], decode["pid"]) == ("decode", "cached", None)
    assert record["recipe"]["prompt"] == "a fox"


def test_a_run_that_is_not_there(home_root: Path, capsys: Capture) -> None:
    assert cli.main(["runs", "show", "nothing"]) == 2
    assert "There is no run 'nothing'" in capsys.readouterr().err


def test_the_sheet_of_a_plan() -> None:
    recipe = {"prompt": "a fox", "preset": "max", "steps_stage1": 15, "steps_stage2": 3, "cfg": 5.0, "seeds": (1, 2)}
    use = {"role": "transformer", "path": "/w/ltx-2-19b-dev.safetensors", "bytes": 26_085_417_216, "changes": ""}
    memory = {"predicted": 21 << 30, "holding": "37 of 48 blocks in memory, the rest streamed", "fits": True}
    memory |= {"tile_count": None, "tiles": None}
    room = {"place": "/home", "needed": 300_000_000, "free": 80_000_000_000}
    report = {
        "budget": 24 << 30, "budget_source": "--memory", "fits": True, "seconds": 200.0, "rooms": [room],
        "base": (704, 480), "output": (1408, 960), "output_frames": 193, "output_fps": "48",
        "dtype": "bfloat16", "backend": "metal", "outputs": ("/v/a-1.mp4", "/v/a-2.mp4"),
        "stages": [
            {"name": "text", "cached": True, "items": 1, "shape": None, "bytes": 5, "weights": [use]},
            {
                "name": "stage1", "cached": False, "items": 2, "shape": (13, 15, 22), "bytes": 7000000,
                "weights": [use], "memory": memory, "seconds": 100.0,
            },
        ],
    }  # fmt: skip
    lines = ["".join(text for text, _ in line).rstrip() for line in plan_lines(report, {**recipe, "memory": 24 << 30})]
    assert lines == [
        "a fox",
        "base 704x480 -> 1408x960, 193 frames at 48 fps (4.0 s)",
        "preset max, 15 + 3 steps, CFG 5, seeds 1, 2, budget 24.0 GB, bfloat16 on metal",
        "",
        "text      cached",
        "stage 1   reads 7 MB       peak 21.0 GB, 37 of 48 blocks in memory, the rest streamed, about 1m 40s, "
        "2 results, latent 13x15x22",
        "            26.1 GB  transformer  ltx-2-19b-dev.safetensors",
        "",
        "memory    at most 21.0 GB, in stage 1; budget 24.0 GB (--memory)",
        "disk      at most 300 MB on the disk of /home; 80.0 GB free",
        "time      about 3m 20s, as earlier runs took",
        "-> /v/a-1.mp4",
        "-> /v/a-2.mp4",
    ]


def test_spaces_that_align_stay_and_control_characters_do_not() -> None:
    assert visible("  a  b\x1bc ") == "  a  b?c "
    assert visible("   ") == "   "


@pytest.mark.parametrize("command", ["generate", "plan"])
def test_every_flag_is_on_its_page_with_its_meaning(
    command: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([command, "--help"]) == 0
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= 80
    for name in Flags.__dataclass_fields__:
        flag = "prompt" if name == "prompt_flag" else name.replace("_", "-")
        assert re.search(rf"--{flag}[ ,]", page), name
    for panel in ("What to make", "Size and time", "Steps and guidance", "Weights", "Memory and numbers", "Output"):
        assert panel in page


def test_the_program_without_a_command_is_its_help(capsys: Capture) -> None:
    assert cli.main([]) == 0
    alone = capsys.readouterr().out
    assert cli.main(["--help"]) == 0
    assert alone.split() == capsys.readouterr().out.split()
    for command in ("generate", "resume", "plan", "runs"):
        assert command in alone


def test_version(capsys: Capture) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ltx-relay ")
