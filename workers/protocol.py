"""What the orchestrator and a worker say to each other: the job file, and the events on the pipe.

A job is one stage for one or more items (one per seed) that share its weights. The orchestrator writes it as JSON;
`python -P -m workers JOB.json` reads it. Events are JSON lines on the descriptor named in the job's environment
(`EVENT_FD_VARIABLE`); nothing depends on stdout, stderr or a log. This module imports no mlx: both sides use it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from weights.errors import UsageError

FORMAT = 1
STAGES = ("text", "encode", "stage1", "preview", "stage2", "spatial", "temporal", "decode", "join")
PROGRAMS = (*STAGES, "quantize")
"""Everything that a worker can be: the stages of a run, and what computes outside of one."""
EVENT_FD_VARIABLE = "LTX_RELAY_EVENT_FD"
"""Number of the descriptor that a worker writes its events to; unset: events go nowhere (a worker run by hand)."""


@dataclass(frozen=True)
class Lora:
    """A LoRA to add onto the weights of one role: W + strength * (B @ A)."""

    path: str
    strength: float
    fingerprint: str


@dataclass(frozen=True)
class WeightsUse:
    """One file (for Gemma: one folder) that a worker reads in one role.

    role: "gemma", "projection", "connector", "transformer", "statistics", "upsampler", "vae_encoder", "vae_decoder".
    """

    role: str
    path: str
    fingerprint: str
    loras: tuple[Lora, ...] = ()


@dataclass(frozen=True)
class Item:
    """One result to compute. `inputs` maps a role ("text", "latent", "noise") to the path of an artifact."""

    key: str
    output: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """Bytes: MLX's memory limit, its buffer cache, its wired limit (Metal). None leaves MLX's default."""

    memory: int | None = None
    cache: int | None = 512 << 20
    wired: int | None = None


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs to know. `params` are the stage's, shared by its items."""

    stage: str
    items: tuple[Item, ...]
    weights: tuple[WeightsUse, ...]
    home: str
    dtype: str = "float32"
    params: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    format: int = FORMAT

    def use(self, role: str) -> WeightsUse:
        """The file in that role; a job without it is a mistake of ours."""
        for use in self.weights:
            if use.role == role:
                return use
        raise UsageError(f"The {self.stage} job names no {role} weights.")

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Job:
        """UsageError when the text is no job of this format."""
        try:
            raw = json.loads(text)
            if raw["format"] != FORMAT:
                raise UsageError(f"This job has format {raw['format']!r:.60}; this program reads format {FORMAT}.")
            if raw["stage"] not in PROGRAMS:
                raise UsageError(f"This job is for the stage {raw['stage']!r:.60}, which does not exist.")
            weights = tuple(
                WeightsUse(**{**use, "loras": tuple(Lora(**lora) for lora in use["loras"])}) for use in raw["weights"]
            )
            items = tuple(Item(**item) for item in raw["items"])
            return Job(**{**raw, "items": items, "weights": weights, "limits": Limits(**raw["limits"])})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(f"This is not a job file: {error!r:.300}.") from error


# Events are plain dictionaries with the keys "event" and "time" (seconds since the epoch) and, by kind:
EVENTS: Mapping[str, tuple[str, ...]] = {
    "started": ("stage", "pid"),
    "loading": ("role", "path", "bytes"),
    "loaded": ("role", "seconds", "bytes"),
    "item": ("key", "index", "total"),  # work on the item begins
    "step": ("key", "index", "total", "seconds"),  # a denoising step, a layer, a tile or a chunk of frames is done
    "resumed": ("key", "index", "total"),  # a saved state was found: `index` steps are done already
    "heartbeat": (),  # alive inside a long step
    "memory": ("mlx_active", "mlx_peak", "mlx_cache", "process"),  # bytes
    "preview": ("key", "path"),
    "artifact": ("key", "path", "bytes", "seconds"),  # published
    "warning": ("message",),
    "done": ("seconds", "mlx_peak", "process_peak", "bytes_read", "maxima"),
    "error": ("kind", "message", "advice", "exit_code"),
}
