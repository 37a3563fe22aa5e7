"""How fast the networks compute, beside the reference and beside what the device's own operations reach, in one run.

    uv run python -m benchmarks.speed [--only forward decode ...] [--out FILE.json] [--reference FOLDER] [--small]

Full-size shapes with random weights in bfloat16; networks of many equal layers are one layer's weights as often, which
is the same to a GPU, whose cache holds none of them. Where PyTorch and ltx-core 1.0.0 can be imported (`--reference`
adds a folder to look in) `benchmarks.reference` measures the same shapes first, in a process of its own. Prints
Markdown; each number is the median of several turns, "spread" the distance from their fastest to their slowest.

"GB/s" counts what must be read and written at least: a text encoder's weights, the arrays between convolutions. "Of the
device's own": the time of the same operations at the paces of the device's own large products, attention and
convolutions, or of the same bytes at that of its copy, whichever is longer, over ours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx

from benchmarks import environment, shapes, speed_pictures, speed_tokens, tables
from benchmarks.shapes import Shapes
from benchmarks.timing import HEADS, TIMES, Device, Row, measured_device

PATIENCE = 150
"""Seconds that the reference may take for all of its cases."""
Reference = Mapping[str, float]
"""Seconds by case, as `benchmarks.reference` names them."""
MEASUREMENTS: Mapping[str, Callable[[Shapes, Device, Reference, int], Iterator[Row]]] = {
    "forward": speed_tokens.forward,
    "text": speed_tokens.text,
    "decode": speed_pictures.decode,
    "encode": speed_pictures.encode,
    "upsamplers": speed_pictures.upsamplers,
}


def cases(sizes: Shapes, names: Sequence[str]) -> list[str]:
    """What the reference is asked for."""
    base, twice = ("x".join(map(str, grid)) for grid in (sizes.base, sizes.twice))
    found = {
        "forward": [f"forward/{grid}/{passes}" for grid in (base, twice) for passes in (1, 2)],
        "text": [f"text/{sizes.text_tokens}"],
        "decode": [f"decode/{twice}"],
        "encode": [f"encode/{base}", f"encode/{twice}"],
        "upsamplers": [f"spatial/{base}", f"temporal/{twice}"],
    }
    return [case for name in names for case in found[name]]


def reference(folder: str | None, wanted: Sequence[str], times: int) -> dict[str, float]:
    """Asks `benchmarks.reference`; what it measured before it failed, if it does."""
    path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH", "")]))
    words = [sys.executable, "-m", "benchmarks.reference", "--times", str(times), *wanted]
    environment = {**os.environ, "PYTHONPATH": path}
    try:
        done = subprocess.run(words, env=environment, capture_output=True, timeout=PATIENCE, check=False)
        said, problem = done.stdout, done.stderr if done.returncode else b""
    except subprocess.TimeoutExpired as late:
        said, problem = late.stdout or b"", f"it took longer than {PATIENCE} s".encode()
    for line in problem.decode(errors="replace").strip().splitlines()[-1:]:
        print(f"(no reference: {line})\n", file=sys.stderr)
    found: dict[str, float] = {}
    for line in said.decode(errors="replace").splitlines():
        if line.startswith("{"):
            found |= json.loads(line)
        else:
            print(f"{line}\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(MEASUREMENTS), nargs="+")
    parser.add_argument("--reference", metavar="FOLDER", help="where ltx_core and einops are, if not installed")
    parser.add_argument("--times", type=int, default=TIMES, help=f"turns that count ({TIMES})")
    parser.add_argument("--small", action="store_true", help="a rehearsal with the tiny model's networks")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    sizes = shapes.tiny() if asked.small else shapes.full()
    names = asked.only or list(MEASUREMENTS)
    theirs = {} if asked.small else reference(asked.reference, cases(sizes, names), asked.times)
    device = measured_device(asked.small)
    about = f"{mx.device_info().get('device_name', 'CPU')}, MLX {version('mlx')}, bfloat16, {sizes.name}"
    print(f"{about}\n\n{device.words}\n\n{tables.head(HEADS)}")
    rows = []
    for name in names:
        for row in MEASUREMENTS[name](sizes, device, theirs, asked.times):
            rows.append(row)
            print(tables.line(row.cells), flush=True)
            if asked.out:
                made = {
                    "device": asdict(device),
                    "reference": theirs,
                    "rows": [{**asdict(row), "seconds": row.seconds} for row in rows],
                }
                asked.out.write_text(json.dumps(made, indent=1) + "\n")
        mx.clear_cache()


if __name__ == "__main__":
    environment.enter("benchmarks.speed")
    main()
