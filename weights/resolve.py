"""Which file serves which stage.

Guarantees of a `WeightsSet`: every file in it is whole, of the right kind, and of one version; every tensor that the
stages need is in it, and nothing unexplained beside them; Gemma fits the checkpoint, and each LoRA its transformer.
What a flag names is used or refused, never replaced. The tiny model serves only when it is asked for. Only headers are
read.

Stage 1 takes the dev model where there is one, unless `model_variant` says otherwise; stage 2 takes the distilled
checkpoint, or dev + distilled LoRA.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from weights.catalogue import (
    CHECKPOINT,
    GEMMA,
    LORA,
    SPATIAL,
    TEMPORAL,
    VERSIONS,
    WeightsFile,
    check_tokenizer,
    stated_version,
)
from weights.errors import WeightsError
from weights.header import read_header
from weights.lora import match
from weights.resolve_advice import missing_advice, nothing_advice, shown
from weights.resolve_named import Named, folders_of, named_file, same_family
from weights.resolve_search import Shelf, default_search, survey
from weights.resolve_types import LoraRequest, LoraUse, Model, UpscalerSet, WeightsRequest, WeightsSet
from weights.select import bits_on_load, check_text_encoder, select

__all__ = [
    "LoraRequest",
    "LoraUse",
    "Model",
    "UpscalerSet",
    "WeightsRequest",
    "WeightsSet",
    "default_search",
    "resolve",
    "resolve_upscaler",
]


def resolve(request: WeightsRequest, search: Sequence[Path]) -> WeightsSet:
    """WeightsError names the file or the flag, and the command that fetches what is missing."""
    if request.model_version not in (None, *VERSIONS):
        raise WeightsError(f"--model-version is {request.model_version}; it must be {' or '.join(VERSIONS)}.")
    named = Named.of(request)
    shelf = survey(folders_of(request, search), request.model_version)
    families = _families(request, named, shelf)
    absent = None
    for version, tiny in families:
        try:
            found = _Chooser(request, named, shelf, version, tiny).weights_set()
        except _AbsentError as error:
            absent = absent or error
        else:
            _check(found, request)
            return found
    raise absent or _nothing(request, shelf)


def resolve_upscaler(request: WeightsRequest, kind: str, search: Sequence[Path]) -> UpscalerSet:
    """The VAE of a checkpoint, whichever of a version's, and the upscaler (SPATIAL or TEMPORAL) for its latents.

    WeightsError as `resolve`.
    """
    named = Named.of(request)
    shelf = survey(folders_of(request, search), request.model_version)
    absent = None
    for version, tiny in _families(request, named, shelf):
        chooser = _Chooser(request, named, shelf, version, tiny)
        try:
            vae = named.stage1 or chooser.find(CHECKPOINT)
            if vae is None:
                raise chooser.missing(CHECKPOINT, None, "Encoding and decoding need the VAE of a checkpoint")
            upscaler = chooser.upscaler(
                kind,
                named.spatial if kind == SPATIAL else named.temporal,
                f"Upscaling needs the {'spatial' if kind == SPATIAL else 'temporal'} upscaler",
            )
        except _AbsentError as error:
            absent = absent or error
        else:
            for component in ("statistics", "vae_encoder", "vae_decoder"):
                select(vae.path, component)
            select(upscaler.path, "upsampler")
            return UpscalerSet(vae, upscaler)
    raise absent or _nothing(request, shelf, text=False)


class _AbsentError(WeightsError):
    """Nothing that could serve: another version's files may, if they are all there. Damage is never passed over."""


def _families(request: WeightsRequest, named: Named, shelf: Shelf) -> list[tuple[str, bool]]:
    """(version, tiny) to try: that of the named files, else of the checkpoints found, LTX-2 before LTX-2.3.

    A tiny checkpoint counts only in a folder that the user named. A damaged one counts too, by its name: another
    version must not silently take its place.
    """
    checkpoints = [
        file
        for file in shelf.files
        if file.kind == CHECKPOINT
        and request.model_version in (None, file.version)
        and (not file.tiny or request.model is not None)
    ]
    fixed, present = named.family(), {(str(file.version), file.tiny) for file in checkpoints}
    if checkpoints:
        present |= {
            (broken.version, False)
            for broken in shelf.unusable
            if broken.kind == CHECKPOINT and broken.variant and broken.version in VERSIONS
            if request.model_version in (None, broken.version)
        }
    if fixed is not None and request.model == "tiny" and not fixed[1]:
        raise WeightsError(f"{named.files[0].path} is no file of the tiny model, which --model names.")
    if fixed is None:
        return sorted(present, key=lambda family: (family[1], family[0]))
    if named.stage1 is None and named.stage2 is None and checkpoints and fixed not in present:
        same_family(checkpoints[0], named.files[0])
    return [fixed]


class _Chooser:
    """The rules, for one family; named files are of it already."""

    def __init__(self, request: WeightsRequest, named: Named, shelf: Shelf, version: str, tiny: bool) -> None:
        self.request, self.named, self.shelf, self.version, self.tiny = request, named, shelf, version, tiny

    def weights_set(self) -> WeightsSet:
        stage1 = self.stage1()
        stage2 = self.stage2(stage1) if self.request.two_stage else None
        spatial = self.upscaler(SPATIAL, self.named.spatial) if self.request.two_stage else None
        temporal = self.upscaler(TEMPORAL, self.named.temporal) if self.request.temporal else None
        gemma = self.gemma(stage1.checkpoint)
        stage1 = replace(stage1, loras=stage1.loras + self.user_loras("stage1"))
        if stage2 is not None:
            stage2 = replace(stage2, loras=stage2.loras + self.user_loras("stage2"))
        return WeightsSet(stage1.checkpoint, gemma.path, stage1, stage2, stage1.checkpoint, spatial, temporal)

    def stage1(self) -> Model:
        wanted, named = self.request.model_variant, self.named.stage1
        if named is None:
            for candidate in ("dev", "distilled") if wanted is None else (wanted,):
                found = self.find(CHECKPOINT, candidate)
                if found is not None:
                    return Model(found, candidate)
            if wanted != "distilled":
                raise self.missing(
                    CHECKPOINT, wanted, f"Stage 1 needs {'a' if wanted is None else 'the dev'} checkpoint"
                )
            return self.distilled_by_lora("This run", self.find(CHECKPOINT, "dev"))
        variant = named.variant or wanted
        if variant is None:
            raise WeightsError(
                f"Neither the name of {named.path} nor its folder's says whether it is the dev or the distilled model.",
                advice="Say it with --model-variant dev or --model-variant distilled.",
            )
        if wanted in (None, variant):
            return Model(named, variant)
        if variant == "dev":
            return self.distilled_by_lora("This run", named)
        raise WeightsError(
            f"{named.path} is the distilled model by its name, but this run wants the dev model.",
            advice="Name a dev checkpoint, or choose --model-variant distilled.",
        )

    def stage2(self, stage1: Model) -> Model:
        named = self.named.stage2
        if named is None:
            found = self.find(CHECKPOINT, "distilled")
            if found is not None:
                return Model(found, "distilled")
            if stage1.variant == "distilled":
                return stage1
            return self.distilled_by_lora("Stage 2", stage1.checkpoint)
        if named.path == stage1.checkpoint.path:  # what stage 1 knows of its variant, the flags included
            return stage1 if stage1.variant == "distilled" else self.distilled_by_lora("Stage 2", named)
        # A file that is named for stage 2 and whose name says nothing is what stage 2 wants.
        return self.distilled_by_lora("Stage 2", named) if named.variant == "dev" else Model(named, "distilled")

    def distilled_by_lora(self, who: str, dev: WeightsFile | None) -> Model:
        """The dev checkpoint with the distilled LoRA on it."""
        if dev is None:
            raise self.missing(CHECKPOINT, "distilled", f"{who} needs the distilled checkpoint")
        lora = self.named.distilled_lora or self.find(LORA, "distilled")
        if lora is None:
            need = f"{who} needs the distilled checkpoint, or the distilled LoRA on {dev.path.name}"
            raise self.missing(CHECKPOINT, "distilled", need)
        return Model(dev, "distilled", (LoraUse(lora.path, 1.0),))

    def upscaler(self, kind: str, named: WeightsFile | None, need: str = "") -> WeightsFile:
        if named is not None:
            return named
        found = self.find(kind)
        if found is None:
            who = "Stage 2 needs the spatial upscaler" if kind == SPATIAL else "The temporal stage needs its upscaler"
            raise self.missing(kind, None, need or who)
        return found

    def gemma(self, checkpoint: WeightsFile) -> WeightsFile:
        """The first that fits the checkpoint."""
        projection = select(checkpoint.path, "projection")
        if self.named.gemma is not None:
            try:
                check_text_encoder(projection, select(self.named.gemma.path, GEMMA))
            except WeightsError as error:
                raise WeightsError(f"--gemma: {error.message}", advice=error.advice) from error
            return self.named.gemma
        refusal = None
        for file in self.shelf.files:
            if file.kind == GEMMA:
                try:
                    check_text_encoder(projection, select(file.path, GEMMA))
                    return file
                except WeightsError as error:
                    refusal = refusal or error
        raise refusal or self.missing(GEMMA, None, "The text stage needs Gemma 3 12B, a folder named gemma*")

    def user_loras(self, stage: str) -> tuple[LoraUse, ...]:
        wanted = [lora for lora in self.request.loras if lora.stage in (None, stage)]
        files = [named_file("--lora", lora.path, LORA, None) for lora in wanted]
        for file in files:  # only by its own word: the layers of both versions have the same shapes
            said = stated_version(read_header(file.path))
            if said not in (None, self.version):
                raise WeightsError(
                    f"--lora {file.path} is made for LTX-{said}, and the checkpoint is of LTX-{self.version}.",
                    advice="Use a LoRA that was made for this checkpoint's version.",
                )
        return tuple(LoraUse(file.path, lora.strength) for file, lora in zip(files, wanted, strict=True))

    def find(self, kind: str, variant: str | None = None) -> WeightsFile | None:
        """The preferred file in this role. A file that should have it by its name, but is damaged, is an error: what
        serves in its place would silently give another result."""
        family = (self.version, self.tiny)
        for file in self.shelf.files:
            same = (file.version or self.version, file.tiny) == family
            if file.kind == kind and same and variant in (None, file.variant):
                return file
        for broken in self.shelf.unusable:
            same = broken.version in (None, self.version) and broken.variant == variant
            if broken.kind == kind and same:
                raise broken.error
        return None

    def missing(self, kind: str, variant: str | None, need: str) -> WeightsError:
        """The reason: a damaged folder, a file whose variant nobody says, or none at all."""
        for broken in self.shelf.unusable:
            if broken.kind == kind == GEMMA:
                return broken.error
        for file in self.shelf.files:
            if file.kind == kind == CHECKPOINT and file.version == self.version and file.variant is None:
                return _AbsentError(
                    f"{file.path} is an LTX-{file.version} checkpoint, but neither its name nor its folder's says "
                    "whether it is the dev or the distilled model.",
                    advice=f"Name it with --weights {shown(file.path)} --model-variant dev (or distilled).",
                )
        where = ", ".join(shown(folder) for folder in self.shelf.folders)
        advice = missing_advice(
            self.version, self.tiny, variant or ("distilled" if kind == CHECKPOINT else kind), self.shelf.folders[0]
        )
        return _AbsentError(f"{need}, and there is none in {where}.", advice=advice)


def _nothing(request: WeightsRequest, shelf: Shelf, text: bool = True) -> WeightsError:
    """No checkpoint at all: what is there but damaged, else both ways out."""
    for broken in shelf.unusable:
        if broken.kind == CHECKPOINT:
            return broken.error
    version = request.model_version
    roles = [request.model_variant or "dev"]
    roles += ["lora"] * (text and request.two_stage and roles == ["dev"])
    roles += [SPATIAL] * request.two_stage + [TEMPORAL] * request.temporal
    where = ", ".join(shown(folder) for folder in shelf.folders)
    return WeightsError(
        f"There are no weights of LTX-{version or 2} in {where}.",
        advice=nothing_advice(version or "2.0", roles, shelf.folders[0], text),
    )


def _check(found: WeightsSet, request: WeightsRequest) -> None:
    """Every selection that the workers will make, made once before any of them starts."""
    for component in ("connector", "statistics", "vae_decoder"):
        select(found.vae.path, component)
    for upscaler in (found.spatial, found.temporal):
        if upscaler is not None:
            select(upscaler.path, "upsampler")
    for model in (found.stage1, found.stage2):
        if model is not None:
            transformer = select(model.checkpoint.path, "transformer")
            bits_on_load(transformer, request.quantize)
            for lora in model.loras:
                match(read_header(lora.path), transformer)
    if request.tokenizer:
        check_tokenizer(found.gemma)
