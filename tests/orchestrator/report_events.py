"""A run of the full-size flow as its records would tell it, for reports: figures as a 32 GB Mac might give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

GB = 1 << 30
STAGES = {
    # seconds, predicted, measured, steps, what it holds
    "text": (48.0, 5.1, 4.8, 48, "layer by layer"),
    "stage1": (1630.0, 22.4, 21.7, 15, "40 of 48 blocks in memory, the rest streamed"),
    "stage2": (905.0, 23.9, 23.1, 3, "31 of 48 blocks in memory, the rest streamed"),
    "temporal": (21.0, 7.0, 6.6, 4, "in memory"),
    "decode": (260.0, 20.2, 19.5, 24, "in memory"),
}
PARTS = [
    ("text", "gemma", 23.6), ("text", "projection", 1.4), ("text", "connector", 1.1), ("stage1", "transformer", 26.1),
    ("stage2", "upsampler", 0.9), ("stage2", "transformer", 26.1), ("temporal", "upsampler", 0.3),
    ("decode", "vae_decoder", 1.1), ("", "activations", 17.0), ("", "process", 0.1),
]  # fmt: skip


def record(status: str = "done", **changes: Any) -> dict[str, Any]:
    stages = [
        {
            "name": name, "status": "computed", "keys": (f"{index:064x}",), "artifacts": (), "pid": 4000 + index,
            "seconds": seconds, "mlx_peak": int(measured * GB), "process_peak": int(measured * GB),
            "bytes_read": {"/weights/ltx-2-19b-dev.safetensors": int(predicted * 1e9)},
            "notes": {"memory": {
                "predicted": int(predicted * GB), "measured": int(measured * GB), "holding": holding, "tries": 1,
            }},
            "log": f"/home/someone/logs/{name}.log",
        }
        for index, (name, (seconds, predicted, measured, _, holding)) in enumerate(STAGES.items())
    ]  # fmt: skip
    recipe = {
        "prompt": "A red fox trots through fresh snow, low sun, its breath visible", "negative_prompt": "blurry",
        "preset": "max", "two_stage": True, "temporal": True, "height": 480, "width": 704, "frames": 97, "fps": "24",
        "stage1_schedule": "dev", "steps_stage1": 15, "steps_stage2": 3, "cfg": 5.0, "seeds": [0], "codec": "h264",
        "weights": {"model": "/weights/ltx-2"}, "tiles": [512, 64, 64, 24],
        "loras": [["/l/film.safetensors", 0.8, None]],
    }  # fmt: skip
    return {
        "run": "20261126-090000-a-red-fox-0000", "status": status, "created": 1795660648.0, "updated": 1795663500.0,
        "folder": "/home/someone/.cache/ltx-relay/runs/20261126-090000-a-red-fox-0000",
        "outputs": ["/home/someone/fox.mp4"], "stages": stages, "recipe": recipe, **changes,
    }  # fmt: skip


def started(time: float) -> dict[str, Any]:
    return {
        "event": "run_started", "time": time, "width": 1408, "height": 960, "frames": 193, "fps": "48",
        "machine": {"backend": "metal", "device": "Apple M3 Max", "dtype": "bfloat16"},
        "budget": {"bytes": int(24.9 * GB), "source": "what Metal recommends at most on this machine"},
        "monolith": {"parts": [{"stage": s, "role": r, "bytes": int(b * GB)} for s, r, b in PARTS]},
        "versions": {"ltx-relay": "0.1.0", "mlx": "0.30.1"},
    }  # fmt: skip


def worker(name: str, time: float, share: float = 1.0) -> Iterator[dict[str, Any]]:
    """The events of one worker that comes as far as `share`."""
    seconds, _, measured, steps, _ = STAGES[name]
    yield {"event": "stage_started", "time": time, "stage": name, "pid": 4000}
    yield {"event": "loading", "time": time + 1, "stage": name}
    yield {"event": "loaded", "time": time + seconds * 0.06, "stage": name}
    for index in range(1, int(steps * share) + 1):
        at = time + seconds * (0.06 + 0.94 * index / steps)
        took = seconds * 0.94 / steps * (1.3 if index == 1 else 1.0)
        size = int(measured * GB * (0.93 + 0.06 * (index % 3) / 2))
        yield {"event": "memory", "time": at - took / 2, "stage": name, "process": size, "mlx_active": size}
        yield {"event": "sample", "time": at - took / 3, "stage": name, "resident": size}
        yield {"event": "step", "time": at, "stage": name, "index": index, "total": steps, "seconds": took}


def events(time: float = 1795660648.0) -> list[dict[str, Any]]:
    """A whole run, in which decode ran out of memory once and was tried again."""
    found = [started(time)]
    now = time + 2
    for name, (seconds, *_) in STAGES.items():
        if name == "decode":
            found += worker(name, now, 0.3)
            now += seconds * 0.4
            words = "The decode worker ran out of memory; it is tried again without a cache."
            found.append({"event": "retry", "time": now, "stage": name, "message": words, "code": 5})
        found += worker(name, now)
        now += seconds
        found.append({"event": "stage_done", "time": now, "stage": name})
    video = {"path": "/home/someone/fox.mp4", "key": "4" * 64, "seed": 0, "role": "video", "bytes": 14_200_000}
    video |= {"width": 1408, "height": 960, "frames": 193, "fps": "48"}
    found.append({"event": "video_done", "time": now, **video})
    return [*found, {"event": "run_done", "time": now + 0.1, "seconds": now - time}]
