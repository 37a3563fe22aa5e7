"""The content of weights files: against the hash that they were served under, or an earlier look."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

import weights
from orchestrator.cli import main
from orchestrator.verify import Verdict, verify
from weights.verify import files_of, published, read_content

TINY = Path(weights.__path__[0]) / "tiny"
LORA = TINY / "ltx-2-tiny-distilled-lora.safetensors"
SHA256 = hashlib.sha256(LORA.read_bytes()).hexdigest()
OTHER = "0" * 64


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return Path(shutil.copy(LORA, tmp_path / "lora.safetensors"))


def look(path: Path, tmp_path: Path, accept: bool = False) -> Verdict:
    return verify(path, tmp_path / "notes.json", accept=accept)


def flip(path: Path, at: int = -1000) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def test_a_file_from_elsewhere_is_noted_and_then_compared(file: Path, tmp_path: Path) -> None:
    assert (look(file, tmp_path).state, look(file, tmp_path).state) == ("noted", "whole")
    flip(file)
    assert look(file, tmp_path).state == "damaged"
    assert look(file, tmp_path, accept=True).state == "noted"
    assert look(file, tmp_path).state == "whole"


def test_damaged_notes_are_none(file: Path, tmp_path: Path) -> None:
    look(file, tmp_path)
    notes = tmp_path / "notes.json"
    notes.write_text(notes.read_text().replace(SHA256, OTHER))
    assert look(file, tmp_path).state == "noted"


@pytest.mark.parametrize(("stated", "state"), [(SHA256, "whole"), (OTHER, "damaged")])
def test_a_blob_of_the_cache_is_named_by_its_hash(tmp_path: Path, stated: str, state: str) -> None:
    blob = tmp_path / "blobs" / stated
    blob.parent.mkdir()
    shutil.copy(LORA, blob)
    link = tmp_path / "snapshots" / "1" / "lora.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    assert published(link) == stated
    assert look(link, tmp_path).state == state
    assert look(link, tmp_path, accept=True).state == state, "nobody's word is better than the server's"


@pytest.mark.parametrize("inside", ["lora.safetensors", "deeper/still/lora.safetensors"])
def test_a_download_to_a_folder_leaves_the_hash_beside_it(tmp_path: Path, inside: str) -> None:
    path = tmp_path / "local" / inside
    path.parent.mkdir(parents=True)
    shutil.copy(LORA, path)
    metadata = tmp_path / "local" / ".cache" / "huggingface" / "download" / f"{inside}.metadata"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"{'a' * 40}\n{SHA256}\n1795000000.0\n")
    assert published(path) == SHA256
    assert look(path, tmp_path).state == "whole"
    flip(path)
    verdict = look(path, tmp_path)
    assert verdict.state == "damaged"
    assert SHA256 in verdict.why
    for nonsense in ("", "one line", "a\nno hash\n1", "\x00" * 100_000):
        metadata.write_text(nonsense)
        assert published(path) is None


def test_small_files_have_the_hash_of_git(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"what is up, doc?")
    assert read_content(path).has("bd9dbf5aae1a3862dd1526723246b20206e5fc37"), "as git's own manual computes it"


@pytest.mark.parametrize("at", [3, 8])
def test_a_damaged_header_is_a_verdict(file: Path, tmp_path: Path, at: int) -> None:
    flip(file, at)
    verdict = look(file, tmp_path)
    assert verdict.state == "damaged"
    assert str(file) in verdict.why
    assert look(tmp_path / "absent.safetensors", tmp_path).state == "damaged"


def test_a_text_encoder_is_a_folder_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "gemma"
    shutil.copytree(TINY / "gemma-tiny", folder)
    names = {os.path.relpath(path, folder) for path in files_of(folder)}
    assert names == {
        ".", "model.safetensors", "config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json"
    }  # fmt: skip
    assert look(folder, tmp_path).state == "whole"
    (folder / "model.safetensors").unlink()
    assert look(folder, tmp_path).state == "damaged"


def test_the_command_ends_with_3_when_a_file_is_damaged(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["weights", "verify", str(tmp_path), "--home", str(tmp_path / "home")]
    assert main(command) == 0
    flip(file)
    assert main([*command, "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-2])["state"] == "damaged"
    assert "not what it should be" in err
    assert main(["weights", "verify", str(tmp_path / "nowhere"), *command[-2:]]) == 3
