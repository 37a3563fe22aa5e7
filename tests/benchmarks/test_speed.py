"""Operations of the networks against what is asked of MLX and numpy, and the rows of the table of speeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

import mlx.core as mx
import pytest

from benchmarks import flops, shapes, speed, speed_pictures, speed_tokens, timing
from benchmarks.activations import values, weights_of
from benchmarks.flops import Operations
from benchmarks.shapes import Shapes
from benchmarks.timing import Device, Row
from weights.architecture import connector, gemma, projection, upsampler, vae
from workers.networks import (
    attention,
    convolution,
    ops,
    vae_decoder,
    vae_encoder,
    vae_ops,
)
from workers.networks import gemma as encoding
from workers.networks import projection as projecting
from workers.networks import upsampler as upsampling

pytestmark = pytest.mark.usefixtures("on_the_cpu")

DEVICE = Device(matrix=100.0, attention=50.0, convolution=25.0, copy=10.0)


@pytest.fixture(scope="module")
def sizes() -> Shapes:
    return shapes.tiny()


class Counted:
    """What MLX was asked for, by operation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.convolution = self.matrix = self.attention = 0
        convolve, linear, attend = convolution.convolve, ops.linear, ops.attention

        def counted_convolve(weights, name, x, stride=(1, 1, 1)):
            y = convolve(weights, name, x, stride)
            self.convolution += 2 * y.size * prod(weights[f"{name}.weight"].shape[1:])
            return y

        def counted_linear(weights, name, x):
            y = linear(weights, name, x)
            self.matrix += 2 * y.size * x.shape[-1]
            return y

        def counted_attention(q, k, v, scale, mask=None):
            heads, tokens, size = q.shape[-3:]
            pairs = tokens * (tokens + 1) // 2 if mask == "causal" else tokens * k.shape[-2]
            self.attention += 4 * heads * pairs * size
            return attend(q, k, v, scale, mask)

        for module in (convolution, vae_ops, vae_decoder):
            monkeypatch.setattr(module, "convolve", counted_convolve)
        for module in (ops, encoding, projecting, attention):
            monkeypatch.setattr(module, "linear", counted_linear)
        for module in (encoding, attention):
            monkeypatch.setattr(module, "attention", counted_attention)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    return Counted(monkeypatch)


def pictures(layers: Iterator[flops.Convolution]) -> float:
    return flops.pictures(layers).convolution


@pytest.mark.parametrize("grid", [(1, 1, 2), (3, 2, 3)])
def test_operations_of_the_decoder(sizes, counted, grid):
    weights = weights_of(vae.decoder_tensors(sizes.decoder), channels_last=True)
    latent = values(1, *grid, sizes.decoder.latent_channels)
    mx.eval(vae_decoder.decode(weights, sizes.decoder, speed_pictures.statistics(), latent))
    assert pictures(flops.decoder(sizes.decoder, grid)) == counted.convolution


@pytest.mark.parametrize("grid", [(1, 1, 2), (2, 1, 1)])
def test_operations_of_the_encoder(sizes, counted, grid):
    weights = weights_of(vae.encoder_tensors(sizes.encoder), channels_last=True)
    pixels = values(1, *speed_pictures.pixels(grid), 3)
    mx.eval(vae_encoder.encode(weights, sizes.encoder, speed_pictures.statistics(), pixels))
    assert pictures(flops.encoder(sizes.encoder, grid)) == counted.convolution


@pytest.mark.parametrize(
    ("kind", "changes"), [("spatial", {}), ("spatial", {"rational": False, "dims": 2}), ("temporal", {})]
)
def test_operations_of_the_upsamplers(sizes, counted, kind, changes):
    config = replace(getattr(sizes, kind), **changes)
    weights = weights_of(upsampler.tensors(config), channels_last=True)
    mx.eval(upsampling.upsample(weights, config, speed_pictures.statistics(), values(1, 128, 3, 2, 4)))
    assert pictures(flops.upsampler(config, (3, 2, 4))) == counted.convolution


def test_operations_of_the_text_path(sizes, counted, monkeypatch):
    work = speed_tokens.text(sizes, DEVICE, {}, 1)
    monkeypatch.setattr(speed_tokens, "turns", lambda encode, times: [encode() or 1.0])
    (row,) = work
    assert row.operations.matrix == counted.matrix
    assert row.operations.attention == counted.attention
    assert row.operations.moved == 2 * sum(
        prod(shape)
        for tensors in (
            gemma.tensors(sizes.gemma),
            projection.tensors(sizes.projection),
            connector.tensors(sizes.connector),
        )
        for name, shape in tensors.items()
        if len(shape) == 2 and "embed_tokens" not in name and "registers" not in name
    )


def test_the_text_path_at_full_size():
    """48 layers of 3,840: 14.8 million values of attention's products and 177 million of the feed-forward's each."""
    full = shapes.full()
    layer = 3840 * (2 * 4096 + 2 * 2048) + 3 * 3840 * 15360
    by_hand = 1024 * (48 * layer + 49 * 3840 * 3840) + 1024 * 2 * 12 * 3840**2
    assert flops.text(full.gemma, full.projection, full.connector, 1024).matrix == 2 * by_hand


def test_a_window_hides_what_is_far_back(sizes):
    near = replace(sizes.gemma, sliding_window=10, full_attention=(False,) * sizes.gemma.num_hidden_layers)
    rest = flops.text(replace(near, full_attention=()), sizes.projection, sizes.connector, 30).attention
    pairs = sum(min(n, 10) for n in range(1, 31))
    found = flops.text(near, sizes.projection, sizes.connector, 30).attention - rest
    assert found == near.num_hidden_layers * 4 * pairs * near.num_attention_heads * near.head_dim


def test_the_least_time_is_computing_or_moving():
    assert DEVICE.least(Operations(matrix=200, attention=50, convolution=50, moved=40)) == 2 + 1 + 2
    assert DEVICE.least(Operations(matrix=200, moved=80)) == 8
    assert Operations(1, 2, 3, 4).times(2) + Operations(1, 1, 1, 1) == Operations(3, 5, 7, 9)


def test_a_row_says_what_is_known():
    row = Row("decode", [2.0, 1.9, 2.2], Operations(convolution=3e12, moved=1e9), reference=4.0, least=1.0)
    assert row.cells == ["decode", "2.0000 s", "15.0%", "4.0000 s", "0.500", "1.5", "0.5", "50%"]
    assert Row("x", [0.5]).cells == ["x", "0.5000 s", "0.0%", "", "", "", "", ""]
    assert len(row.cells) == len(timing.HEADS)


def test_turns_that_count_for_nothing():
    done = []
    assert len(timing.turns(lambda: done.append(1), times=3)) == 3
    assert len(done) == 5


def test_every_case_of_the_reference_has_its_row(sizes, monkeypatch):
    """The names that the reference is asked by are those that the rows look up."""
    asked = speed.cases(sizes, list(speed.MEASUREMENTS))
    for module in (speed_tokens, speed_pictures):
        monkeypatch.setattr(module, "turns", lambda work, times=1: [1.0])
    found = set()

    class Names(dict[str, float]):
        def get(self, name, default=None):  # type: ignore[no-untyped-def]
            found.add(name)
            return default

    for measure in speed.MEASUREMENTS.values():
        assert list(measure(sizes, DEVICE, Names(), 1))
    assert found == set(asked)


@pytest.mark.parametrize(
    ("program", "found"),
    [
        ("print('{\"decode/1x1x1\": 0.5}'); print('(no text)')", {"decode/1x1x1": 0.5}),
        ("print('{\"decode/1x1x1\": 0.5}', flush=True); import time; time.sleep(60)", {"decode/1x1x1": 0.5}),
        ("raise SystemExit('no card')", {}),
    ],
)
def test_what_the_reference_measured_before_it_failed_or_hung(tmp_path, monkeypatch, capsys, program, found):
    """A program in the reference's place: it ends well, hangs, or fails."""
    package = tmp_path / "benchmarks"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "reference.py").write_text(program)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(speed, "PATIENCE", 1)
    assert speed.reference(None, ["decode/1x1x1"], 1) == found
    said = capsys.readouterr()
    assert ("(no text)" in said.out) == ("no text" in program)
    assert ("longer than 1 s" in said.err) == ("sleep" in program)
    assert ("no card" in said.err) == ("no card" in program)
