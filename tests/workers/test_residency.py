"""Real denoising workers on the tiny model: whatever stays in memory, and whenever that changes, the bits stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from cache.artifacts import read
from cache.home import Home, open_home
from orchestrator.environment import worker_environment
from weights.header import read_header
from weights.tiny_model import tiny_folder
from workers.arrays import publish_arrays
from workers.protocol import EVENT_FD_VARIABLE, Item, Job, Lora, WeightsUse

DEV = str(tiny_folder() / "ltx-2-tiny-dev.safetensors")
LORA = Lora(str(tiny_folder() / "ltx-2-tiny-distilled-lora.safetensors"), 0.75, "f")
BLOCKS = 5
STEPS = 3


def job(home: Home, name: str, residency: dict[str, int] | None, loras: tuple[Lora, ...], **more: Any) -> Job:
    """Stage 1 with guidance on a grid of 48 cells."""
    text = home.object_path("a" * 64, ".safetensors")
    if not text.exists():
        random = np.random.default_rng(1)
        contexts = {
            side: mx.array(random.standard_normal((1, 24, 96), np.float32)) for side in ("positive", "negative")
        }
        publish_arrays(str(text), "a" * 64, "text", contexts, {})
    key = f"{name:0<64}".encode().hex()[:64]
    params = {"shape": [2, 4, 6], "fps": "24", "schedule": "dev", "steps": STEPS, "cfg": 4.0, "guidance_rescale": 0.0}
    held = {} if residency is None else {"residency": residency}
    return Job(
        "stage1",
        (Item(key, str(home.object_path(key, ".safetensors")), {"text": str(text)}, {"seed": 3}),),
        (WeightsUse("transformer", more.pop("path", DEV), "f", loras),),
        str(home.root),
        params={**params, "stg": 0.0, "stg_blocks": [], **held, **more},
    )


def work(folder: Path, made: Job, failpoints: str = "") -> tuple[int, list[dict[str, Any]]]:
    """Exit status and events of a worker."""
    path = folder / "job.json"
    path.write_text(made.to_json())
    ours, theirs = os.pipe()
    variables = {"LTX_RELAY_FAILPOINTS": failpoints} if failpoints else {}
    environment = {**worker_environment({**os.environ, **variables}).variables, **variables}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "workers", str(path)],
        stdin=subprocess.PIPE,
        pass_fds=(theirs,),
        env={**environment, EVENT_FD_VARIABLE: str(theirs)},
    )
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        events = [json.loads(line) for line in pipe]
    code = process.wait(60)
    if process.stdin is not None:
        process.stdin.close()
    return code, events


def result(made: Job) -> bytes:
    (item,) = made.items
    return bytes(read(Path(item.output), key=item.key, stage="stage1").tensors["video"].data)


def of(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(event for event in events if event["event"] == kind)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return open_home(tmp_path_factory.mktemp("home"))


def block_bytes() -> int:
    """Of all blocks in the tiny checkpoint."""
    tensors = read_header(Path(DEV)).tensors
    return sum(i.nbytes for n, i in tensors.items() if n.startswith("model.diffusion_model.transformer_blocks."))


CASES: dict[str, tuple[tuple[Lora, ...], dict[str, Any]]] = {
    "plain": ((), {}),
    "lora": ((LORA,), {}),
    "two": ((LORA, Lora(LORA.path, -0.5, "f")), {"quantize": 8}),
    "four": ((), {"quantize": 4}),
}


@pytest.fixture(scope="module")
def resident(home: Home, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    found = {}
    for name, (loras, more) in CASES.items():
        made = job(home, f"all {name}", None, loras, **more)
        code, events = work(tmp_path_factory.mktemp(name), made)
        assert code == 0
        loaded, done = of(events, "loaded"), of(events, "done")
        assert (loaded["blocks"], loaded["resident_blocks"], len(loaded["loras"])) == (BLOCKS, BLOCKS, len(loras))
        assert done["bytes_read"][DEV] == loaded["bytes"], "everything is read once"
        found[name] = result(made)
    assert len(set(found.values())) == len(CASES)
    return found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("blocks", [0, 2])
def test_streamed_blocks_give_the_same_bits(
    home: Home, resident: dict[str, bytes], tmp_path: Path, case: str, blocks: int
) -> None:
    loras, more = CASES[case]
    made = job(home, f"{blocks} {case}", {"resident_blocks": blocks, "prefetch": 1}, loras, **more)
    code, events = work(tmp_path, made)
    assert code == 0
    assert of(events, "loaded")["resident_blocks"] == blocks
    assert result(made) == resident[case]
    # All blocks have the same size here: those that stay are read once, the others at every step.
    again = (STEPS - 1) * (BLOCKS - blocks) * block_bytes() // BLOCKS
    assert of(events, "done")["bytes_read"][DEV] == of(events, "loaded")["bytes"] + again


@pytest.mark.parametrize("case", ["plain", "two"])
def test_residency_may_change_in_the_middle_of_a_run(
    home: Home, resident: dict[str, bytes], tmp_path: Path, case: str
) -> None:
    """Killed after each step, and gone on with differently each time."""
    loras, more = CASES[case]
    plans = [{"resident_blocks": 3}, None, {"resident_blocks": 0, "prefetch": 0}]
    for number, residency in enumerate(plans, 1):
        made = job(home, f"changing {case}", residency, loras, **more)
        last = number == len(plans)
        code, events = work(tmp_path, made, "" if last else "stage1.step.saved=kill")
        assert code == (0 if last else -9)
        if number > 1:
            assert of(events, "resumed")["index"] == number - 1
    assert result(made) == resident[case]


def test_a_result_that_lacks_nothing_but_its_file_needs_no_weights(
    home: Home, resident: dict[str, bytes], tmp_path: Path
) -> None:
    made = job(home, "all but published", None, ())
    assert work(tmp_path, made, f"stage1.step.saved:{STEPS}=kill")[0] == -9
    code, events = work(tmp_path, made)
    assert code == 0
    assert result(made) == resident["plain"]
    assert of(events, "resumed")["index"] == STEPS
    assert not [event for event in events if event["event"] == "loading"]
    assert DEV not in of(events, "done")["bytes_read"]


def test_what_a_lora_changed_is_said_with_counts(home: Home, tmp_path: Path) -> None:
    made = job(home, "said", {"resident_blocks": 1}, (LORA,))
    _, events = work(tmp_path, made)
    (said,) = of(events, "loaded")["loras"]
    assert said == {"path": LORA.path, "strength": 0.75, "summary": "50 layers changed, rank 16"}
    assert not [event for event in events if event["event"] == "warning"]
