"""Streaming transformer blocks: how fast they are read, and how well reading hides behind computing.

    uv run python -m benchmarks.streaming FOLDER [--blocks 8] [--tokens 0] [--readers 4] [--source own|mlx]

Writes FOLDER/blocks.safetensors first: full-size blocks of LTX-2 19B in the official layout (float32 tables, then bf16,
537 MB a block), random. Then prints Markdown:

    plain       `preadv` of the whole file into buffers that are in use already: what disk or page cache can give
    read        the stream, with nothing computed
    compute     a step (one pass) of that many tokens through resident blocks
    streamed    the same step, blocks streamed; overlap = streamed / max(compute, read)

`--tokens 0` chooses a number for which computing takes about as long as reading, -1 computes nothing. `--cold` asks
the kernel to forget the file before each measurement (Linux). `--width` makes smaller blocks, for slow machines.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlx.core as mx
import numpy as np

from weights.architecture.transformer import BLOCKS, TransformerConfig, block_tensors, top_tensors
from weights.header import read_header
from weights.select import Selection, Stored
from weights.stream import BlockStream
from weights.stream_form import Block, Form
from weights.stream_read import PIECE
from weights.stream_sources import InPlace, Loads
from workers.networks import transformer
from workers.networks.modulation import Timesteps
from workers.networks.rope import video_positions

HEAD = 128
DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16}
TEXT_TOKENS = 128
SOURCES: dict[str, Callable[..., InPlace | Loads]] = {"own": InPlace, "mlx": Loads}


def config_of(blocks: int, width: int) -> TransformerConfig:
    return TransformerConfig.from_metadata(
        {
            "transformer": {
                "rope_type": "split",
                "frequencies_precision": "float64",
                "num_layers": blocks,
                "num_attention_heads": width // HEAD,
                "attention_head_dim": HEAD,
                "caption_channels": 3840,
            }
        }
    )


def write_blocks(path: Path, config: TransformerConfig) -> None:
    """The blocks as the official file has them: all float32 tables, then bf16 block by block."""
    shapes = block_tensors(config)
    tables = [name for name in shapes if name.endswith("_table")]
    order = [(index, name) for index in range(config.num_layers) for name in tables]
    order += [(index, name) for index in range(config.num_layers) for name in sorted(set(shapes) - set(tables))]
    entries, end = {}, 0
    for index, name in order:
        size = int(np.prod(shapes[name])) * (4 if name in tables else 2)
        dtype = "F32" if name in tables else "BF16"
        entries[f"{BLOCKS}{index}.{name}"] = {
            "dtype": dtype, "shape": list(shapes[name]), "data_offsets": [end, end + size],
        }  # fmt: skip
        end += size
    header = json.dumps(entries).encode()
    if path.exists() and path.stat().st_size == 8 + len(header) + end:
        return
    random = np.random.default_rng(0)
    pool = (random.standard_normal(1 << 22, np.float32) / config.inner_dim**0.5).view(np.uint32)
    words = (pool >> 16).astype(np.uint16)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for _, name in order:
            count = int(np.prod(shapes[name]))
            source = pool if name in tables else words
            for start in range(0, count, len(source)):
                file.write(source[: min(len(source), count - start)].tobytes())


def blocks_of(path: Path, count: int) -> list[Block]:
    header = read_header(path)
    tensors = {name: Stored(path, name, info) for name, info in header.tensors.items()}
    shapes = {name: info.shape for name, info in header.tensors.items()}
    whole = Selection("transformer", path, None, tensors, {path: header.signature}, shapes)
    return [Block(whole.within(f"{BLOCKS}{index}.")) for index in range(count)]


def forget(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def plain(path: Path, threads: int) -> float:
    """Seconds for the whole file."""
    descriptor, size = os.open(path, os.O_RDONLY), path.stat().st_size
    buffers = [np.ones(PIECE, np.uint8) for _ in range(threads)]

    def read(thread: int) -> None:
        for position in range(thread * PIECE, size, threads * PIECE):
            os.preadv(descriptor, [buffers[thread]], position)

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, range(threads)))
    seconds = time.perf_counter() - began
    os.close(descriptor)
    return seconds


class Step:
    """One pass of the network over random tokens."""

    def __init__(self, config: TransformerConfig, tokens: int, dtype: mx.Dtype) -> None:
        self.config, self.tokens = config, tokens
        rows = max(1, round(tokens**0.5))
        grid = (1, rows, max(1, tokens // rows))
        self.tokens = grid[1] * grid[2]
        random = np.random.default_rng(1)

        def values(*shape: int, scale: float = 1.0) -> mx.array:
            return mx.array(random.standard_normal(shape).astype(np.float32) * np.float32(scale)).astype(dtype)

        self.top = {
            name: values(*shape, scale=(shape[-1] ** -0.5 if len(shape) == 2 else 0.02))
            for name, shape in top_tensors(config).items()
        }
        self.run = transformer.streams(config, video_positions(grid, 24.0), dtype)
        context = values(1, TEXT_TOKENS, config.context_channels)
        self.passes = [transformer.Pass(transformer.prepare_prompt(config, self.top, (context,), dtype))]
        self.latent = values(1, self.tokens, config.in_channels)
        mx.eval(self.top, self.latent)

    def __call__(self, stream: BlockStream) -> None:
        tokens = (transformer.Tokens(self.latent, Timesteps.uniform(0.7), 0.7),)
        mx.eval(transformer.velocity(self.config, self.top, stream(), self.run, self.passes, tokens))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--tokens", type=int, default=0)
    parser.add_argument("--readers", type=int, nargs="+", default=[4])
    parser.add_argument("--source", choices=sorted(SOURCES), nargs="+")
    parser.add_argument("--dtype", choices=sorted(DTYPES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cold", action="store_true")
    asked = parser.parse_args()
    dtype = DTYPES[asked.dtype] if asked.dtype else mx.bfloat16 if on_gpu() else mx.float32
    config = config_of(asked.blocks, asked.width)
    path = asked.folder / "blocks.safetensors"
    asked.folder.mkdir(parents=True, exist_ok=True)
    write_blocks(path, config)
    bench = Bench(path, config, dtype, asked.repeats, asked.cold)
    cache = "cold" if asked.cold else "page cache"
    print(f"{asked.blocks} blocks, {bench.size / 1e9:.2f} GB, {cache}, {mx.default_device()}, {dtype}\n")
    print("| reading | readers | plain | read | tokens | compute | streamed | overlap |\n" + "| --- " * 8 + "|")
    own = "mlx" if on_gpu() and not mx.metal.is_available() else "own"
    for name, readers in itertools.product(asked.source or [own], asked.readers):
        print("| " + " | ".join([name, str(readers), *bench.row(name, readers, asked.tokens)]) + " |", flush=True)


def on_gpu() -> bool:
    return mx.default_device().type == mx.DeviceType.gpu


class Bench:
    """Measurements of one file; seconds are medians."""

    def __init__(self, path: Path, config: TransformerConfig, dtype: mx.Dtype, repeats: int, cold: bool) -> None:
        self.path, self.config, self.dtype, self.repeats, self.cold = path, config, dtype, repeats, cold
        self.blocks = blocks_of(path, config.num_layers)
        self.size = sum(block.selection.bytes for block in self.blocks)

    def row(self, name: str, readers: int, tokens: int) -> list[str]:
        """tokens: 0 for as many as take as long as reading, negative for nothing but reading."""
        raw = self.timed(lambda: plain(self.path, readers))
        with self.stream(name, readers) as stream:
            read = self.timed(lambda: drain(stream))
        found = [self.speed(raw), self.speed(read)]
        if tokens < 0:
            return [*found, "", "", "", ""]
        with self.stream(name, readers, resident=len(self.blocks)) as stream:
            if tokens == 0:
                probe = Step(self.config, 512, self.dtype)
                tokens = min(60_000, max(64, round(512 * read / self.timed(lambda: probe(stream)))))
            step = Step(self.config, tokens, self.dtype)
            compute = self.timed(lambda: step(stream))
        with self.stream(name, readers) as stream:
            streamed = self.timed(lambda: step(stream))
        overlap = streamed / max(compute, read)
        return [*found, f"{step.tokens:,}", f"{compute:.2f} s", f"{streamed:.2f} s", f"{overlap:.2f}"]

    def stream(self, name: str, readers: int, resident: int = 0) -> BlockStream:
        reading = SOURCES[name](self.blocks[0].signatures, readers=readers)
        form, visits = Form(self.dtype), self.repeats + 1
        return BlockStream(self.blocks, form, resident=resident, visits=visits, reading=reading)

    def timed(self, work: Callable[[], object]) -> float:
        """After one turn that counts for nothing."""
        found = []
        for _ in range(self.repeats + 1):
            if self.cold:
                forget(self.path)
            began = time.perf_counter()
            work()
            found.append(time.perf_counter() - began)
        return statistics.median(found[1:])

    def speed(self, seconds: float) -> str:
        return f"{seconds:.2f} s ({self.size / seconds / 1e9:.2f} GB/s)"


def drain(stream: BlockStream) -> None:
    for _ in stream():
        pass


if __name__ == "__main__":
    main()
