"""Files from strangers, given to the whole program: refused in a sentence, or harmless."""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import weights
from orchestrator.machine_lock import machine_lock
from tests.faults.relay import PROMPT, Ended, Place
from tests.faults.scenario import SMALL
from weights.errors import UsageError

TINY = Path(weights.__path__[0]) / "tiny"
GIGABYTE = 1 << 30


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("strangers")).make()
    assert place.run("plan", PROMPT, *SMALL).code == 0
    return place


@pytest.fixture
def recipe(place: Place) -> dict[str, Any]:
    planned = json.loads(place.run("plan", PROMPT, *SMALL, "--steps-stage1", "1").out)
    return dict(planned["recipe"])


def huge(path: Path, size: int = 10 * GIGABYTE) -> Path:
    """So many bytes that take no room on the disk."""
    with open(path, "wb") as file:
        file.write(b'{"format": 1, "prompt": "')
        file.truncate(size)
    return path


def refused(ended: Ended, code: int, said: str) -> None:
    assert ended.code == code, (ended.code, ended.err)
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert len(ended.err.strip().splitlines()) <= 2
    assert len(ended.err) < 4_000


def in_a_gigabyte(place: Place, *arguments: str) -> Ended:
    """The command, with so much memory that reading 10 GB of anything would fail."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2 * GIGABYTE, before[1]))
    try:
        return place.run(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_recipe_of_ten_gigabytes(place: Place) -> None:
    path = huge(place.folder / "recipe.json")
    refused(in_a_gigabyte(place, "generate", "--recipe", str(path)), 2, "recipe.json")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors.index.json"])
def test_a_text_encoder_with_ten_gigabytes_of_json(place: Place, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "gemma"
    shutil.copytree(TINY / "gemma-tiny", folder)
    huge(folder / name)
    command = ("generate", PROMPT, *SMALL[:-1], "--gemma", str(folder), "--output", "huge.mp4")
    ended = in_a_gigabyte(place, *command)
    assert ended.code == 3, ended.err
    assert name in ended.err
    assert "Traceback" not in ended.err
    assert not (place.videos / "huge.mp4").exists()


@pytest.mark.parametrize("name", ["recipe.json", "state.json", "events.jsonl"])
def test_a_run_with_ten_gigabytes_of_records(place: Place, name: str) -> None:
    folder = place.home / "runs" / "20260101-000000-a-fox-0000"
    folder.mkdir()
    huge(folder / name)
    try:
        assert in_a_gigabyte(place, "runs").code == 0
        for command in ("resume", "promote", "decode"):
            ended = in_a_gigabyte(place, command, folder.name)
            assert ended.code in (2, 7), ended.err
            assert "Traceback" not in ended.err
    finally:
        shutil.rmtree(folder)


def header(entries: dict[str, Any] | str, size: int = 0) -> bytes:
    text = (entries if isinstance(entries, str) else json.dumps(entries)).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HOSTILE: dict[str, Callable[[], bytes]] = {
    "a header of 2^63 bytes": lambda: struct.pack("<Q", 2**63) + b"{}",
    "offsets out of range": lambda: header({"a": {**ENTRY, "data_offsets": [2**40, 2**40 + 4]}}, 4),
    "offsets that overlap": lambda: header({"a": ENTRY, "b": ENTRY}, 4),
    "the same name twice": lambda: header(f'{{"a": {json.dumps(ENTRY)}, "a": {json.dumps(ENTRY)}}}', 4),
    "a million tensors": lambda: header(
        "{" + ",".join(f'"{n}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for n in range(1_000_000)) + "}"
    ),
    "nested": lambda: header("[" * 1_000_000),
    "a pickle": lambda: b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n",
}


@pytest.mark.parametrize(
    ("flag", "what"),
    [*(("--weights", what) for what in HOSTILE), ("--noise", "a million tensors"), ("--lora", "the same name twice")],
)
def test_hostile_safetensors_headers(place: Place, tmp_path: Path, what: str, flag: str) -> None:
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(HOSTILE[what]())
    ended = in_a_gigabyte(place, "generate", PROMPT, *SMALL[:-1], flag, str(path), "--output", "hostile.mp4")
    refused(ended, 2 if flag == "--noise" else 3, "hostile.safetensors")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"weights": {"model": "/etc"}}, 3),
        ({"weights": {"weights": "/etc/passwd"}}, 3),
        ({"weights": {"gemma": "x" * 5000}}, 3),
        ({"weights": {"model": "\x00"}}, 3),
        ({"noise": "/dev/zero"}, 2),
        ({"loras": [["/etc/passwd", 1.0, None]]}, 3),
        ({"codec": "../../x"}, 2),
        ({"output": "/tmp/owned.mp4"}, 2),
        ({"seeds": list(range(5000))}, 2),
        ({"fps": "1e999999999"}, 2),
        ({"memory": -1}, 2),
    ],
)
def test_a_recipe_that_names_things_outside(
    place: Place, recipe: dict[str, Any], tmp_path: Path, change: dict[str, Any], code: int
) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({**recipe, **change}))
    before = tree(place.folder)
    ended = in_a_gigabyte(place, "generate", "--recipe", str(path), "--output", "out.mp4")
    refused(ended, code, "")
    assert tree(place.folder) == before, "nothing was written"


@pytest.mark.parametrize("prompt", ["../../../../../outside", "\x1b[2J\x00/../c"])
def test_a_prompt_names_no_place(place: Place, recipe: dict[str, Any], tmp_path: Path, prompt: str) -> None:
    """The prompt becomes part of the output's and the run's name."""
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({**recipe, "prompt": prompt}))
    outside = tree(place.folder.parent, but=place.folder)
    ended = place.run("generate", "--recipe", str(path), "--stop-after", "text", "--json")
    assert ended.code in (0, 2), ended.err
    assert tree(place.folder.parent, but=place.folder) == outside
    assert "\x1b" not in ended.out + ended.err


def tree(folder: Path, but: Path | None = None) -> set[str]:
    """Every path below the folder."""
    found = set()
    for top, names, files in os.walk(folder):
        if but is not None and Path(top) == but:
            names.clear()
            continue
        found.update(os.path.join(top, name) for name in (*names, *files))
    return found


def test_the_machine_lock_is_never_in_a_strangers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LTX_RELAY_MACHINE_LOCK")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    machine_lock().parent.mkdir()
    assert machine_lock().parent == tmp_path / f"ltx-relay-{os.getuid()}"
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    (tmp_path / "ltx-relay-4242").mkdir()
    with pytest.raises(UsageError, match="another user"):
        machine_lock()
