"""Which file serves which stage: the rules as a table, and a sentence with a way out for everything that is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.weights.sparse import inventory, metadata_of, write_inventory, write_sparse
from weights.errors import WeightsError
from weights.fingerprint import fingerprint
from weights.header import read_header
from weights.resolve import (
    LoraRequest,
    Model,
    WeightsRequest,
    WeightsSet,
    default_search,
    resolve,
    resolve_upscaler,
)
from weights.tiny_model import tiny_folder
from weights.verify import files_of

DEV, DISTILLED = "ltx-2-19b-dev", "ltx-2-19b-distilled"
LORA = "ltx-2-19b-distilled-lora-384"
SPATIAL, TEMPORAL = "ltx-2-spatial-upscaler-x2-1.0", "ltx-2-temporal-upscaler-x2-1.0"
DEV23, SPATIAL23 = "ltx-2.3-22b-dev", "ltx-2.3-spatial-upscaler-x1.5-1.0"
GEMMA = "gemma-3-12b-it"
UPSCALERS = (SPATIAL, TEMPORAL)


@pytest.fixture
def shelf(tmp_path: Path, official: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes `weights/ltx-2` in an empty current folder with these official files in it; returns its path."""
    monkeypatch.chdir(tmp_path)

    def make(*names: str, folder: str = "weights/ltx-2") -> Path:
        place = tmp_path / folder
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            put(official, place, name)
        return place

    return make


def put(official: Path, place: Path, name: str, as_name: str | None = None) -> Path:
    if name == GEMMA:
        target = place / (as_name or GEMMA)
        target.mkdir()
        for file in (official / GEMMA).iterdir():
            os.link(file, target / file.name)
        (target / "tokenizer.json").write_text("{}")
        return target
    target = place / f"{as_name or name}.safetensors"
    os.link(official / f"{name}.safetensors", target)
    return target


def find(**asked: object) -> WeightsSet:
    return resolve(WeightsRequest(**asked), default_search({"HF_HOME": "/nowhere"}))  # type: ignore[arg-type]


def refused(*words: str, **asked: object) -> WeightsError:
    with pytest.raises(WeightsError) as caught:
        find(**asked)
    assert caught.value.exit_code == 3
    for word in words:
        assert word in f"{caught.value.message} | {caught.value.advice}"
    return caught.value


def shown(model: Model | None) -> tuple[str, ...] | None:
    """(variant, checkpoint, LoRAs...)"""
    if model is None:
        return None
    return (model.variant, model.checkpoint.path.stem, *(lora.path.stem for lora in model.loras))


@pytest.mark.parametrize(
    ("present", "asked", "stage1", "stage2"),
    [
        # `max` and `two-stage` prefer dev for stage 1, and a distilled checkpoint for stage 2.
        ((DEV, DISTILLED, LORA), {}, ("dev", DEV), ("distilled", DISTILLED)),
        ((DEV, LORA), {}, ("dev", DEV), ("distilled", DEV, LORA)),
        ((DISTILLED,), {}, ("distilled", DISTILLED), ("distilled", DISTILLED)),
        ((DISTILLED, LORA), {}, ("distilled", DISTILLED), ("distilled", DISTILLED)),
        # --model-variant decides stage 1.
        ((DEV, DISTILLED), {"model_variant": "distilled"}, ("distilled", DISTILLED), ("distilled", DISTILLED)),
        ((DEV, LORA), {"model_variant": "distilled"}, ("distilled", DEV, LORA), ("distilled", DEV, LORA)),
        ((DEV, LORA), {"model_variant": "dev"}, ("dev", DEV), ("distilled", DEV, LORA)),
        # One stage: `dev` and `draft`.
        ((DEV,), {"model_variant": "dev", "two_stage": False, "temporal": False}, ("dev", DEV), None),
        ((DEV, LORA), {"model_variant": "distilled", "two_stage": False}, ("distilled", DEV, LORA), None),
        # An fp8 file serves, but is never chosen over one in 16 bits.
        ((f"{DISTILLED}-fp8",), {}, ("distilled", f"{DISTILLED}-fp8"), ("distilled", f"{DISTILLED}-fp8")),
        ((DISTILLED, f"{DISTILLED}-fp8"), {}, ("distilled", DISTILLED), ("distilled", DISTILLED)),
        # Both versions are there: the one that is complete, or the one that is said.
        ((DEV23, SPATIAL23, DISTILLED), {}, ("distilled", DISTILLED), ("distilled", DISTILLED)),
        ((DEV23, DEV), {"two_stage": False, "temporal": False}, ("dev", DEV), None),
        ((DEV23, DEV), {"two_stage": False, "temporal": False, "model_version": "2.3"}, ("dev", DEV23), None),
        ((DEV23,), {"two_stage": False, "temporal": False}, ("dev", DEV23), None),
    ],
)
def test_the_rules(shelf, present, asked, stage1, stage2) -> None:
    folder = shelf(*present, *UPSCALERS, GEMMA)
    found = find(**asked)
    assert shown(found.stage1) == stage1
    assert shown(found.stage2) == stage2
    assert found.text_checkpoint == found.vae == found.stage1.checkpoint
    assert found.gemma == folder / GEMMA
    two_stage, temporal = asked.get("two_stage", True), asked.get("temporal", True)
    assert (found.spatial.path.stem if found.spatial else None) == (SPATIAL if two_stage else None)
    assert (found.temporal.path.stem if found.temporal else None) == (TEMPORAL if temporal else None)
    assert all(lora.strength == 1.0 for model in (found.stage1, found.stage2) if model for lora in model.loras)


@pytest.mark.parametrize(
    ("asked", "stage1", "stage2"),
    [
        ({"weights": DEV}, ("dev", DEV), ("distilled", DEV, LORA)),
        ({"weights": DISTILLED}, ("distilled", DISTILLED), ("distilled", DISTILLED)),
        ({"weights": DEV, "model_variant": "distilled"}, ("distilled", DEV, LORA), ("distilled", DEV, LORA)),
        ({"weights_stage1": DISTILLED}, ("distilled", DISTILLED), ("distilled", DISTILLED)),
        ({"weights_stage2": DEV}, ("dev", DEV), ("distilled", DEV, LORA)),
        ({"weights_stage1": DEV, "weights_stage2": DISTILLED}, ("dev", DEV), ("distilled", DISTILLED)),
        ({"weights": DISTILLED, "weights_stage1": DEV}, ("dev", DEV), ("distilled", DISTILLED)),
        # Where names are silent the flags speak.
        ({"weights": "silent", "model_variant": "dev"}, ("dev", "silent"), ("distilled", "silent", LORA)),
        ({"weights": "silent", "model_variant": "distilled"}, ("distilled", "silent"), ("distilled", "silent")),
        ({"weights_stage2": "silent"}, ("dev", DEV), ("distilled", "silent")),
    ],
)
def test_named_checkpoints(shelf, official, asked, stage1, stage2) -> None:
    folder = shelf(DEV, DISTILLED, LORA, *UPSCALERS, GEMMA)
    put(official, folder.parent, DEV, "silent")
    paths = {
        flag: value if flag == "model_variant" else str((folder if value != "silent" else folder.parent) / value)
        for flag, value in asked.items()
    }
    found = find(**{flag: v if flag == "model_variant" else f"{v}.safetensors" for flag, v in paths.items()})
    assert shown(found.stage1) == stage1
    assert shown(found.stage2) == stage2


def test_the_tiny_model_only_when_asked_for(shelf) -> None:
    shelf()
    error = refused("There are no weights of LTX-2 in weights/ltx-2", "hf download Lightricks/LTX-2 ltx-2-19b-")
    assert "--model tiny" in error.advice
    assert "hf download google/gemma-3-12b-it-qat" in error.advice
    assert SPATIAL in error.advice
    assert TEMPORAL in error.advice
    # Not even from the folder that is searched.
    for file in tiny_folder().glob("*.safetensors"):
        os.symlink(file, Path("weights/ltx-2") / file.name)
    refused("There are no weights of LTX-2")


@pytest.mark.parametrize("model", ["tiny", "copy"])
def test_the_tiny_model(shelf, model: str) -> None:
    place = tiny_folder()
    if model == "copy":
        place = shelf(folder="elsewhere") / "copy"
        shutil.copytree(tiny_folder(), place)
    found = find(model=model if model == "tiny" else str(place))
    assert shown(found.stage1) == ("dev", "ltx-2-tiny-dev")
    assert shown(found.stage2) == ("distilled", "ltx-2-tiny-dev", "ltx-2-tiny-distilled-lora")
    assert found.gemma == place / "gemma-tiny"
    assert found.spatial is not None
    assert found.spatial.path.parent == place
    draft = find(model=str(place) if model == "copy" else model, model_variant="distilled", two_stage=False)
    assert shown(draft.stage1) == ("distilled", "ltx-2-tiny-dev", "ltx-2-tiny-distilled-lora")


@pytest.mark.parametrize(
    ("present", "asked", "words"),
    [
        ((DEV, *UPSCALERS, GEMMA), {}, ("Stage 2 needs the distilled checkpoint, or the distilled LoRA", LORA)),
        ((DEV, *UPSCALERS, GEMMA), {"model_variant": "distilled"}, ("This run needs the distilled", DISTILLED)),
        ((DISTILLED, *UPSCALERS, GEMMA), {"model_variant": "dev"}, ("Stage 1 needs the dev checkpoint", DEV)),
        ((DISTILLED, TEMPORAL, GEMMA), {}, ("Stage 2 needs the spatial upscaler", SPATIAL)),
        ((DISTILLED, SPATIAL, GEMMA), {}, ("The temporal stage needs its upscaler", TEMPORAL)),
        ((DISTILLED, *UPSCALERS), {}, ("The text stage needs Gemma 3 12B", "google/gemma-3-12b-it-qat", "--gemma")),
        ((DEV23, SPATIAL, TEMPORAL, GEMMA), {}, ("distilled LoRA on ltx-2.3-22b-dev", "Lightricks/LTX-2.3")),
        ((DISTILLED, *UPSCALERS, GEMMA), {"model_version": "2.3"}, ("There are no weights of LTX-2.3",)),
        ((DISTILLED, *UPSCALERS, GEMMA), {"model_version": "3"}, ("--model-version is 3",)),
    ],
)
def test_what_is_missing(shelf, present, asked, words) -> None:
    shelf(*present)
    error = refused(*words, **asked)
    if "model_version" not in asked:
        assert "hf download" in error.advice
        assert "--local-dir weights/ltx-2" in error.advice


@pytest.mark.parametrize(
    ("flag", "option", "official_name"),
    [
        ("weights", "--weights", DISTILLED),
        ("weights_stage1", "--weights-stage1", DISTILLED),
        ("weights_stage2", "--weights-stage2", DISTILLED),
        ("gemma", "--gemma", "gemma-3-12b-it"),
        ("spatial_upscaler", "--spatial-upscaler-weights", SPATIAL),
        ("temporal_upscaler", "--temporal-weights", TEMPORAL),
        ("distilled_lora", "--distilled-lora", LORA),
    ],
)
def test_a_flag_is_used_or_refused(shelf, flag: str, option: str, official_name: str) -> None:
    folder = shelf(DEV, DISTILLED, LORA, *UPSCALERS, GEMMA)
    error = refused(option, "nowhere", "does not exist", **{flag: "nowhere"})
    assert official_name in error.advice
    (folder.parent / "text.safetensors").write_text("Not found")
    refused(option, "is a text", **{flag: "weights/text.safetensors"})
    with open(folder.parent / "cut.safetensors", "wb") as file:
        file.write((folder / f"{DEV}.safetensors").open("rb").read(1_000_000))
    refused(option, "is truncated: 1,000,000 of", **{flag: "weights/cut.safetensors"})
    other = folder / (f"{TEMPORAL}.safetensors" if flag != "temporal_upscaler" else f"{SPATIAL}.safetensors")
    refused(option, str(other), "which is a", "is needed there", **{flag: other})
    if flag != "gemma":
        refused(option, str(folder), "which is a folder; a file is needed there", **{flag: folder})


def test_versions_do_not_mix(shelf) -> None:
    folder = shelf(DEV, DISTILLED, LORA, *UPSCALERS, GEMMA, SPATIAL23)
    spatial23 = folder / f"{SPATIAL23}.safetensors"
    error = refused(str(spatial23), "is of 2.3", "version 2.0", "do not mix", spatial_upscaler=spatial23)
    assert "one version" in error.advice
    dev = folder / f"{DEV}.safetensors"
    refused(str(dev), "is of 2.3", spatial_upscaler=spatial23, weights=dev)
    refused("but --model-version is 2.3", weights=dev, model_version="2.3")
    tiny = tiny_folder() / "ltx-2-tiny-spatial-upscaler-x2.safetensors"
    refused("(tiny)", "do not mix", spatial_upscaler=tiny)
    refused("is no file of the tiny model", model="tiny", weights=dev)
    refused("not the text encoder", gemma=tiny_folder() / "gemma-tiny")


def test_checkpoints_of_two_versions_do_not_mix(shelf) -> None:
    folder = shelf(DEV23, DISTILLED)
    refused(
        "do not mix", weights_stage1=folder / f"{DEV23}.safetensors", weights_stage2=folder / f"{DISTILLED}.safetensors"
    )


def test_a_variant_that_nobody_says(shelf, official) -> None:
    folder = shelf(*UPSCALERS, LORA, GEMMA)
    path = put(official, folder, DEV, "model")
    refused(str(path), "neither its name nor its folder's", "--weights weights/ltx-2/model.safetensors")
    error = refused("whether it is the dev or the distilled", weights=path)
    assert "--model-variant dev" in error.advice
    assert shown(find(weights=path, model_variant="dev").stage1) == ("dev", "model")


def test_a_distilled_name_is_not_made_dev_by_a_flag(shelf) -> None:
    folder = shelf(DISTILLED, *UPSCALERS, GEMMA)
    error = refused("the distilled model by its name", weights=folder / f"{DISTILLED}.safetensors", model_variant="dev")
    assert "--model-variant distilled" in error.advice


@pytest.mark.parametrize("broken", [DEV, DISTILLED, SPATIAL, TEMPORAL])
def test_a_truncated_file_is_not_passed_over(shelf, broken: str) -> None:
    """A missing dev checkpoint would mean distilled for stage 1; a truncated one must not silently do the same."""
    folder = shelf(*({DEV, DISTILLED, SPATIAL, TEMPORAL} - {broken}), GEMMA)
    write_inventory(folder / f"{broken}.safetensors", broken)
    with open(folder / f"{broken}.safetensors", "r+b") as file:
        file.truncate(200_000_000)
    refused(str(folder / f"{broken}.safetensors"), "is truncated: 200,000,000 of")


def test_another_version_does_not_take_the_place_of_a_damaged_file(shelf) -> None:
    folder = shelf(DEV23, GEMMA)
    (folder / f"{DEV}.safetensors").write_bytes(bytes(100))
    refused(f"{DEV}.safetensors", two_stage=False, temporal=False)
    found = find(two_stage=False, temporal=False, model_version="2.3")
    assert shown(found.stage1) == ("dev", DEV23)


def test_a_broken_file_that_nothing_needs_is_no_matter(shelf) -> None:
    folder = shelf(DEV, DISTILLED, *UPSCALERS, GEMMA)
    (folder / "notes.safetensors").write_text("hello")
    (folder / "gemma-notes").mkdir()
    (folder / "ltx-2.3-22b-dev.safetensors").write_text("half")
    assert shown(find().stage1) == ("dev", DEV)


def test_an_incomplete_checkpoint_is_refused_before_any_worker(shelf) -> None:
    folder = shelf(*UPSCALERS, GEMMA)
    document = inventory(DISTILLED)
    del document["tensors"]["vae.decoder.conv_out.conv.bias"]
    write_sparse(folder / f"{DISTILLED}.safetensors", document["tensors"], metadata_of(document))
    refused("VAE decoder", "vae.decoder.conv_out.conv.bias")


def test_gemma_of_the_right_size_is_found_among_others(shelf) -> None:
    folder = shelf(DISTILLED, *UPSCALERS, GEMMA)
    shutil.copytree(tiny_folder() / "gemma-tiny", folder / "gemma-1")
    assert find().gemma == folder / GEMMA
    shutil.rmtree(folder / GEMMA)
    refused("gemma-1 is not the text encoder")


def test_gemma_needs_a_tokenizer_to_run_but_not_to_plan(shelf) -> None:
    folder = shelf(DISTILLED, *UPSCALERS, GEMMA)
    (folder / GEMMA / "tokenizer.json").unlink()
    refused(str(folder / GEMMA), "has no tokenizer")
    assert find(tokenizer=False).gemma == folder / GEMMA


def test_later_revisions_and_official_names_are_preferred(shelf, official) -> None:
    folder = shelf(*UPSCALERS, GEMMA)
    for name in ("zzz-ltx-2-distilled", f"{DISTILLED}-1.2", f"{DISTILLED}-1.10", DISTILLED):
        put(official, folder, DISTILLED, name)
    assert shown(find().stage1) == ("distilled", f"{DISTILLED}-1.10")


def test_earlier_folders_are_preferred(shelf, official, tmp_path: Path) -> None:
    first = shelf(DISTILLED, *UPSCALERS, GEMMA)
    second = shelf(*UPSCALERS, folder="second")
    put(official, second, DISTILLED, f"{DISTILLED}-1.1")
    for search in ((first, second), (second, first)):
        found = resolve(WeightsRequest(), search)
        assert found.stage1.checkpoint.path.parent == search[0]
        assert found.spatial is not None
        assert found.spatial.path.parent == search[0]
        assert found.gemma.parent == first


def test_users_loras_go_where_they_are_wanted(shelf) -> None:
    folder = shelf(DEV, LORA, *UPSCALERS, GEMMA)
    lora = folder / f"{LORA}.safetensors"
    found = find(loras=(LoraRequest(lora, 0.5), LoraRequest(lora, 0.25, "stage1")))
    assert [use.strength for use in found.stage1.loras] == [0.5, 0.25]
    assert found.stage2 is not None
    assert [use.strength for use in found.stage2.loras] == [1.0, 0.5]
    tiny = tiny_folder() / "ltx-2-tiny-distilled-lora.safetensors"
    refused("The LoRA", "does not fit", loras=(LoraRequest(tiny),))
    refused(
        "--lora: /nowhere.safetensors does not exist", "Check the path", loras=(LoraRequest("/nowhere.safetensors"),)
    )


def test_a_lora_that_says_that_it_is_for_another_version_is_refused(shelf, tmp_path: Path) -> None:
    """By what it says itself, not by the folders around it: a user's LoRAs lie anywhere."""
    folder = shelf(DEV, LORA, DISTILLED, *UPSCALERS, GEMMA)
    tensors = dict(read_header(folder / f"{LORA}.safetensors").tensors)
    shapes = {name: (info.dtype, info.shape) for name, info in tensors.items()}
    other = write_sparse(tmp_path / "style.safetensors", shapes, {"model_version": "2.3.0"})
    refused("is made for LTX-2.3, and the checkpoint is of LTX-2.0", loras=(LoraRequest(other),))
    silent = write_sparse(tmp_path / "ltx-2.3" / "style.safetensors", shapes)
    assert find(loras=(LoraRequest(silent),)).stage2.loras


def test_the_default_search(shelf, official, tmp_path: Path) -> None:
    shelf(DEV, folder="mine")
    hub = tmp_path / "hf" / "hub"

    def snapshot(repository: str, revision: str, names: Iterable[str]) -> Path:
        folder = hub / repository / "snapshots" / revision
        folder.mkdir(parents=True)
        for name in names:
            blob = hub / repository / "blobs" / f"{len(name):064x}"
            blob.parent.mkdir(exist_ok=True)
            os.link(official / f"{name}.safetensors", blob)
            os.symlink(blob, folder / f"{name}.safetensors")
        return folder

    main, other = "a" * 40, "f" * 40
    ltx = snapshot("models--Lightricks--LTX-2", main, (DISTILLED, *UPSCALERS))
    snapshot("models--Lightricks--LTX-2", other, ())
    (hub / "models--Lightricks--LTX-2" / "refs").mkdir()
    (hub / "models--Lightricks--LTX-2" / "refs" / "main").write_text(main)
    gemma = snapshot("models--google--gemma-3-12b-it-qat", main, ())
    for file in (official / GEMMA).iterdir():
        os.symlink(file, gemma / file.name)
    (gemma / "tokenizer.json").write_text("{}")
    environment = {"LTX_RELAY_WEIGHTS": "mine", "HF_HOME": str(tmp_path / "hf")}
    search = default_search(environment)
    assert search == (tmp_path / "weights/ltx-2", tmp_path / "mine", ltx, gemma)
    found = resolve(WeightsRequest(), search)
    assert shown(found.stage1) == ("dev", DEV)
    assert shown(found.stage2) == ("distilled", DISTILLED)
    assert found.gemma == gemma
    assert found.stage2 is not None
    assert found.stage2.checkpoint.path.is_symlink()
    assert default_search({"HF_HUB_CACHE": str(hub)})[1:] == (ltx, gemma)
    (hub / "models--Lightricks--LTX-2" / "refs" / "main").write_text("../../..")
    assert default_search({"HF_HUB_CACHE": str(hub)})[1].parent == ltx.parent
    with pytest.raises(WeightsError, match="LTX_RELAY_WEIGHTS names"):
        default_search({"LTX_RELAY_WEIGHTS": "absent"})


def test_the_model_folder(shelf) -> None:
    shelf(DISTILLED, *UPSCALERS, GEMMA, folder="a b")
    found = find(model="a b")
    assert found.stage1.checkpoint.path.is_absolute()
    refused("which does not exist", model="absent")
    refused("name it with --weights", model=f"a b/{DISTILLED}.safetensors")
    shelf(folder="empty")
    refused("There are no weights of LTX-2 in empty", "--local-dir empty", model="empty")


def test_upscaling_needs_a_vae_and_an_upscaler_alone(shelf) -> None:
    folder = shelf(DISTILLED, TEMPORAL)
    found = resolve_upscaler(WeightsRequest(two_stage=False), "temporal-upscaler", default_search({}))
    assert [path.name for path in found.paths] == [f"{DISTILLED}.safetensors", f"{TEMPORAL}.safetensors"]
    with pytest.raises(WeightsError, match="Upscaling needs the spatial upscaler") as caught:
        resolve_upscaler(WeightsRequest(temporal=False), "spatial-upscaler", default_search({}))
    assert f"{SPATIAL}.safetensors" in caught.value.advice
    (folder / f"{DISTILLED}.safetensors").unlink()
    with pytest.raises(WeightsError, match="no weights") as nothing:
        resolve_upscaler(WeightsRequest(two_stage=False), "temporal-upscaler", default_search({}))
    assert f"{TEMPORAL}.safetensors" in nothing.value.advice
    assert "gemma" not in nothing.value.advice


def test_upscaling_keeps_versions_apart(shelf) -> None:
    folder = shelf(DEV23, TEMPORAL)
    asked = WeightsRequest(temporal_upscaler=folder / f"{TEMPORAL}.safetensors", two_stage=False)
    with pytest.raises(WeightsError):
        resolve_upscaler(asked, "temporal-upscaler", default_search({}))


def test_upscaling_with_the_tiny_model() -> None:
    found = resolve_upscaler(WeightsRequest(model="tiny"), "spatial-upscaler", ())
    assert found.vae.path.parent == found.upscaler.path.parent == tiny_folder()


def test_what_macos_keeps_beside_files_is_no_weights_file(shelf) -> None:
    """On a disk with another system's format each file has a `._NAME` beside it."""
    place = shelf(DEV, LORA, *UPSCALERS, GEMMA)
    before, seen = find(two_stage=True, temporal=True), fingerprint(place / GEMMA)
    for path in [*place.glob("*.safetensors"), *(place / GEMMA).iterdir()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7" + bytes(4092))
    (place / f"._{GEMMA}").write_bytes(bytes(4096))
    for name in ("._ltx-2.3-22b-dev", "._ltx-2-19b-distilled"):
        (place / f"{name}.safetensors").write_bytes(bytes(4096))
    assert find(two_stage=True, temporal=True) == before
    assert fingerprint(place / GEMMA) == seen
    assert not [path for path in files_of(place / GEMMA) if path.name.startswith(".")]
