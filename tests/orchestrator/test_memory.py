"""The cost model at full size, from headers alone: what is in a peak, and that the constants are the workers' own."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest

from orchestrator import memory_tokens, memory_video
from orchestrator.effort import effort
from orchestrator.memory import Holding, Pace, Work, predict, work_of
from orchestrator.memory_backends import BACKENDS, CPU, CUDA, ENCODER, METAL
from orchestrator.memory_plan import choose_tiles
from orchestrator.memory_tiles import Tiles, with_overlaps
from orchestrator.sizes import LatentShape
from tests.orchestrator.memory_machines import GB, H100, LINUX, MAC, networks, recipe_for, write_full_size
from weights.architecture import vae
from workers.networks import upsampler
from workers.sampling import predictor
from workers.video.codecs import CODECS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_full_size(tmp_path_factory.mktemp("full"))


def work(folder: Path, stage: str, dtype: str = "bfloat16", tiles: Tiles | None = None, **asked: Any) -> Work:
    recipe = recipe_for(folder, **asked)
    return work_of(stage, recipe, networks(folder, recipe, MAC)[stage], dtype, tiles)


def weights_of(made: Work, holding: Holding) -> int:
    return next(phase.weights for phase in predict(made, METAL, holding).phases if phase.name == "denoising")


def test_the_transformer_is_counted_to_the_byte(folder: Path) -> None:
    """26.09 GB in 16 bits, twice that in 32."""
    stage1 = work(folder, "stage1")
    assert weights_of(stage1, Holding()) == pytest.approx(26_085_417_216, rel=1e-4)
    assert weights_of(replace(stage1, dtype="float32"), Holding()) == pytest.approx(2 * 26_085_417_216, rel=1e-4)


def test_streaming_takes_the_blocks_that_stay_and_two_more(folder: Path) -> None:
    stage1 = work(folder, "stage1")
    block = weights_of(stage1, Holding(11)) - weights_of(stage1, Holding(10))
    assert 48 * block == pytest.approx(26_085_417_216, rel=0.02)
    assert weights_of(stage1, Holding(0, prefetch=0)) + block == weights_of(stage1, Holding(0))
    late = 16384 * 4096 * 2
    assert weights_of(stage1, Holding(46)) == weights_of(stage1, Holding()) + late, "the last weight of the one before"
    assert weights_of(stage1, Holding(0)) < 1.5 * GB + late


def test_a_block_that_is_converted_is_there_as_it_was_read_too(folder: Path) -> None:
    stage1 = work(folder, "stage1", dtype="float32")
    block = weights_of(stage1, Holding(1)) - weights_of(stage1, Holding(0))
    top, late = weights_of(stage1, Holding()) - 48 * block, 16384 * 4096 * 4
    assert weights_of(stage1, Holding(0)) == pytest.approx(top + block + block // 2 + late, rel=1e-3)


@pytest.mark.parametrize(("bits", "share"), [(8, 0.53), (4, 0.28)])
def test_quantised_blocks_take_a_half_or_a_quarter(folder: Path, bits: int, share: float) -> None:
    dense, quantised = work(folder, "stage1"), work(folder, "stage1", quantize=bits)
    assert weights_of(quantised, Holding()) == pytest.approx(share * weights_of(dense, Holding()), rel=0.06)
    # A block is read in 16 bits before it is quantised.
    assert predict(quantised, METAL).phases[0].activations == pytest.approx(26.09e9 / 48, rel=0.03)


def test_guidance_costs_an_activation_and_not_another_network(folder: Path) -> None:
    one, two = work(folder, "stage1", cfg=1.0), work(folder, "stage1", cfg=5.0)
    tokens = one.result.tokens * 4096 * 2
    assert (one.passes, two.passes) == (1, 2)
    more = predict(two, METAL).peak - predict(one, METAL).peak
    assert tokens < more < 4 * tokens


def test_tokens_by_tokens_are_counted_where_attention_makes_them(folder: Path) -> None:
    stage2 = work(folder, "stage2")
    scores = 32 * stage2.result.tokens**2 * 2
    unfused = replace(METAL, fused_attention=frozenset())
    assert predict(stage2, unfused).peak - predict(stage2, METAL).peak == scores


def test_stage_2_is_the_larger_of_its_two_networks(folder: Path) -> None:
    phases = {phase.name: phase for phase in predict(work(folder, "stage2"), METAL, Holding(0)).phases}
    assert phases["upsampling"].weights == pytest.approx(995_744_391, rel=0.001)
    assert predict(work(folder, "stage2"), METAL, Holding(0)).largest.name == "denoising"
    assert phases["denoising"].weights < 1.6 * GB, "the upsampler is gone by then"


def test_text_never_holds_two_of_its_networks(folder: Path) -> None:
    """One prompt of a usual length in 16 bits: below 2.6 GB, where Gemma alone has 23.5."""
    text = work(folder, "text", negative_prompt="worst quality, blurry, distorted")
    for backend in (METAL, CUDA):
        assert predict(text, backend).arrays < 2.6e9
    names = [phase.name for phase in predict(text, METAL).phases]
    assert names == ["gemma", "projection", "projecting", "connector"]


@pytest.mark.parametrize("machine", [MAC, H100, LINUX], ids=lambda machine: machine.backend)
@pytest.mark.parametrize(
    ("asked", "budget"),
    [({}, 8 * GB), ({"size": (3840, 2160)}, 16 * GB), ({"height": 64, "width": 96, "frames": 9}, 3 * GB)],
)
def test_a_decode_fits_where_it_must(folder: Path, machine: Any, asked: dict[str, Any], budget: int) -> None:
    """193 frames of 960x1408 in 8 GB, 4K in 16 GB."""
    backend = BACKENDS[machine.backend]
    decode = work(folder, "decode", dtype=machine.dtype, **asked)
    tiles = choose_tiles(decode, backend, budget, 64 * GB)
    assert predict(replace(decode, tiles=tiles), backend).peak <= budget
    # Not by cutting finer than needed: half of the memory would mean more work.
    assert effort(replace(decode, tiles=tiles)) <= effort(
        replace(decode, tiles=choose_tiles(decode, backend, budget // 2, 64 * GB))
    )


def test_frames_that_wait_for_the_encoder_are_counted(folder: Path) -> None:
    """A row of tiles in float32 is most of a 4K decode; on a card it is the host's."""
    decode = work(folder, "decode", size=(3840, 2160), tiles=with_overlaps(512, 64))
    assert decode.tiles is not None
    phases = {phase.name: phase for phase in predict(decode, METAL).phases}
    row = 65 * decode.result.height * decode.result.width * 32 * 32 * 12
    assert row * 0.85 < phases["decoding"].kept < row * 1.6
    assert phases["encoding"].kept > phases["decoding"].kept
    assert {phase.name: phase.kept for phase in predict(decode, CUDA).phases}["decoding"] < GB


def test_no_array_is_too_large_for_the_kernels(folder: Path) -> None:
    decode = work(folder, "decode", size=(3840, 2160))
    tiles = choose_tiles(decode, CUDA, 1 << 50, 1 << 50)
    config = decode.networks["vae_decoder"].selection.config
    from orchestrator.memory_tiles import cut

    assert memory_video.decoder_values(config, cut(decode.result, tiles).tile) <= 1 << 30


def test_more_of_anything_never_takes_less(folder: Path) -> None:
    def peak(stage: str, **asked: Any) -> int:
        tiles = with_overlaps(512, 64) if stage == "decode" else None
        return predict(work(folder, stage, tiles=tiles, **asked), METAL).peak

    for stage in ("stage1", "stage2", "temporal", "decode"):
        assert peak(stage, frames=97) >= peak(stage, frames=49)
        assert peak(stage, height=480, width=704) >= peak(stage, height=320, width=480)
    assert peak("text", prompt="fox " * 300) > peak("text", prompt="fox")
    assert peak("stage2", seeds=(1, 2, 3, 4)) > peak("stage2", seeds=(1,)), "upsampled latents wait for their turn"
    assert peak("decode", codec="hevc") > peak("decode", codec="prores")


def test_the_decoders_layers_end_where_the_decoder_does(folder: Path) -> None:
    """Shapes of the last layer, counted by hand: 8k + 1 frames of 32 x 32 pixels a cell, 3 colours."""
    config = work(folder, "decode").networks["vae_decoder"].selection.config
    tile = LatentShape(3, 4, 5)
    layers = list(memory_video.decoder_layers(config, tile))
    assert layers[-1].outputs == 17 * 128 * 160 * 3
    assert layers[-1].inputs == 17 * 32 * 40 * 128
    assert [layer.grows for layer in layers].count(True) == 3
    assert prod((2, 2, 2)) * 512 * 3 * 4 * 5 == next(layer.outputs for layer in layers if layer.grows)


def test_the_buffer_cache_is_in_the_peak_where_it_is_the_process_that_counts(folder: Path) -> None:
    stage1 = work(folder, "stage1")
    plain = predict(stage1, METAL)
    assert plain.peak == METAL.base + plain.arrays + METAL.cache
    assert predict(stage1, METAL, Holding(spare=True)).peak == METAL.base + plain.arrays
    on_card = predict(stage1, CUDA)
    assert on_card.peak == CUDA.base + on_card.arrays
    small = work(folder, "temporal", height=64, width=96, frames=9)
    activations = predict(small, METAL).largest.activations
    assert 0 < predict(small, METAL).cache == activations < METAL.cache


def test_weights_in_fewer_bits_are_decoded_a_block_at_a_time_or_as_many_as_are_asked_for_ahead(folder: Path) -> None:
    packed = work(folder, "stage1", quantize=8)

    def decoded(pace: Pace) -> int:
        """Activations beyond those with weights that need no decoding."""
        inside = [
            predict(one, CUDA, Holding(pace=pace)).phases[1].activations for one in (packed, replace(packed, bits=None))
        ]
        return inside[0] - inside[1]

    block = 2 * (8 * 4096 * 4096 + 2 * 4096 * 16384)
    assert decoded("whole") == block
    assert decoded("ahead") == 3 * block
    assert decoded("parts") == 2 * 4096 * 16384


def test_a_cpu_unfolds_convolutions_in_float32_whatever_it_computes_in(folder: Path) -> None:
    """Measured: 48 to 61 values of 16 bits for each of the input."""
    config = work(folder, "decode").networks["vae_decoder"].selection.config
    tile = LatentShape(3, 4, 6)
    exact, half = (memory_video.decoder_activations(config, tile, CPU, dtype) for dtype in ("float32", "bfloat16"))
    assert half > 5 * exact
    on_gpu = memory_video.decoder_activations(config, tile, METAL, "bfloat16")
    assert half > 10 * on_gpu


def test_each_pass_and_each_seed_is_counted(folder: Path) -> None:
    plain = work(folder, "stage1", cfg=1.0)
    passes = [plain, work(folder, "stage1", cfg=1.0, stg=1.0), work(folder, "stage1", cfg=3.0, stg=1.0)]
    assert [one.passes for one in passes] == [1, 2, 3]
    assert [one.prompts for one in passes] == [1, 1, 2]
    peaks = [predict(one, METAL).peak for one in passes]
    assert peaks == sorted(set(peaks))

    def upsampling(seeds: tuple[int, ...]) -> int:
        phases = predict(work(folder, "stage2", seeds=seeds), METAL).phases
        return next(phase.kept for phase in phases if phase.name == "upsampling")

    result = work(folder, "stage2").result
    assert upsampling((1, 2, 3)) - upsampling((1,)) == 2 * memory_video.latent_bytes(result, "bfloat16")


def test_constants_are_those_of_the_workers() -> None:
    assert memory_video.PIECE_VALUES == upsampler.PIECE_VALUES
    assert memory_tokens.KEEP_TEXT_BYTES == predictor.KEEP_TEXT_BYTES
    assert set(ENCODER) == set(CODECS)
    assert (memory_video.SPACE_SCALE, vae.TIME_SCALE) == (32, 8)


@pytest.mark.parametrize(
    ("text", "most"),
    [("", 3), ("a red ball", 8), ("0123456789", 12), ("狐" * 10, 32), ("fox " * 5000, 1024)],
)
def test_tokens_are_bounded_without_a_tokenizer(text: str, most: int) -> None:
    assert memory_tokens.count_tokens(text) <= most
    assert memory_tokens.count_tokens(text) >= min(1024, len(text.split()))


def test_line_breaks_are_tokens_too() -> None:
    assert memory_tokens.count_tokens("a\n" * 200) >= 400
    assert memory_tokens.count_tokens("a red  ball\t!\n\n") >= memory_tokens.count_tokens("a red ball!") + 4
