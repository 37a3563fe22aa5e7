"""Quantised copies: official layout, bounded memory, every other byte untouched."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from safetensors import safe_open

from tests.weights.sparse import header_json, pack, write_sparse
from tests.weights.stored import bytes_of
from weights import fp8
from weights.errors import WeightsError
from weights.header import read_header
from weights.quantize import dense, quantise
from weights.quantize_file import chunks
from weights.quantize_plan import FilePlan, plan
from weights.select import select
from weights.stream import read_whole
from weights.stream_form import Block, Form
from weights.tiny_model import tiny_folder

TINY = tiny_folder() / "ltx-2-tiny-dev.safetensors"
LAYERS = 50
PREFIX = "model.diffusion_model."


def write(file: FilePlan, path: Path) -> Path:
    path.write_bytes(b"".join(chunks(file)))
    return path


def compact_copy(path: Path, source: Path = TINY) -> tuple[Path, list[str]]:
    """The checkpoint with its blocks' linear layers in 8-bit floats, and the names of those."""
    arrays = mx.load(str(source), format="safetensors")
    chosen = [name for name in arrays if name.endswith(("attn1.to_q.weight", "ff.net.2.weight")) and "1d" not in name]
    for name in chosen:
        codes, scale = fp8.encode(arrays[name])
        arrays |= {name: codes, f"{name}_scale": scale, f"{name[:-7]}.input_scale": mx.array(1.0)}
    names = {mx.float32: "F32", mx.bfloat16: "BF16", mx.uint8: "F8_E4M3"}
    header, _ = header_json({n: (names[a.dtype], a.shape) for n, a in arrays.items()}, read_header(source).metadata)
    path.write_bytes(pack(header, b"".join(bytes_of(array) for array in arrays.values())))
    return path, chosen


@pytest.mark.parametrize("bits", [8, 4])
def test_a_copy_of_the_tiny_checkpoint(tmp_path: Path, bits: int) -> None:
    planned = plan(TINY, bits)
    assert (planned.kind, planned.layers, len(planned.files)) == ("checkpoint", LAYERS, 1)
    path = write(planned.files[0], tmp_path / "ltx-2-tiny-dev-small.safetensors")
    assert path.stat().st_size == planned.size < TINY.stat().st_size
    source, copy = read_header(TINY), read_header(path)
    stated = json.loads(copy.metadata["quantization"])
    assert stated == {"mode": "affine", "bits": bits, "group_size": 64}
    assert {key: value for key, value in copy.metadata.items() if key != "quantization"} == source.metadata
    before, after = mx.load(str(TINY), format="safetensors"), mx.load(str(path), format="safetensors")
    packed = {name for name, array in after.items() if array.dtype == mx.uint32}
    assert len(packed) == LAYERS
    assert all(name.startswith(f"{PREFIX}transformer_blocks.") for name in packed)
    assert len(after) == len(before) + 2 * LAYERS
    for name, array in before.items():
        if name in packed:
            made = quantise(array, bits)
            stem = name.removesuffix(".weight")
            for found, expected in zip((name, f"{stem}.scales", f"{stem}.biases"), made, strict=True):
                assert mx.array_equal(after[found], expected), found
        else:
            assert after[name].dtype == array.dtype
            assert bytes_of(after[name]) == bytes_of(array)
    # Any safetensors reader opens it, and every network of it is complete.
    with safe_open(path, framework="numpy") as file:
        assert len(file.keys()) == len(after)
    assert select(path, "transformer").affine == (bits, 32)  # type: ignore[comparison-overlap]
    for component in ("connector", "projection", "statistics", "vae_encoder", "vae_decoder"):
        assert select(path, component).bytes == select(TINY, component).bytes


def test_quantised_on_load_and_from_a_file_agree(tmp_path: Path) -> None:
    """In bfloat16, where both have the same scales."""
    path = write(plan(TINY, 8).files[0], tmp_path / "x.safetensors")
    whole = read_whole(Block(select(TINY, "transformer")), Form(mx.bfloat16, 8))
    for name, array in read_whole(Block(select(path, "transformer")), Form(mx.bfloat16)).items():
        assert mx.array_equal(array, whole[name]), name


def test_8_bit_floats_are_decoded_first_and_lose_their_scales(tmp_path: Path) -> None:
    source, chosen = compact_copy(tmp_path / "ltx-2-tiny-dev-fp8.safetensors")
    path = write(plan(source, 4).files[0], tmp_path / "y.safetensors")
    names = read_header(path).tensors.keys()
    assert not [name for name in names if name.endswith("_scale")]
    stored = mx.load(str(source), format="safetensors")
    copied = mx.load(str(path), format="safetensors")
    for name in chosen:
        decoded = fp8.decode(stored[name], stored[f"{name}_scale"], mx.float32)
        expected = quantise(decoded, 4, dtype=mx.bfloat16)
        assert mx.array_equal(copied[name], expected.packed)


def test_a_text_encoder(tmp_path: Path) -> None:
    planned = plan(tiny_folder() / "gemma-tiny", 4)
    assert (planned.kind, planned.layers) == ("gemma", 4 * 7)
    (file,) = planned.files
    folder = tmp_path / "gemma-copy"
    folder.mkdir()
    write(file, folder / "model.safetensors")
    (folder / "config.json").write_bytes((planned.path / "config.json").read_bytes())
    found, source = select(folder, "gemma"), select(planned.path, "gemma")
    assert found.shapes == source.shapes
    assert found.affine is not None
    assert found.affine.bits == 4
    assert found.tensors["embed_tokens.weight"].info.dtype == "BF16"
    layer = read_whole(Block(found.within("layers.1.")), Form(mx.float32))
    exact = read_whole(Block(source.within("layers.1.")), Form(mx.float32))["mlp.down_proj.weight"]
    decoded = dense(layer, "mlp.down_proj", exact.shape[1], mx.float32)
    assert 0 < np.linalg.norm(np.array(decoded - exact)) < 0.15 * np.linalg.norm(np.array(exact))


def test_memory_stays_at_a_few_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of 24 layers and 40 MB that are copied, in the memory of a few layers."""
    monkeypatch.setattr("weights.quantize_file.COPY_BYTES", 1 << 20)
    side = 1024
    tensors = {f"transformer_blocks.{i}.attn1.to_q.weight": ("BF16", (side, side)) for i in range(24)}
    source = read_header(write_sparse(tmp_path / "x", {**tensors, "large": ("F32", (10 << 20,))}))
    from weights.quantize_plan import plan_file

    planned = plan_file(source, 8, "")
    written, read = 0, Counter[Path]()
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    tracemalloc.start()
    for chunk in chunks(planned, on_read=lambda path, size: read.update({path: size})):
        written += len(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert written == planned.size
    assert read[source.path] == source.data_bytes
    assert peak < 12 * side * side
    assert mx.get_peak_memory() - before < 40 * side * side


def test_official_sizes(official: Path) -> None:
    planned = plan(official / "ltx-2-19b-dev.safetensors", 4)
    assert planned.layers == 48 * 28, "the audio part's layers too"
    assert planned.size < 17_500_000_000
    text = plan(official / "gemma-3-12b-it", 8)
    assert (len(text.files), text.layers) == (5, 48 * 7)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ltx-2-19b-distilled-lora-384", "is a lora"),
        ("ltx-2-spatial-upscaler-x2-1.0", "is a spatial upscaler"),
    ],
)
def test_what_is_not_quantised(official: Path, name: str, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        plan(official / f"{name}.safetensors", 8)


def test_a_quantised_file_is_not_quantised_again(tmp_path: Path) -> None:
    path = write(plan(TINY, 8).files[0], tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="is quantised to 8 bits already"):
        plan(path, 4)


def test_values_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    arrays = mx.load(str(TINY), format="safetensors")
    name = f"{PREFIX}transformer_blocks.3.attn2.to_v.weight"
    arrays[name][5, 7] = float("nan")
    header, _ = header_json({n: ("BF16", a.shape) for n, a in arrays.items()}, read_header(TINY).metadata)
    path = tmp_path / "x.safetensors"
    path.write_bytes(pack(header, b"".join(bytes_of(array) for array in arrays.values())))
    with pytest.raises(
        WeightsError, match=r"blocks\.3\.attn2\.to_v\.weight of .*x\.safetensors has values that are not"
    ):
        write(plan(path, 8).files[0], tmp_path / "y")


def test_a_source_that_changes_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(TINY.read_bytes())
    planned = plan(path, 8)
    with open(path, "r+b") as file:
        file.truncate(1 << 20)
    with pytest.raises(WeightsError, match="changed while it was in use"):
        write(planned.files[0], tmp_path / "y")
