"""The readers of files from strangers, each used as the program uses it, and valid inputs for them; see `fuzz`."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cache import locks
from cache.artifacts import Tensor, read, serialize
from cache.home import Home, open_home
from cache.keys import canonical_json
from cache.records import read_json
from cache.runs import Run
from cache.state import RunState, StageState
from cache.videos import find_video
from orchestrator.event_lines import EventLines
from orchestrator.history import Entry, ratio, read_history, seconds
from orchestrator.recipe import Recipe, WeightsChoice, recipe_from_json
from orchestrator.settings import Settings, check, with_recipe
from weights import fingerprint
from weights.catalogue import identify
from weights.errors import ArtifactError, RelayError, UsageError, WeightsError
from weights.header import read_header
from weights.header_json import read_json as read_config
from weights.lora import match
from weights.select import Selection, select
from workers import tokenizer
from workers.protocol import EVENTS, Item, Job, WeightsUse

TINY = Path(__file__).parents[2] / "weights" / "tiny"
DEV = TINY / "ltx-2-tiny-dev.safetensors"
UPSCALER = TINY / "ltx-2-tiny-temporal-upscaler-x2.safetensors"
ENCODER = TINY / "gemma-tiny"
KEY = "0" * 64


@dataclass(frozen=True)
class Reader:
    """`use` reads one input from a file (or its bytes); `valid` are examples; `names` the format's field names.

    framed: it begins with the length of its JSON, as safetensors files do.
    """

    use: Callable[[Path, bytes], object]
    valid: tuple[bytes, ...]
    names: tuple[str, ...]
    allowed: tuple[type[RelayError], ...]
    framed: bool = False


def use_header(path: Path, data: bytes) -> object:
    header = read_header(path)
    return [(name, tensor.nbytes, tensor.shape) for name, tensor in header.tensors.items()]


def use_recipe(path: Path, data: bytes) -> object:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    recipe = recipe_from_json(text)
    settings = with_recipe(recipe, Settings(prompt=""))
    checked = check(settings)
    return checked, canonical_json({"recipe": recipe.fps}), recipe.to_json()


def use_events(path: Path, data: bytes) -> object:
    lines = EventLines(limit=1 << 16)
    events = [event for at in range(0, len(data), 100) for event in lines.feed(data[at : at + 100])]
    events += lines.finish()
    assert all(event["event"] in EVENTS for event in events)
    return json.dumps(events)


def use_diary(path: Path, data: bytes) -> object:
    return list(Run(path.parent).read_events())


def use_state(path: Path, data: bytes) -> object:
    state = RunState.from_json(read_json(path, what="state"), path)
    return json.dumps(state.with_stage("text", status="cached").to_json())


def use_job(path: Path, data: bytes) -> object:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return Job.from_json(text)


def use_network(path: Path, data: bytes) -> object:
    """A checkpoint that says this of its networks: the bundled one's tensors, with nothing in them."""
    header, size = header_of(DEV)
    write_hollow(path, framed({**header, "__metadata__": {"config": data.decode("utf-8", "replace")}}), size)
    component = ("transformer", "connector", "projection", "vae_decoder", "vae_encoder", "statistics")[len(data) % 6]
    return select(path, component).bytes


def use_upscaler(path: Path, data: bytes) -> object:
    write_hollow(path, data, header_of(UPSCALER)[1])
    return identify(path, version="2.0"), select(path, "upsampler").bytes


def use_lora(path: Path, data: bytes) -> object:
    found = match(read_header(path), transformer())
    return identify(path), found.summary, found.bytes


def use_encoder(path: Path, data: bytes) -> object:
    return select(encoder_with(path, "config.json"), "gemma").bytes


def use_index(path: Path, data: bytes) -> object:
    return select(encoder_with(path, "model.safetensors.index.json"), "gemma").bytes


def use_tokenizer(path: Path, data: bytes) -> object:
    ids = tokenizer.encode(encoder_with(path, "tokenizer.json"), ["A red ball"])
    assert all(type(number) is int and number >= 0 for one in ids for number in one)
    return ids


def encoder_with(path: Path, name: str) -> Path:
    """A text encoder's folder, in which that file is the input."""
    folder = path.parent / f"encoder-{name}"
    if not folder.exists():
        shutil.copytree(ENCODER, folder)
        (folder / "tokenizer.model").unlink()
    target = folder / name
    target.unlink(missing_ok=True)
    os.link(path, target)
    return folder


def use_record(path: Path, data: bytes) -> object:
    home = Home(path.parent / "home")
    record = home.object_path(KEY).with_name(f"{KEY}.video.json")
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_bytes(data)
    home.object_path(KEY, ".mp4").write_bytes(b"video")
    video = find_video(home, KEY, on_damage=lambda sentence: None)
    for left in record.parent.iterdir():
        left.unlink()
    assert video is None or video.path == home.object_path(KEY, ".mp4")
    return video


def use_format(path: Path, data: bytes) -> object:
    root = path.parent / "home"
    root.mkdir(exist_ok=True)
    (root / "format").write_bytes(data)
    return open_home(root)


def use_history(path: Path, data: bytes) -> object:
    entries = read_history(path)
    factor = ratio(entries, "cpu", "stage1", 10, 1000)
    assert 0.9 <= factor <= 1.25
    estimate = seconds(entries, "cpu", "stage1", 10, 0.0, 1e9)
    assert estimate is None or estimate >= 0
    return estimate


def use_memo(path: Path, data: bytes) -> object:
    known = fingerprint._read_memo(path)
    assert all(len(value) == 64 for value in known.values())
    return known


def use_lock(path: Path, data: bytes) -> object:
    descriptor = os.open(path, os.O_RDWR)
    try:
        words = locks._holder(descriptor)
    finally:
        os.close(descriptor)
    assert words.isprintable()
    return words


@cache
def header_of(path: Path) -> tuple[dict[str, Any], int]:
    """The entries of a safetensors file, and the bytes of its tensors."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length)), path.stat().st_size - 8 - length


def framed(header: Mapping[str, Any]) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


def write_hollow(path: Path, start: bytes, size: int) -> None:
    """A file that begins so, with so many bytes after it that take no room."""
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(len(start) + size)


@cache
def transformer() -> Selection:
    return select(DEV, "transformer")


def small_lora() -> bytes:
    """A pair for each of two layers, and an alpha."""
    weights = [name for name in sorted(transformer().shapes) if name.endswith("attn1.to_q.weight")][:2]
    entries: dict[str, Any] = {}
    end = 0
    for name in weights:
        rows, columns = transformer().shapes[name]
        module = f"diffusion_model.{name.removesuffix('.weight')}"
        for part, shape in ((".lora_A.weight", [1, columns]), (".lora_B.weight", [rows, 1]), (".alpha", [])):
            size = 2 * (shape[0] * shape[1] if shape else 1)
            entries[module + part] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
            end += size
    return framed(entries) + bytes(end)


def use_artifact(path: Path, data: bytes) -> object:
    """What is accepted is byte for byte what we would write."""
    artifact = read(path)
    about = {name: text for name, text in artifact.metadata.items() if name not in ("format", "sha256", "seal")}
    assert b"".join(map(bytes, serialize(artifact.tensors, about))) == data
    return artifact


def readers() -> Mapping[str, Reader]:
    tensors = {"a": Tensor("F32", (2, 3), bytes(24)), "b": Tensor("BF16", (4,), bytes(8))}
    artifact = b"".join(map(bytes, serialize(tensors, {"key": KEY, "stage": "stage1"})))
    recipe = Recipe(
        "a fox", "bad", "max", True, True, 64, 96, 9, "24", "2", (180, 100), "dev", 3, 3, 5.0, 0.7, 1.0, (29,), (1, 2),
        WeightsChoice(model="tiny"), loras=(("/l.safetensors", 0.5, "stage1"),), play_fps="30000/1001",
    )  # fmt: skip
    stages = {"text": StageState("computed", (KEY,), ("/a",), 7, 1.5, 1, 2, {"/w": 3}, {"x": [1]})}
    state = RunState("running", 1.0, 2.0, "0123abcd-1-2", ("/v.mp4",), stages, "stage1")
    event = {"event": "step", "time": 1.0, "key": "k", "index": 1, "total": 2, "seconds": 0.5}
    done = {"event": "done", "seconds": 1, "mlx_peak": 1, "process_peak": 2, "bytes_read": {"/w": 1}, "maxima": {}}
    lines = b"".join(json.dumps(entry).encode() + b"\n" for entry in (event, done))
    job = Job("text", (Item("k", "/o", {"a": "/i"}, {"seed": 1}),), (WeightsUse("gemma", "/g", "f"),), "/home")
    config = json.dumps({"text_config": {"hidden_size": 64, "layer_types": ["full"]}, "rope": {"factor": 8.0}})
    fields = ("a", "dtype", "shape", "data_offsets")
    network = header_of(DEV)[0]["__metadata__"]["config"]
    encoder = (ENCODER / "config.json").read_bytes()
    index = {"metadata": {}, "weight_map": dict.fromkeys(header_of(ENCODER / "model.safetensors")[0])}
    index["weight_map"] = {n: "model.safetensors" for n in index["weight_map"] if n != "__metadata__"}
    words = (ENCODER / "tokenizer.json").read_bytes()
    took = {"format": 1, "entries": [vars(Entry("cpu", "stage1", 1000, 900, 10, 0.0, 1e9, 2.0))]}
    known = b"1:2:3:4:5", b"a" * 64
    memo = b"%s %s %s\n" % (*known, fingerprint._check(*known))
    video = {"file": f"{KEY}.mp4", "sha256": "0cc4b0b0b9a9c1d2", "bytes": 5}
    weights, usage = (WeightsError,), (UsageError,)
    return {
        "header": Reader(use_header, (artifact,), (*fields, "__metadata__"), weights, framed=True),
        "config": Reader(lambda p, d: read_config(p), (config.encode(),), ("text_config", "rope"), weights),
        "network": Reader(use_network, (network.encode(),), tuple(json.loads(network)["vae"]), weights),
        "upscaler": Reader(use_upscaler, (framed(header_of(UPSCALER)[0]),), fields, weights, framed=True),
        "lora": Reader(use_lora, (small_lora(),), (*fields, "x.lora_A.weight", "x.alpha"), weights, framed=True),
        "encoder": Reader(use_encoder, (encoder,), tuple(json.loads(encoder)["text_config"]), weights),
        "index": Reader(use_index, (json.dumps(index).encode(),), ("weight_map", "metadata"), weights),
        "tokenizer": Reader(use_tokenizer, (words,), tuple(json.loads(words)), weights),
        "recipe": Reader(use_recipe, (recipe.to_json().encode(),), tuple(recipe.to_dict()), usage),
        "events": Reader(use_events, (lines, json.dumps(done).encode() + b"\n"), tuple(done), ()),
        "diary": Reader(use_diary, (lines,), tuple(event), ()),
        "state": Reader(
            use_state, (json.dumps(state.to_json()).encode(),), tuple(state.to_json()), (ArtifactError, *usage)
        ),
        "artifact": Reader(use_artifact, (artifact,), fields, (ArtifactError,), framed=True),
        "record": Reader(use_record, (json.dumps(video).encode(),), tuple(video), ()),
        "job": Reader(use_job, (job.to_json().encode(),), ("stage", "items", "weights", "limits"), usage),
        "format": Reader(use_format, (b"1\n",), ("1",), usage),
        "history": Reader(use_history, (json.dumps(took).encode(),), tuple(took["entries"][0]), ()),
        "memo": Reader(use_memo, (memo + memo,), ("1",), ()),
        "lock": Reader(use_lock, (b'{"pid": 1, "command": "ltx-relay"}',), ("pid", "command"), ()),
    }  # fmt: skip
