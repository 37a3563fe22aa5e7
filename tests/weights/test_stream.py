"""Blocks that come and go: the same bits whatever stays, bounded memory, and no byte read twice or for nothing."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from tests.weights.stored import selection_of, write_arrays
from weights import fp8
from weights.errors import WeightsError
from weights.lora import LoraMatch, Pair
from weights.quantize import quantise
from weights.select import Selection
from weights.stream import BlockStream, resident_indices
from weights.stream_form import Block, Form, converted, held
from weights.stream_read import Target, plan
from weights.stream_slots import Slot
from weights.stream_sources import InPlace, Loads

BLOCKS = 5
SHAPES = {"attn1.to_q.weight": (48, 64), "attn1.to_q.bias": (48,), "ff.net.2.weight": (64, 96), "norm.weight": (0,)}
Weights = list[dict[str, mx.array]]


def values(random: np.random.Generator, shape: tuple[int, ...]) -> mx.array:
    return mx.array(random.standard_normal(shape).astype(np.float32))


def dense_file(path: Path, dtype: mx.Dtype) -> Path:
    """Tables of all blocks first, as float32, then block after block: as the official files lie."""
    random = np.random.default_rng(3)
    arrays = {f"blocks.{index}.table": values(random, (6, 48)) for index in range(BLOCKS)}
    for index in range(BLOCKS):
        arrays |= {f"blocks.{index}.{name}": values(random, shape).astype(dtype) for name, shape in SHAPES.items()}
    return write_arrays(path, arrays)


def quantised_file(path: Path) -> Path:
    arrays: dict[str, mx.array] = {}
    for name, array in mx.load(str(dense_file(path.with_name("dense"), mx.bfloat16)), format="safetensors").items():
        if array.ndim == 2 and name.endswith(".weight"):
            made = quantise(array, 4)
            stem = name.removesuffix(".weight")
            arrays |= {name: made.packed, f"{stem}.scales": made.scales, f"{stem}.biases": made.biases}
        else:
            arrays[name] = array
    return write_arrays(path, arrays)


def fp8_file(path: Path) -> Path:
    """Blocks 1 and 2 in 8-bit floats, the others dense: as the official files keep the first and the last."""
    arrays: dict[str, mx.array] = {}
    for name, array in mx.load(str(dense_file(path.with_name("dense"), mx.bfloat16)), format="safetensors").items():
        if array.ndim == 2 and name.endswith(".weight") and name.split(".")[1] in "12":
            arrays[name], arrays[f"{name}_scale"] = fp8.encode(array)
        else:
            arrays[name] = array
    return write_arrays(path, arrays)


FILES: dict[str, Callable[[Path], Path]] = {
    "float32": lambda path: dense_file(path, mx.float32),
    "bfloat16": lambda path: dense_file(path, mx.bfloat16),
    "quantised": quantised_file,
    "8-bit floats": fp8_file,
}


def blocks_of(path: Path, loras: tuple[tuple[LoraMatch, float], ...] = ()) -> list[Block]:
    shapes = {name: shape for name, shape in SHAPES.items() if len(shape) == 2}
    return [Block(selection_of(path, f"blocks.{index}.", shapes), loras) for index in range(BLOCKS)]


def lora_file(path: Path, dtype: mx.Dtype = mx.bfloat16) -> LoraMatch:
    """The same change to every block's two linear layers."""
    random = np.random.default_rng(8)
    arrays, rank = {}, 3
    for name in ("attn1.to_q", "ff.net.2"):
        outputs, inputs = SHAPES[f"{name}.weight"]
        arrays[f"{name}.a"] = values(random, (rank, inputs)).astype(dtype)
        arrays[f"{name}.b"] = values(random, (outputs, rank)).astype(dtype)
    arrays["ff.net.2.alpha"] = mx.array(1.5, dtype=mx.float32)
    found = selection_of(write_arrays(path, arrays))
    t = found.tensors
    pairs = {
        "attn1.to_q.weight": Pair(t["attn1.to_q.a"], t["attn1.to_q.b"]),
        "ff.net.2.weight": Pair(t["ff.net.2.a"], t["ff.net.2.b"], t["ff.net.2.alpha"]),
    }
    return LoraMatch(path, pairs, (), found.signatures[path])


def kept(weights: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """Copies that outlive the visit."""
    copies = {}
    for name, array in weights.items():
        assert array.size == 0 or np.array(array.astype(mx.float32)).size, name
        copies[name] = mx.array(np.array(array.astype(mx.float32)))
    return copies


def visit(stream: BlockStream) -> Weights:
    return [kept(weights) for weights in stream()]


def same(one: Weights, other: Weights) -> bool:
    return len(one) == len(other) and all(
        list(a) == list(b) and all(bool(mx.array_equal(a[name], b[name])) for name in a)
        for a, b in zip(one, other, strict=True)
    )


FORMS = [Form(mx.float32), Form(mx.bfloat16), Form(mx.bfloat16, 8), Form(mx.float32, 4)]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("kind", FILES)
def test_the_same_bits_whatever_stays_and_whoever_reads(tmp_path: Path, kind: str, lora: bool, form: Form) -> None:
    path = FILES[kind](tmp_path / "x")
    loras = ((lora_file(tmp_path / "lora"), 0.5),) if lora else ()
    blocks = blocks_of(path, loras)
    with BlockStream(blocks, form, resident=BLOCKS) as stream:
        expected = visit(stream)
        assert same(visit(stream), expected)
    assert {tuple(weights["table"].shape) for weights in expected} == {(6, 48)}
    for make in (InPlace, Loads):
        for resident, prefetch in ((0, 0), (0, 1), (2, 1), (4, 1), (1, 3)):
            signatures = {key: value for block in blocks for key, value in block.signatures.items()}
            stream = BlockStream(blocks, form, resident=resident, prefetch=prefetch, visits=2, reading=make(signatures))
            with stream:
                assert same(visit(stream), expected)
                assert same(visit(stream), expected)


def test_values_are_those_of_the_file(tmp_path: Path) -> None:
    path = dense_file(tmp_path / "x", mx.bfloat16)
    stored = mx.load(str(path), format="safetensors")
    with BlockStream(blocks_of(path), Form(mx.bfloat16), resident=2) as stream:
        for index, weights in enumerate(stream()):
            assert set(weights) == {*SHAPES, "table"}
            for name, array in weights.items():
                assert array.dtype == mx.bfloat16
                assert mx.array_equal(array, stored[f"blocks.{index}.{name}"].astype(mx.bfloat16))


def test_compact_weights_stay_compact(tmp_path: Path) -> None:
    with BlockStream(blocks_of(quantised_file(tmp_path / "q")), Form(mx.bfloat16), resident=0) as stream:
        for weights in stream():
            assert weights["ff.net.2.weight"].dtype == mx.uint32
            assert weights["ff.net.2.scales"].dtype == weights["ff.net.2.biases"].dtype == mx.bfloat16
    with BlockStream(blocks_of(fp8_file(tmp_path / "f")), Form(mx.bfloat16), resident=1) as stream:
        dtypes = [weights["ff.net.2.weight"].dtype for weights in stream()]
    assert dtypes == [mx.bfloat16, mx.uint8, mx.uint8, mx.bfloat16, mx.bfloat16]


def test_a_lora_goes_on_before_the_weight_is_quantised_on_load(tmp_path: Path) -> None:
    path, lora = dense_file(tmp_path / "x", mx.bfloat16), lora_file(tmp_path / "lora")
    (block, *_) = blocks_of(path, ((lora, 2.0),))
    with BlockStream([block], Form(mx.float32), resident=1) as stream:
        (dense,) = visit(stream)
    with BlockStream([block], Form(mx.float32, 8), resident=1) as stream:
        (found,) = visit(stream)
    expected = quantise(dense["ff.net.2.weight"], 8)
    assert mx.array_equal(found["ff.net.2.scales"], expected.scales)
    assert mx.array_equal(found["ff.net.2.weight"], expected.packed.astype(mx.float32))
    # The change is the formula's, alpha / rank included.
    arrays, base = mx.load(str(lora.path), format="safetensors"), mx.load(str(path), format="safetensors")
    a, b = (np.array(arrays[f"ff.net.2.{half}"].astype(mx.float32)) for half in "ab")
    change = np.array(dense["ff.net.2.weight"] - base["blocks.0.ff.net.2.weight"].astype(mx.float32))
    np.testing.assert_allclose(change, 2.0 * 1.5 / 3 * (b @ a), atol=1e-5)


def test_a_lora_on_compact_weights_keeps_their_form(tmp_path: Path) -> None:
    lora = lora_file(tmp_path / "lora")
    for kind, tolerance in (("quantised", 0.1), ("8-bit floats", 0.05)):
        path = FILES[kind](tmp_path / kind)
        plain, changed = blocks_of(path)[1], blocks_of(path, ((lora, 1.0),))[1]
        form = Form(mx.float32)
        with BlockStream([plain], form, resident=1) as stream:
            before = next(stream())
            decoded = dense_of(before)
        with BlockStream([changed], form, resident=1) as stream:
            after = next(stream())
            assert {name: (array.shape, array.dtype) for name, array in after.items()} == {
                name: (array.shape, array.dtype) for name, array in plain_shapes(plain, form).items()
            }
            arrays = mx.load(str(lora.path), format="safetensors")
            a, b = (np.array(arrays[f"attn1.to_q.{half}"].astype(mx.float32)) for half in "ab")
            expected = decoded + b @ a
            assert np.linalg.norm(dense_of(after) - expected) < tolerance * np.linalg.norm(expected)


def plain_shapes(block: Block, form: Form) -> dict[str, mx.array]:
    with BlockStream([block], form, resident=1) as stream:
        return dict(next(stream()))


def dense_of(weights: Mapping[str, mx.array]) -> np.ndarray:
    from weights.quantize import dense

    return np.array(dense(weights, "attn1.to_q", 64, mx.float32))


@pytest.mark.parametrize(
    ("kind", "form", "lora", "expected"),
    [
        ("bfloat16", Form(mx.bfloat16), False, False),
        ("bfloat16", Form(mx.float32), False, True),
        ("float32", Form(mx.float32), False, False),
        ("bfloat16", Form(mx.bfloat16, 8), False, True),
        ("bfloat16", Form(mx.bfloat16), True, True),
        ("quantised", Form(mx.bfloat16), False, False),
        ("quantised", Form(mx.bfloat16, 4), False, False),
    ],
)
def test_what_counts_as_converted(tmp_path: Path, kind: str, form: Form, lora: bool, expected: bool) -> None:
    # Without the float32 table, which is large beside these small weights.
    path = FILES[kind](tmp_path / "x")
    loras = ((lora_file(tmp_path / "lora"), 1.0),) if lora else ()
    selection = blocks_of(path, loras)[0].selection
    tensors = {name: stored for name, stored in selection.tensors.items() if name != "table"}
    block = Block(Selection("t", path, None, tensors, selection.signatures, selection.shapes), loras)
    assert converted(block, form) is expected


# -- what is read, and what is in memory -----------------------------------------------------------------------------


class Watched(InPlace):
    """Counts the blocks that are in memory by what the stream asks for."""

    def __init__(self, *arguments: object, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        self.slots: set[int] = set()
        self.starts = 0
        self.alive: list[Slot] = []  # so that no id is given twice

    def start(self, wanted, slot):  # type: ignore[no-untyped-def]
        self.slots.add(id(slot))
        self.alive.append(slot)
        self.starts += 1
        return super().start(wanted, slot)


@pytest.mark.parametrize(
    ("resident", "prefetch", "form", "slots"),
    [
        (0, 0, Form(mx.float32), 1),
        (0, 1, Form(mx.float32), 2),
        (2, 1, Form(mx.float32), 2),
        (0, 2, Form(mx.float32), 3),
        (0, 1, Form(mx.bfloat16), 1),
        (0, 0, Form(mx.bfloat16), 1),
        (0, 1, Form(mx.float32, 8), 1),
    ],
)
def test_never_more_memory_than_the_block_in_use_and_the_next(
    tmp_path: Path, resident: int, prefetch: int, form: Form, slots: int
) -> None:
    path = write_arrays(
        tmp_path / "x",
        {f"blocks.{i}.{n}": mx.zeros(s) for i in range(BLOCKS) for n, s in SHAPES.items() if n != "table"},
    )
    blocks = blocks_of(path)
    reading = Watched({path: blocks[0].selection.signatures[path]})
    with BlockStream(blocks, form, resident=resident, prefetch=prefetch, visits=3, reading=reading) as stream:
        reading.slots.clear()
        for _ in range(3):
            for weights in stream():
                assert weights
        assert len(reading.slots) == slots
        assert reading.starts == resident + 3 * (BLOCKS - resident)


@pytest.mark.parametrize("make", [InPlace, Loads])
@pytest.mark.parametrize(("resident", "visits"), [(0, 1), (0, 3), (2, 2), (BLOCKS, 4), (9, 1)])
def test_every_byte_is_read_as_often_as_needed_and_nothing_beyond_the_last_visit(
    tmp_path: Path, make: Callable[..., InPlace | Loads], resident: int, visits: int
) -> None:
    path = dense_file(tmp_path / "x", mx.bfloat16)
    lora = lora_file(tmp_path / "lora")
    blocks = blocks_of(path, ((lora, 1.0),))
    read: Counter[Path] = Counter()
    lock = threading.Lock()

    def on_read(file: Path, size: int) -> None:
        with lock:
            read[file] += size

    reading = make(blocks[0].signatures, on_read=on_read)
    with BlockStream(blocks, Form(mx.bfloat16), resident=resident, visits=visits, reading=reading) as stream:
        for _ in range(visits):
            assert sum(1 for _ in stream()) == BLOCKS
    staying = resident_indices(BLOCKS, resident)
    times = [1 if index in staying else visits for index in range(BLOCKS)]
    assert read[path] == sum(time * block.selection.bytes for time, block in zip(times, blocks, strict=True))
    assert read[lora.path] == sum(times) * lora.bytes


def test_the_next_block_is_read_while_one_is_used(tmp_path: Path) -> None:
    """The reader of block k + 1 has begun when block k is given out, also across visits."""
    path = dense_file(tmp_path / "x", mx.float32)
    blocks = blocks_of(path)
    reading = Watched({path: blocks[0].selection.signatures[path]})
    with BlockStream(blocks, Form(mx.float32), resident=0, visits=2, reading=reading) as stream:
        started = [reading.starts for _ in range(2) for _ in stream()]
    assert started == [2, 3, 4, 5, 6, 7, 8, 9, 10, 10]


@pytest.mark.parametrize(
    ("blocks", "resident", "expected"),
    [
        (48, 0, ()),
        (4, 4, (0, 1, 2, 3)),
        (4, 9, (0, 1, 2, 3)),
        (48, 3, (0, 16, 32)),
        (5, 2, (0, 2)),
        (5, 4, (0, 1, 2, 3)),
        (1, 1, (0,)),
        (0, 3, ()),
    ],
)
def test_resident_blocks_are_spread(blocks: int, resident: int, expected: tuple[int, ...]) -> None:
    assert resident_indices(blocks, resident) == expected


# -- what goes wrong ----------------------------------------------------------------------------------------------


def test_a_dict_is_empty_after_its_turn(tmp_path: Path) -> None:
    with BlockStream(blocks_of(dense_file(tmp_path / "x", mx.float32)), Form(mx.float32), resident=2) as stream:
        assert list(stream()) == [{}] * BLOCKS
        assert same(visit(stream), visit(stream))


def test_a_visit_that_is_broken_off_leaves_the_next_one_whole(tmp_path: Path) -> None:
    blocks = blocks_of(dense_file(tmp_path / "x", mx.float32))
    for resident in (0, 2):
        with BlockStream(blocks, Form(mx.float32), resident=resident, visits=9) as stream:
            expected, broken = visit(stream), []
            for turns in range(BLOCKS):
                broken.append(stream())
                for _ in range(turns):
                    next(broken[-1])
                assert same(visit(stream), expected)


@pytest.mark.parametrize("make", [InPlace, Loads])
@pytest.mark.parametrize("resident", [0, 3, BLOCKS])
@pytest.mark.parametrize("when", ["before", "between"])
def test_a_file_that_changes_is_noticed(
    tmp_path: Path, make: Callable[..., InPlace | Loads], resident: int, when: str
) -> None:
    path = dense_file(tmp_path / "x", mx.float32)
    blocks = blocks_of(path)

    def change() -> None:
        with open(path, "r+b") as file:
            file.truncate(path.stat().st_size - 8)

    stream = BlockStream(
        blocks, Form(mx.float32), resident=resident, visits=3, reading=make(blocks[0].selection.signatures)
    )
    if when == "before":
        change()
        with pytest.raises(WeightsError, match="changed while it was in use"), stream:
            visit(stream)
        return
    with stream:
        visit(stream)
        change()
        if resident == BLOCKS:
            visit(stream)
        else:
            with pytest.raises(WeightsError, match="changed while it was in use"):
                visit(stream), visit(stream)
            with pytest.raises(WeightsError, match="changed while it was in use"):
                visit(stream)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    path = dense_file(tmp_path / "x", mx.float32)
    blocks = blocks_of(path)
    path.unlink()
    with pytest.raises(WeightsError, match="x does not exist"), BlockStream(blocks, Form(mx.float32), resident=1):
        pass


def test_no_thread_and_no_descriptor_is_left(tmp_path: Path) -> None:
    blocks = blocks_of(dense_file(tmp_path / "x", mx.float32))
    threads, descriptors = threading.active_count(), len(os.listdir("/dev/fd"))
    for resident in (0, BLOCKS):
        with BlockStream(blocks, Form(mx.float32), resident=resident, visits=5) as stream:
            next(stream())
    assert threading.active_count() == threads
    assert len(os.listdir("/dev/fd")) == descriptors


def test_a_slow_disk_keeps_the_heart_beating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weights.stream_read._BEAT_SECONDS", 0.01)
    slow = threading.Event()
    original = os.preadv
    monkeypatch.setattr(os, "preadv", lambda *given: (slow.wait(0.2), original(*given))[1])
    beats = []
    with BlockStream(
        blocks_of(dense_file(tmp_path / "x", mx.float32)), Form(mx.float32), resident=0, beat=lambda: beats.append(1)
    ) as stream:
        visit(stream)
    assert len(beats) >= BLOCKS


# -- reads --------------------------------------------------------------------------------------------------------


def targets(path: Path, *names: str) -> list[Target]:
    found = selection_of(path).tensors
    return [Target(found[name], memoryview(bytearray(found[name].info.nbytes))) for name in names]


def test_neighbours_are_read_together_and_large_tensors_in_pieces(tmp_path: Path) -> None:
    path = write_arrays(tmp_path / "x", {"a": mx.zeros(4), "b": mx.zeros(30), "c": mx.zeros(2), "d": mx.zeros(3)})
    start = selection_of(path).tensors["a"].info.start

    def sizes(*names: str) -> list[tuple[int, list[int]]]:
        pieces = plan(targets(path, *names), piece=40)
        return [(piece.start - start, [len(buffer) for buffer in piece.buffers]) for piece in pieces]

    assert sizes("c", "a", "b", "d") == [(0, [16]), (16, [40]), (56, [40]), (96, [40]), (136, [8, 12])]
    assert sizes("a", "c") == [(0, [16]), (136, [8])]
    assert sizes() == []


def test_short_reads_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = dense_file(tmp_path / "x", mx.float32)
    with BlockStream(blocks_of(path), Form(mx.float32), resident=0) as stream:
        expected = visit(stream)

    def short(descriptor: int, buffers: list[memoryview], position: int) -> int:
        return original(descriptor, [buffers[0][:1001]], position)

    original = os.preadv
    monkeypatch.setattr(os, "preadv", short)
    with BlockStream(blocks_of(path), Form(mx.float32), resident=0) as stream:
        assert same(visit(stream), expected)
    monkeypatch.undo()
    monkeypatch.delattr(os, "preadv")
    with BlockStream(blocks_of(path), Form(mx.float32), resident=0) as stream:
        assert same(visit(stream), expected)


def test_what_a_block_holds_may_not_share_memory_that_is_read_into(tmp_path: Path) -> None:
    block = blocks_of(dense_file(tmp_path / "x", mx.float32))[0]
    slot = Slot()
    for target in slot.targets(block.wanted):
        target.memory[:] = bytes(len(target.memory))
    own = held(block, Form(mx.float32), slot.arrays(block.wanted), own=True)
    shared = held(block, Form(mx.float32), slot.arrays(block.wanted), own=False)
    for target in slot.targets(block.wanted):
        target.memory[:] = b"\x01" * len(target.memory)
    assert not np.array(own["ff.net.2.weight"]).any()
    assert np.array(shared["ff.net.2.weight"]).all()
