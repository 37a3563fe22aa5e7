"""The Python of docs/python.md, block after block in one program, as a reader would type it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.end_to_end.conftest import Program

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_the_page_runs(program: Program) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 4
    script = program.folder / "page.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    environment = {**program.environment, "PYTHONPATH": str(PAGE.parents[1])}
    process = subprocess.run(
        [sys.executable, str(script)],
        cwd=program.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    for name in ("ball.mp4", "ball-slow.mp4", "ball-again.mp4", "blue.mp4", "four.mp4"):
        assert (program.folder / name).stat().st_size > 1000, name
    assert (program.folder / "ball.mp4").read_bytes() == (program.folder / "ball-again.mp4").read_bytes()
    assert "stopped: " in process.stdout
    assert "four.mp4" in process.stdout.splitlines()[-1]
