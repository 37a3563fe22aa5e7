"""A noise file that does not suit a run is refused before the run starts, not after its first stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from orchestrator.noise_file import check_noise, hash_of_noise, noise_shapes
from orchestrator.settings import ModelFacts, Settings, check, settle
from weights.errors import UsageError

FACTS = ModelFacts("dev", 4)
SHAPES = {"stage1": (1, 128, 2, 2, 3), "stage2": (1, 128, 2, 4, 6)}


def noise(folder: Path, shapes: dict[str, tuple[int, ...]], dtype: type = np.float32) -> str:
    path = folder / "noise.safetensors"
    save_file({name: np.zeros(shape, dtype) for name, shape in shapes.items()}, path)
    return str(path)


def test_the_shapes_are_those_that_the_stages_start_from() -> None:
    for preset, expected in (("two-stage", SHAPES), ("max", SHAPES), ("dev", {"stage1": SHAPES["stage1"]})):
        asked = Settings("a", preset=preset, height=64, width=96, frames=9)
        assert noise_shapes(settle(check(asked), FACTS)) == expected


def test_a_file_that_suits(tmp_path: Path) -> None:
    check_noise(None, SHAPES)
    check_noise(noise(tmp_path, SHAPES), SHAPES)
    check_noise(noise(tmp_path, SHAPES), {"stage1": SHAPES["stage1"]})


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_a_missing_tensor_is_named(tmp_path: Path, stage: str) -> None:
    path = noise(tmp_path, {name: shape for name, shape in SHAPES.items() if name != stage})
    with pytest.raises(UsageError, match=f"no tensor named {stage}"):
        check_noise(path, SHAPES)


def test_another_shape_or_dtype_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"stage2 is F32 \[1, 128, 2, 2, 3\], .* \[1, 128, 2, 4, 6\]"):
        check_noise(noise(tmp_path, {**SHAPES, "stage2": SHAPES["stage1"]}), SHAPES)
    with pytest.raises(UsageError, match="stage1 is F16"):
        check_noise(noise(tmp_path, SHAPES, np.float16), SHAPES)


def test_no_noise_file(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no")
    for name in ("absent", "text"):
        with pytest.raises(UsageError, match="--noise"):
            check_noise(str(tmp_path / name), {})
    with pytest.raises(UsageError, match="--noise"):
        hash_of_noise(str(tmp_path / "absent"))
