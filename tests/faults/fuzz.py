"""Files from strangers: readers are fed with generated and mutated inputs, and may raise nothing but documented errors.

    python -m tests.faults.fuzz [--count 100000] [--seed 1] [--reader header] [--result FILE.json]

    header     a safetensors header             WeightsError
    config     the JSON of a checkpoint or text encoder, in a file     WeightsError
    network    the `config` in a checkpoint's metadata, up to the selection of its tensors     WeightsError
    recipe     recipe.json                      UsageError
    events     lines of a worker's event pipe   nothing: what is no event is dropped
    diary      events.jsonl of a run            nothing: damaged lines are left out
    state      state.json of a run              ArtifactError, UsageError for a newer one
    artifact   a file of ours                   ArtifactError
    record     the record of a finished video   ArtifactError
    job        a job file                       UsageError

Half of the inputs are valid ones with bytes changed, cut, doubled or spliced; half are built from the grammar of JSON
with the field names of the format, hostile numbers and deep nesting. An accepted input must be used as the program uses
it: keys are made, lines are printed. The largest memory that one input takes is measured with tracemalloc for a part.
"""

from __future__ import annotations

import argparse
import json
import random
import struct
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cache.artifacts import Tensor, read, serialize
from cache.keys import canonical_json
from cache.records import read_json
from cache.runs import Run
from cache.state import RunState, StageState
from orchestrator.event_lines import EventLines
from orchestrator.recipe import Recipe, WeightsChoice, recipe_from_json
from orchestrator.settings import Settings, check, with_recipe
from weights.errors import ArtifactError, RelayError, UsageError, WeightsError
from weights.header import read_header
from weights.header_json import read_json as read_config
from weights.select import select
from workers.protocol import EVENTS, Item, Job, WeightsUse

TINY = Path(__file__).parents[2] / "weights" / "tiny" / "ltx-2-tiny-dev.safetensors"
MEMORY_LIMIT = 64 << 20
"""Bytes that reading one small input may take."""
INTEGERS = (0, 1, -1, 7, 8, 255, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 10**400)
FLOATS = (0.0, -0.0, 0.5, 1e-300, 1e308, -1e308, 1.5)
TEXTS = (
    "", "a", "BF16", "F32", "24", "1e999999999", "24/0", "../../etc/passwd", "/etc/passwd", "\x00", "\u2028", "é",
    "running", "done", "text", "stage1", "1" * 400, "..", "~", "$(true)", "a\nb", "\x1b[31m",
)  # fmt: skip
NAMES = ("", "a", "x" * 5000, "\x1b[31m", "__class__", "\ud800", "é")
RAW = ("NaN", "Infinity", "-Infinity", "1e400", "1" * 5000, '"\\ud800"', "nul", "{", "[", '"', "\\", ",", "[" * 3000)


@dataclass(frozen=True)
class Reader:
    """`use` reads one input from a file (or its bytes); `valid` are examples; `names` the format's field names."""

    use: Callable[[Path, bytes], object]
    valid: tuple[bytes, ...]
    names: tuple[str, ...]
    allowed: tuple[type[RelayError], ...]


class Generator:
    """Inputs, by a seed."""

    def __init__(self, seed: int, names: tuple[str, ...]) -> None:
        self.random = random.Random(seed)
        self.names = names

    def value(self, depth: int = 4) -> Any:
        choice = self.random.randrange(12 if depth else 7)
        if choice < 2:
            return self.random.choice(INTEGERS)
        if choice == 2:
            return self.random.choice(FLOATS)
        if choice < 5:
            return self.random.choice(TEXTS)
        if choice == 5:
            return self.random.choice((True, False, None))
        if choice == 6:
            return self.random.choice(self.names)
        if choice < 9:
            return [self.value(depth - 1) for _ in range(self.random.randrange(5))]
        return self.object(depth - 1)

    def object(self, depth: int = 4) -> dict[str, Any]:
        count = self.random.randrange(8)
        return {self.random.choice((*self.names, *NAMES)): self.value(max(depth, 0)) for _ in range(count)}

    def grown(self, example: bytes) -> bytes:
        """A valid document with some values exchanged."""
        try:
            document = json.loads(example)
        except ValueError:
            return self.mutated(example)
        for _ in range(self.random.randrange(1, 4)):
            place: Any = document
            while isinstance(place, dict | list) and place:
                key = self.random.choice(list(place)) if isinstance(place, dict) else self.random.randrange(len(place))
                if not isinstance(place[key], dict | list) or not place[key] or self.random.random() < 0.4:
                    change = self.random.random()
                    if isinstance(place, dict) and change < 0.2:
                        del place[key]
                    elif isinstance(place, dict) and change < 0.3:
                        place[self.random.choice(NAMES)] = place.pop(key)
                    else:
                        place[key] = self.value(2)
                    break
                place = place[key]
        return self.spoiled(json.dumps(document).encode())

    def spoiled(self, text: bytes) -> bytes:
        """Now and then with something in it that is no JSON, or that JSON readers differ on."""
        if self.random.random() < 0.15:
            at = self.random.randrange(len(text) + 1)
            text = text[:at] + self.random.choice(RAW).encode() + text[at:]
        return text

    def mutated(self, example: bytes) -> bytes:
        data = bytearray(example)
        for _ in range(self.random.randrange(1, 6)):
            at = self.random.randrange(len(data) + 1)
            match self.random.randrange(5):
                case 0 if data:
                    data[at % len(data)] ^= 1 << self.random.randrange(8)
                case 1:
                    del data[at:]
                case 2:
                    data[at:at] = self.random.randbytes(self.random.randrange(1, 9))
                case 3:
                    other = self.random.randrange(len(data) + 1)
                    data[at:at] = data[min(at, other) : max(at, other)]
                case _:
                    data[at : at + self.random.randrange(1, 9)] = b""
        return bytes(data)

    def input(self, examples: tuple[bytes, ...], framed: bool) -> bytes:
        example = self.random.choice(examples)
        if self.random.random() < 0.5:
            return self.mutated(example)
        if not framed:
            return (
                self.grown(example) if self.random.random() < 0.7 else self.spoiled(json.dumps(self.object()).encode())
            )
        length = int.from_bytes(example[:8], "little")
        text = self.grown(example[8 : 8 + length])
        stated = len(text) if self.random.random() < 0.9 else self.random.choice(INTEGERS[:12]) % 2**64
        return struct.pack("<Q", stated) + text + example[8 + length :]


# The readers, each used as the program uses it.


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
    header, size = tiny_header()
    text = json.dumps({**header, "__metadata__": {"config": data.decode("utf-8", "replace")}}).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + size)
    component = ("transformer", "connector", "projection", "vae_decoder", "vae_encoder", "statistics")[len(data) % 6]
    return select(path, component).bytes


@cache
def tiny_header() -> tuple[dict[str, Any], int]:
    """The entries of the bundled checkpoint, and the bytes of its tensors."""
    raw = TINY.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), len(raw) - 8 - length


def use_artifact(path: Path, data: bytes) -> object:
    """What is accepted is byte for byte what we would write."""
    artifact = read(path)
    about = {name: text for name, text in artifact.metadata.items() if name not in ("format", "sha256", "seal")}
    assert b"".join(map(bytes, serialize(artifact.tensors, about))) == data
    return artifact


def readers() -> Mapping[str, Reader]:
    tensors = {"a": Tensor("F32", (2, 3), bytes(24)), "b": Tensor("BF16", (4,), bytes(8))}
    artifact = b"".join(map(bytes, serialize(tensors, {"key": "0" * 64, "stage": "stage1"})))
    recipe = Recipe(
        "a fox", "bad", "max", True, True, 64, 96, 9, "24", "2", (180, 100), "dev", 3, 3, 5.0, 0.7, 1.0, (29,), (1, 2),
        WeightsChoice(model="tiny"), loras=(("/l.safetensors", 0.5, "stage1"),), play_fps="30000/1001",
    )  # fmt: skip
    stages = {"text": StageState("computed", ("0" * 64,), ("/a",), 7, 1.5, 1, 2, {"/w": 3}, {"x": [1]})}
    state = RunState("running", 1.0, 2.0, "0123abcd-1-2", ("/v.mp4",), stages, "stage1")
    event = {"event": "step", "time": 1.0, "key": "k", "index": 1, "total": 2, "seconds": 0.5}
    done = {"event": "done", "seconds": 1, "mlx_peak": 1, "process_peak": 2, "bytes_read": {"/w": 1}, "maxima": {}}
    lines = b"".join(json.dumps(entry).encode() + b"\n" for entry in (event, done))
    job = Job("text", (Item("k", "/o", {"a": "/i"}, {"seed": 1}),), (WeightsUse("gemma", "/g", "f"),), "/home")
    config = json.dumps({"text_config": {"hidden_size": 64, "layer_types": ["full"]}, "rope": {"factor": 8.0}})
    fields = ("a", "dtype", "shape", "data_offsets")
    network = tiny_header()[0]["__metadata__"]["config"]
    return {
        "header": Reader(use_header, (artifact,), (*fields, "__metadata__"), (WeightsError,)),
        "config": Reader(lambda p, d: read_config(p), (config.encode(),), ("text_config", "rope"), (WeightsError,)),
        "network": Reader(use_network, (network.encode(),), tuple(json.loads(network)["vae"]), (WeightsError,)),
        "recipe": Reader(use_recipe, (recipe.to_json().encode(),), tuple(recipe.to_dict()), (UsageError,)),
        "events": Reader(use_events, (lines, json.dumps(done).encode() + b"\n"), tuple(done), ()),
        "diary": Reader(use_diary, (lines,), tuple(event), ()),
        "state": Reader(
            use_state, (json.dumps(state.to_json()).encode(),), tuple(state.to_json()), (ArtifactError, UsageError)
        ),
        "artifact": Reader(use_artifact, (artifact,), fields, (ArtifactError,)),
        "record": Reader(
            lambda p, d: read_json(p, what="record"), (b'{"file": "a.mp4", "sha256": "0", "bytes": 1}',),
            ("file", "sha256", "bytes"), (ArtifactError,),
        ),
        "job": Reader(use_job, (job.to_json().encode(),), ("stage", "items", "weights", "limits"), (UsageError,)),
    }  # fmt: skip


def fuzz(name: str, count: int, seed: int, folder: Path) -> dict[str, Any]:
    """Feeds one reader; the first inputs that broke a promise are in the result."""
    reader = readers()[name]
    generator = Generator(seed, reader.names)
    framed = name in ("header", "artifact")
    path = folder / ("events.jsonl" if name == "diary" else "input")
    ends: Counter[str] = Counter()
    broken: list[str] = []
    largest, slowest = 0, 0.0
    for number in range(count):
        data = generator.input(reader.valid, framed)
        path.write_bytes(data)
        measured = number % 50 == 0
        if measured:
            tracemalloc.start()
        began = time.perf_counter()
        try:
            reader.use(path, data)
            ends["accepted"] += 1
        except reader.allowed as error:
            ends[type(error).__name__] += 1
            if not error.message or "\x1b" in error.message or len(error.message) > 2_000:
                broken.append(f"a message that cannot be printed: {error.message[:200]!r} for {data[:500]!r}")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            broken.append(f"{type(error).__name__}: {str(error)[:200]} for {data[:500]!r}")
        slowest = max(slowest, time.perf_counter() - began)
        if measured:
            largest = max(largest, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    if largest > MEMORY_LIMIT:
        broken.append(f"one input took {largest:,} bytes")
    return {
        "reader": name,
        "inputs": count,
        "ends": dict(ends),
        "largest_bytes": largest,
        "slowest_seconds": round(slowest, 3),
        "broken": len(broken),
        "examples": broken[:5],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Feeds the readers of files with generated inputs.")
    parser.add_argument("--count", type=int, default=100_000, help="inputs for each reader")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reader", action="append", choices=sorted(readers()))
    parser.add_argument("--result", type=Path)
    options = parser.parse_args()
    results = []
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        for name in options.reader or sorted(readers()):
            results.append(fuzz(name, options.count, options.seed, Path(folder)))
            print(json.dumps(results[-1]), flush=True)
    if options.result:
        options.result.write_text(json.dumps(results, indent=1) + "\n")
    return 1 if any(result["broken"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
