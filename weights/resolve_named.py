"""What the user's flags name: recognised, of the right kind, of one version; or a WeightsError that names the flag."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from weights.catalogue import CHECKPOINT, GEMMA, LORA, SPATIAL, TEMPORAL, WeightsFile, identify
from weights.errors import WeightsError
from weights.header_folder import CONFIG
from weights.resolve_advice import missing_file_advice
from weights.resolve_types import PathLike, WeightsRequest
from weights.tiny_model import tiny_folder


@dataclass(frozen=True)
class Named:
    """What flags name, recognised."""

    stage1: WeightsFile | None
    stage2: WeightsFile | None
    gemma: WeightsFile | None
    spatial: WeightsFile | None
    temporal: WeightsFile | None
    distilled_lora: WeightsFile | None

    @staticmethod
    def of(request: WeightsRequest) -> Named:
        def file(flag: str, path: PathLike | None, kind: str) -> WeightsFile | None:
            return None if path is None else named_file(flag, path, kind, request.model_version)

        both = file("--weights", request.weights, CHECKPOINT)
        return Named(
            stage1=file("--weights-stage1", request.weights_stage1, CHECKPOINT) or both,
            stage2=file("--weights-stage2", request.weights_stage2, CHECKPOINT) or both,
            gemma=file("--gemma", request.gemma, GEMMA),
            spatial=file("--spatial-upscaler-weights", request.spatial_upscaler, SPATIAL),
            temporal=file("--temporal-weights", request.temporal_upscaler, TEMPORAL),
            distilled_lora=file("--distilled-lora", request.distilled_lora, LORA),
        )

    @property
    def files(self) -> list[WeightsFile]:
        """Those that have a version, checkpoints first."""
        files = (self.stage1, self.stage2, self.spatial, self.temporal, self.distilled_lora)
        return [file for file in files if file is not None and file.version is not None]

    def family(self) -> tuple[str, bool] | None:
        """The one (version, tiny) that named files fix, if any is named."""
        files = self.files
        for file in files[1:]:
            same_family(files[0], file)
        return (str(files[0].version), files[0].tiny) if files else None


_WORDS = {LORA: "LoRA", GEMMA: "text encoder"}


def named_file(flag: str, value: PathLike, kind: str, version: str | None) -> WeightsFile:
    path = Path(value).expanduser().absolute()
    if kind != GEMMA and path.is_dir() and not any((path / name).exists() for name in (CONFIG, "model_index.json")):
        raise WeightsError(
            f"{flag} names {path}, which is a folder; a file is needed there.",
            advice="--model FOLDER names a folder that has all weights in it." if kind != LORA else "",
        )
    try:
        file = identify(path, version=version)
    except WeightsError as error:
        advice = error.advice
        if not advice and not os.path.lexists(path):
            advice = "Check the path." if flag == "--lora" else missing_file_advice(path, kind)
        raise WeightsError(f"{flag}: {error.message}", advice=advice) from error
    if file.kind != kind:
        what, wanted = (_WORDS.get(one, one.replace("-", " ")) for one in (file.kind, kind))
        raise WeightsError(f"{flag} names {file.path}, which is a {what}; a {wanted} is needed there.")
    if kind == CHECKPOINT and version not in (None, file.version):
        raise WeightsError(f"{flag} names {file.path}, which is LTX-{file.version}, but --model-version is {version}.")
    return file


def folders_of(request: WeightsRequest, search: Sequence[Path]) -> list[Path]:
    if request.model is None:
        return list(search) or [Path.cwd()]
    if request.model == "tiny":
        return [tiny_folder()]
    folder = Path(request.model).expanduser().absolute()
    if not folder.is_dir():
        what = "is a file; name it with --weights" if folder.exists() else "does not exist"
        raise WeightsError(
            f"--model names {folder}, which {what}.", advice='It must be a folder of weights, or "tiny".'
        )
    return [folder]


def same_family(one: WeightsFile, other: WeightsFile) -> None:
    if (other.version or one.version, other.tiny) != (one.version, one.tiny):
        raise WeightsError(
            f"{one.path} is of LTX-2 version {one.family}, and {other.path} is of {other.family}: they do not mix.",
            advice="Use files of one version; the latents of LTX-2 (2.0), LTX-2.3 and the tiny model differ.",
        )
