"""`weights download` against a small hub, in processes of their own: what is cut off goes on, and the files run."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import PROMPT, Program, Result
from tests.hub_server import LTX, Hub, serving, tiny_hub
from tests.official import NAMES

DEV = "ltx-2-19b-dev.safetensors"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(tiny_hub()) as hub:
        yield hub


def download(program: Program, hub: Hub, *flags: str, **changes: str) -> Result:
    home = str(program.folder / "hf")
    return program("weights", "download", *flags, **{"HF_ENDPOINT": hub.url, "HF_HOME": home, **changes})


def inside(folder: Path) -> set[str]:
    """Finished files, and links or files that have no business there."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    return {name for name in found if ".cache/" not in name}


def test_an_interrupted_download_goes_on_and_the_files_run(program: Program, hub: Hub) -> None:
    """Cut in the middle of the largest file: the next call fetches the rest of it, and nothing that was there."""
    folder = program.folder / "weights/ltx-2"
    hub.cut = {DEV: 12_000_000}
    first = download(program, hub, "--yes")
    assert first.code == 3, first.err
    assert f"{DEV} of {LTX} could not be fetched" in first.err
    assert "it goes on where this one stopped" in first.err
    assert "Traceback" not in first.err
    gemma = {f"gemma-3-12b/{name}" for name in ("config.json", "tokenizer.json", "tokenizer_config.json")}
    gemma |= {"gemma-3-12b/model.safetensors", "gemma-3-12b/tokenizer.model"}
    assert inside(folder) == gemma, "a file has its name only when it is whole"
    hub.cut, hub.down = {}, False
    hub.asked.clear()
    second = download(program, hub, "--yes", "--json")
    assert second.code == 0, second.err
    (span,) = hub.fetched(DEV)
    assert int(span.removeprefix("bytes=").rstrip("-")) >= 10_000_000
    assert not hub.fetched("model.safetensors")
    missing = next(event for event in second.of("missing") if event["name"] == DEV)
    assert missing["left"] < missing["bytes"] - 9_000_000
    expected = {name for name in NAMES if name != "ltx-2-19b-distilled.safetensors"}
    assert inside(folder) == gemma | expected
    assert all((folder / name).read_bytes() == hub.repositories[LTX][name] for name in expected)
    # what was fetched is whole, and is found
    verdicts = program("weights", "verify", "--json", HF_HOME=str(program.folder / "hf")).events
    assert {verdict["state"] for verdict in verdicts} == {"whole"}
    plan = program("plan", PROMPT, "--json", HF_HOME=str(program.folder / "hf"))
    assert (plan.code, json.loads(plan.out)["recipe"]["preset"]) == (0, "max")


def test_ctrl_c_keeps_what_was_fetched(program: Program, hub: Hub) -> None:
    hub.stall = {DEV: 12_000_000}
    process = program.start(
        "weights", "download", "--yes", "--json", HF_ENDPOINT=hub.url, HF_HOME=str(program.folder / "hf")
    )
    for _ in range(1000):
        if any(path.stat().st_size >= 10_000_000 for path in program.folder.rglob("*.part")):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command goes on from there" in err
    assert json.loads(out.splitlines()[-1])["exit_code"] == 130
    assert any(path.stat().st_size >= 10_000_000 for path in program.folder.rglob("*.part"))
