"""Operations counted by hand, and what follows from them for a Mac."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from benchmarks import flops, macs
from weights.architecture.transformer import TransformerConfig

INVENTORIES = Path(__file__).parent.parent / "data" / "inventories"


@pytest.fixture(scope="module")
def config() -> TransformerConfig:
    with gzip.open(INVENTORIES / "ltx-2-19b-dev.json.gz", "rt", encoding="utf-8") as file:
        return TransformerConfig.from_metadata(json.load(file)["metadata"]["config"])


@pytest.mark.parametrize(("tokens", "tera"), [(4_290, 118.0), (17_160, 635.7)])
def test_a_pass_of_the_full_size_transformer(config, tokens, tera):
    """By hand, 48 blocks of width 4,096: 2 * 48 * (14 t w^2 + 2 * 1024 w^2 + 2 w (t^2 + 1024 t))."""
    width = 4096
    by_hand = 96 * (14 * tokens * width**2 + 2048 * width**2 + 2 * width * (tokens**2 + 1024 * tokens))
    assert flops.forward(config, tokens) == by_hand
    assert by_hand / 1e12 == pytest.approx(tera, rel=1e-3)


def test_kept_text_saves_its_keys_and_values(config):
    saved = flops.forward(config, 100) - flops.forward(config, 100, keep_text=True)
    assert saved == 2 * 48 * 1024 * 2 * 4096**2


@pytest.mark.parametrize(
    ("size", "tokens"), [((480, 704, 97), 4_290), ((960, 1408, 97), 17_160), ((128, 192, 25), 96), ((32, 32, 1), 1)]
)
def test_tokens_of_a_video(size, tokens):
    assert flops.tokens(*size) == tokens


def test_a_step_waits_for_the_slowest():
    chip = macs.Chip("X", peak=10e12, bandwidth=100e9, disk=5e9, memories=(32,), efficiency=0.5)
    assert macs.step_seconds(chip, 50e12, 20e9, 0.0) == (10.0, "computing")
    assert macs.step_seconds(chip, 5e12, 200e9, 0.0) == (2.0, "memory")
    assert macs.step_seconds(chip, 5e12, 20e9, 0.5) == (2.0, "disk")


def test_every_chip_is_plausible():
    """Newer and larger chips of a class are faster; what is no published figure says so."""
    by_name = {chip.name: chip for chip in macs.CHIPS}
    for suffix in ("", " Pro", " Max", " Ultra"):
        family = [by_name[f"M{number}{suffix}"] for number in range(1, 6) if f"M{number}{suffix}" in by_name]
        assert [chip.peak for chip in family] == sorted(chip.peak for chip in family)
    assert all(chip.estimated == chip.name.startswith("M5") for chip in macs.CHIPS)
