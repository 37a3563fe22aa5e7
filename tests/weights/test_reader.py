"""Reading: the right values in the right layout, and not a byte of another tensor."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from tests.weights.sparse import header_json, pack, write_sparse
from weights import reader
from weights.errors import WeightsError
from weights.header import read_header
from weights.select import Selection, Stored, select
from weights.tiny_model import tiny_folder

TINY = tiny_folder() / "ltx-2-tiny-dev.safetensors"
NUMPY = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}

Values = dict[str, np.ndarray]


def bits(values: np.ndarray) -> np.ndarray:
    """bfloat16 bits of values that bfloat16 holds exactly."""
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def write(path: Path, tensors: dict[str, tuple[str, np.ndarray]]) -> Path:
    """Small whole numbers, exact in every dtype."""
    header, _ = header_json({name: (dtype, values.shape) for name, (dtype, values) in tensors.items()})
    data = b"".join(
        (bits(values) if dtype == "BF16" else values.astype(NUMPY[dtype])).tobytes()
        for dtype, values in tensors.values()
    )
    path.write_bytes(pack(header, data))
    return path


def everything(*paths: Path) -> Selection:
    """All tensors of some files, by their names."""
    headers = [read_header(path) for path in paths]
    tensors = {n: Stored(h.path, n, info) for h in headers for n, info in h.tensors.items()}
    return Selection("test", paths[0], None, tensors, {h.path: h.signature for h in headers})


def counting(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape) % 100 - 40


def same(array: mx.array, values: np.ndarray) -> bool:
    return array.shape == values.shape and bool(np.array_equal(np.array(array.astype(mx.float32)), values))


SHAPES = {
    "scalar": (),
    "bias": (5,),
    "linear": (4, 3),
    "table": (1, 2, 3),
    "conv2d": (2, 3, 4, 5),
    "conv3d": (2, 3, 1, 4, 5),
    "empty": (0, 4),
}
MLX_AXES = {"conv2d": (0, 2, 3, 1), "conv3d": (0, 2, 3, 4, 1)}


@pytest.mark.parametrize("stored", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
def test_values_layout_and_dtype(tmp_path: Path, stored: str, dtype: mx.Dtype) -> None:
    values = {name: counting(shape) for name, shape in SHAPES.items()}
    path = write(tmp_path / "x.bin", {name: (stored, value) for name, value in values.items()})
    seen: Counter[Path] = Counter()
    read = reader.load(everything(path), dtype, on_read=lambda file, size: seen.update({file: size}))
    assert list(read) == list(SHAPES)
    for name, value in values.items():
        assert same(read[name], np.transpose(value, MLX_AXES.get(name, range(value.ndim))))
        assert read[name].dtype == dtype
    assert seen == {path: read_header(path).data_bytes}


def test_several_files(tmp_path: Path) -> None:
    one = write(tmp_path / "1", {"a": ("F32", counting((3,)))})
    two = write(tmp_path / "2", {"b": ("BF16", counting((4,)))})
    read = reader.load(everything(one, two), mx.float32)
    assert same(read["a"], counting((3,)))
    assert same(read["b"], counting((4,)))


def test_a_subset_and_a_block() -> None:
    selection = select(TINY, "transformer")
    whole = reader.load(selection, mx.float32)
    assert len(whole) == 140
    names = [name for name in selection.tensors if name.startswith("transformer_blocks.3.")]
    assert len(names) == 25
    part = reader.load_subset(selection, names, mx.float32)
    block = reader.load(selection.within("transformer_blocks.3."), mx.float32)
    for name in names:
        assert mx.array_equal(part[name], whole[name])
        assert mx.array_equal(block[name.removeprefix("transformer_blocks.3.")], whole[name])


@pytest.mark.parametrize("stored", ["F32", "F16", "BF16"])
def test_rows(tmp_path: Path, stored: str) -> None:
    values = counting((30, 7))
    path = write(tmp_path / "x", {"before": ("F32", counting((9,))), "embedding": (stored, values)})
    seen = []
    indices = [29, 0, 3, 3, 17]
    rows = reader.rows(everything(path), "embedding", indices, on_read=lambda file, size: seen.append(size))
    assert same(rows, values[indices])
    assert rows.dtype == {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}[stored]
    assert sum(seen) == 5 * 7 * (4 if stored == "F32" else 2)
    assert reader.rows(everything(path), "embedding", []).shape == (0, 7)
    for outside in (30, -1):
        with pytest.raises(WeightsError, match=f"has 30 rows; row {outside}"):
            reader.rows(everything(path), "embedding", [0, outside])


def characters_read() -> int:
    """Bytes that this process has read through system calls."""
    return int(Path("/proc/self/io").read_text().split("rchar:")[1].split()[0])


@pytest.mark.skipif(not os.access("/proc/self/io", os.R_OK), reason="counts reads as Linux does")
@pytest.mark.parametrize("component", ["statistics", "connector", "transformer"])
def test_no_byte_of_another_tensor_is_read(component: str) -> None:
    selection = select(TINY, component)
    reader.load(selection, mx.float32)
    before = characters_read()
    reader.load(selection, mx.float32)
    read = characters_read() - before
    assert selection.bytes <= read <= selection.bytes + read_header(TINY).header_size + 4096


@pytest.mark.skipif(not os.access("/proc/self/io", os.R_OK), reason="counts reads as Linux does")
def test_a_worker_reads_next_to_nothing_of_a_43_gb_file(official: Path) -> None:
    path = official / "ltx-2-19b-dev.safetensors"
    selection = select(path, "statistics")
    before = characters_read()
    reader.load(selection, mx.float32)
    assert characters_read() - before <= 512 + read_header(path).header_size + 4096


def test_one_tensor_at_most_is_in_memory_twice(tmp_path: Path) -> None:
    size, count = 1 << 20, 12
    path = write_sparse(tmp_path / "x", {f"t{index}": ("BF16", (size,)) for index in range(count)})
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    read = reader.load(everything(path), mx.float32)
    final = 4 * size * count
    assert mx.get_active_memory() - before == pytest.approx(final, rel=0.01)
    assert mx.get_peak_memory() - before <= final + 2 * size + (64 << 10)
    del read


def replace_file(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.replace(other, path)


def truncate_file(path: Path) -> None:
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 4)


@pytest.mark.parametrize("change", [replace_file, truncate_file, Path.unlink])
def test_a_file_that_changed_since_its_header_was_read(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = write(tmp_path / "x", {"a": ("F32", counting((40, 3)))})
    selection = everything(path)
    change(path)
    with pytest.raises(WeightsError, match=r"changed while it was in use|does not exist"):
        reader.load(selection, mx.float32)
    with pytest.raises(WeightsError, match=r"changed while it was in use|does not exist"):
        reader.rows(selection, "a", [1])


@pytest.mark.parametrize("change", [replace_file, truncate_file])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = write(tmp_path / "x", {"a": ("F32", counting((3,))), "b": ("F32", counting((3,)))})
    done = []

    def on_read(file: Path, size: int) -> None:
        if not done:
            change(file)
        done.append(size)

    with pytest.raises(WeightsError, match="changed while it was in use"):
        reader.load(everything(path), mx.float32, on_read=on_read)


def test_a_name_that_is_not_selected() -> None:
    with pytest.raises(KeyError):
        reader.load_subset(select(TINY, "statistics"), ["absent"], mx.float32)
