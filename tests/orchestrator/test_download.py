"""What `weights download` says and refuses, against a small hub in a thread; nothing is written that should not be."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator import cli
from orchestrator.download import survey_missing
from tests.hub_server import LTX, Hub, serving, tiny_hub
from tests.official import NAMES, lay_out
from weights.errors import WeightsError
from weights.header_folder import GEMMA_REPOSITORY
from weights.hub import HubFile, fetch_file, unreachable
from weights.wanted import roles_for

DEV, LORA = "ltx-2-19b-dev.safetensors", "ltx-2-19b-distilled-lora-384.safetensors"
EVIL = ["../evil.safetensors", "../../evil.safetensors", "/evil.safetensors", "a/evil.safetensors", "..", ".evil"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Takes the place of huggingface.co in this process, whose folder and Hugging Face home are empty."""
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("LTX_RELAY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LTX_RELAY_WEIGHTS", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert huggingface_hub.__version__
    with serving(tiny_hub()) as hub:
        point_at(monkeypatch, hub.url)
        yield hub


def point_at(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def download(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*flags: str, command: Sequence[str] = ("weights", "download")) -> tuple[int, str, str]:
        code = cli.main([*command, *flags])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return run


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_a_dry_run_and_a_run_without_a_terminal_write_nothing(hub: Hub, download: Callable, tmp_path: Path) -> None:
    flags = ("--preset", "two-stage", "--model-variant", "distilled")
    for last, expected in ((("--dry-run",), 0), ((), 2)):
        code, _, err = download(*flags, *last)
        assert code == expected
        for line in ("24 MB  ltx-2-19b-distilled.safetensors", "867 kB  gemma-3-12b", "890 kB  ltx-2-spatial"):
            assert line in err
        assert "temporal" not in err
        assert LORA not in err
    assert "Add --yes" in err
    assert not files_in(tmp_path)


def test_a_gated_repository_says_what_to_do_before_anything_large(
    hub: Hub, download: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.gated = {GEMMA_REPOSITORY}
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    code, _, err = download("--yes")
    assert code == 3
    assert f"Accept it at {hub.url}/{GEMMA_REPOSITORY}" in err
    assert "HF_TOKEN" in err
    assert "about 24.4 GB" in err
    assert "hf_secretsecret" not in err
    assert "hf_secretsecret" in hub.tokens
    assert not hub.fetched(DEV)


def test_a_file_that_the_hub_has_no_more(hub: Hub, download: Callable) -> None:
    del hub.repositories[LTX][DEV]
    assert f"{LTX} has no file {DEV}" in download("--yes")[2]


def test_a_repository_that_is_gone(hub: Hub, download: Callable) -> None:
    del hub.repositories[GEMMA_REPOSITORY]
    code, _, err = download("--yes")
    assert (code, f"shows no repository {GEMMA_REPOSITORY} to you" in err) == (3, True)


def test_no_hub_at_all(hub: Hub, download: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(monkeypatch, "http://127.0.0.1:9")
    code, _, err = download("--yes")
    assert (code, "could not be fetched" in err, "HTTPS_PROXY" in err, "about 43.3 GB" in err) == (3, True, True, True)


def test_a_library_that_does_not_load(hub: Hub, download: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub.file_download", None)
    code, _, err = download("--yes")
    assert (code, "huggingface_hub does not load" in err, "about 43.3 GB" in err) == (3, True, True)


def test_offline_means_offline(hub: Hub, download: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, _, err = download("--yes")
    assert (code, "HF_HUB_OFFLINE is set" in err) == (3, True)


def test_a_page_served_as_weights_is_no_success(hub: Hub, download: Callable) -> None:
    hub.repositories[LTX][LORA] = b"<html>please log in</html>"
    code, _, err = download("--yes")
    assert (code, f"What was served as {LORA} is not usable" in err) == (3, True)


def test_content_that_is_not_what_the_hub_promised_gets_no_name(
    hub: Hub, download: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promised = hub.siblings(LTX)
    hub.repositories[LTX][LORA] = bytes(len(hub.repositories[LTX][LORA]))
    hub.said = {LTX: [one for one in promised if one["rfilename"] == LORA]}
    code, _, err = download("--yes")
    assert (code, f"{LORA} of {LTX} came damaged" in err) == (3, True)
    assert not [name for name in files_in(tmp_path) if LORA in name]


def test_names_that_lead_elsewhere_are_nobodys(hub: Hub, download: Callable, tmp_path: Path) -> None:
    hub.said = {GEMMA_REPOSITORY: [{"rfilename": name, "size": 4} for name in EVIL]}
    inner = tmp_path / "a/b/c"
    code, out, err = download("--yes", "--preset", "draft", "--to", str(inner))
    assert code == 0, err
    assert all(Path(line).parent in (inner, inner / "gemma-3-12b") for line in out.splitlines())
    assert all(name.startswith("a/b/c/") for name in files_in(tmp_path))
    assert not any("evil" in asked for _, asked, _ in hub.asked)
    with pytest.raises(WeightsError, match="no name of a weights file"):
        fetch_file(HubFile(LTX, "a" * 40, "../x.safetensors", 1, ""), inner)


def test_a_damaged_file_is_replaced_and_another_kind_is_not(hub: Hub, download: Callable, tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "weights/ltx-2", without=("ltx-2-19b-distilled.safetensors",))
    spatial, dev = folder / "ltx-2-spatial-upscaler-x2-1.0.safetensors", folder / DEV
    whole = dev.read_bytes()
    dev.write_bytes(whole[:1_000_000])
    code, _, err = download("--yes")
    assert code == 0, err
    assert "in the place of a damaged one" in err
    assert dev.read_bytes() == whole
    spatial.write_bytes((folder / LORA).read_bytes())
    code, _, err = download("--yes")
    assert (code, "it is not replaced" in err) == (2, True)
    assert spatial.read_bytes() == (folder / LORA).read_bytes()


def test_two_downloads_of_one_file_do_not_mix(hub: Hub, tmp_path: Path) -> None:
    import fcntl

    from weights.hub import part_of, repository_files

    file = repository_files(LTX)[LORA]
    part = part_of(tmp_path, file)
    part.parent.mkdir(parents=True)
    with open(part, "wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(WeightsError, match="is being fetched by another process"):
            fetch_file(file, tmp_path)
    assert fetch_file(file, tmp_path).read_bytes() == hub.repositories[LTX][LORA]


def test_a_disk_that_is_too_small(hub: Hub, download: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=1000, f_frsize=1000))
    code, _, err = download("--yes")
    assert (code, "too little" in err, "--to FOLDER" in err) == (4, True, True)


def test_the_folder_of_the_variable_is_made(hub: Hub, download: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTX_RELAY_WEIGHTS", "elsewhere")
    assert download("--yes", "--preset", "draft")[0] == 0
    assert Path("elsewhere/ltx-2-19b-distilled.safetensors").is_file()
    assert not Path("weights").exists()
    assert "Everything is there." in download("--preset", "draft")[2]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--preset", "huge"], "--preset 'huge'"),
        (["--model-version", "3"], "--model-version '3'"),
        (["--preset", "draft", "--model-variant", "dev"], "contradicts"),
        (["--to", ""], "--to names no folder"),
        (["--json", "--quiet"], "contradict"),
    ],
)
def test_what_cannot_be_asked(hub: Hub, download: Callable, flags: list[str], sentence: str) -> None:
    code, _, err = download(*flags)
    assert (code, sentence in err) == (2, True)
    assert not hub.asked


@pytest.mark.parametrize(
    ("variant", "two_stage", "temporal", "roles"),
    [
        (None, True, True, ["gemma", "dev", "lora", "spatial-upscaler", "temporal-upscaler"]),
        ("distilled", True, False, ["gemma", "distilled", "spatial-upscaler"]),
        ("distilled", False, False, ["gemma", "distilled"]),
        ("dev", False, False, ["gemma", "dev"]),
    ],
)
def test_only_what_is_needed(variant: str | None, two_stage: bool, temporal: bool, roles: list[str]) -> None:
    assert roles_for(variant, two_stage, temporal) == roles


@pytest.mark.parametrize(
    ("without", "missing"),
    [
        ((), []),
        ((DEV,), [DEV]),
        (("ltx-2-19b-distilled.safetensors",), []),
        ((LORA,), []),
        (("ltx-2-19b-distilled",), [LORA]),
        (("ltx-2-19b-distilled", DEV), ["ltx-2-19b-distilled.safetensors"]),
        (tuple(NAMES), ["ltx-2-19b-distilled.safetensors"]),
    ],
)
def test_the_lora_stands_for_a_second_checkpoint(tmp_path: Path, without: tuple[str, ...], missing: list[str]) -> None:
    """The draft preset wants the distilled model; the max preset's dev + LoRA are that too."""
    folder = lay_out(tmp_path / "w", without=without)
    roles = ["dev", "lora"] if missing == [DEV] else ["distilled"]
    assert [one.name for one in survey_missing("2.0", roles, [folder]).files] == missing


@pytest.mark.parametrize(
    "flags",
    ["", "--preset draft", "--preset dev", "--pipeline two-stage", "--model-variant distilled", "--model elsewhere"],
)
def test_the_command_that_plan_advises_fetches_what_it_needs(hub: Hub, download: Callable, flags: str) -> None:
    """The names in the advice's `hf` command and those that our own command would fetch are the same."""
    Path("elsewhere").mkdir()
    stderr = download(command=["plan", "a fox", *flags.split()])[2]
    ours, theirs = stderr.split("`")[1::2][:2]
    assert ours.startswith("ltx-relay weights download")
    code, _, err = download(*shlex.split(ours)[3:], "--dry-run")
    assert code == 0, err
    fetched = {line.split()[3] for line in err.splitlines() if line.startswith("missing")}
    assert fetched - {"gemma-3-12b"} == {word for word in theirs.split() if word.endswith(".safetensors")}
    assert err.splitlines()[-1].endswith(str(Path("elsewhere" if "--model " in flags else "weights/ltx-2").absolute()))


def test_a_hub_without_a_name_is_said_without_the_systems_number() -> None:
    error = unreachable("a/b", OSError(-2, "Name or service not known"))
    assert error.message == "a/b could not be fetched: Name or service not known."
