"""Files from strangers: readers are fed with generated and mutated inputs, and may raise nothing but documented errors.

    python -m tests.faults.fuzz [--count 100000] [--seed 1] [--reader header] [--result FILE.json]

    header     a safetensors header                               WeightsError
    config     the JSON of a checkpoint or text encoder, in a file     WeightsError
    network    the `config` in a checkpoint's metadata, up to the selection of its tensors     WeightsError
    upscaler   an upscaler's header, up to the selection          WeightsError
    lora       a LoRA's header, up to the pairs                   WeightsError
    encoder    config.json of a text encoder, up to the selection     WeightsError
    index      model.safetensors.index.json, likewise             WeightsError
    tokenizer  tokenizer.json, up to the ids of a prompt          WeightsError
    recipe     recipe.json                      UsageError
    events     lines of a worker's event pipe   nothing: what is no event is dropped
    diary      events.jsonl of a run            nothing: damaged lines are left out
    state      state.json of a run              ArtifactError, UsageError for a newer one
    artifact   a file of ours                   ArtifactError
    record     the record of a finished video   nothing: then there is no video
    job        a job file                       UsageError
    format     the version of a home            UsageError
    history    what workers took before         nothing: a damaged history is none
    memo       remembered fingerprints          nothing: a damaged line is none
    lock       who holds a lock                 nothing: then it is another process

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
from pathlib import Path
from typing import Any

from tests.faults.fuzz_readers import readers

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


def fuzz(name: str, count: int, seed: int, folder: Path) -> dict[str, Any]:
    """Feeds one reader; the first inputs that broke a promise are in the result."""
    reader = readers()[name]
    generator = Generator(seed, reader.names)
    path = folder / ("events.jsonl" if name == "diary" else "input")
    ends: Counter[str] = Counter()
    broken: list[str] = []
    largest, slowest = 0, 0.0
    for number in range(count):
        data = generator.input(reader.valid, reader.framed)
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
