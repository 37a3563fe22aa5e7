"""Official files as sparse copies, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.weights.sparse import write_gemma, write_inventory

FILES = (
    "ltx-2-19b-dev",
    "ltx-2-19b-distilled",
    "ltx-2-19b-distilled-fp8",
    "ltx-2-19b-distilled-lora-384",
    "ltx-2-spatial-upscaler-x2-1.0",
    "ltx-2-temporal-upscaler-x2-1.0",
    "ltx-2.3-22b-dev",
    "ltx-2.3-spatial-upscaler-x1.5-1.0",
)


@pytest.fixture(scope="session")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every official file that there is an inventory of, and gemma-3-12b-it. To be read only."""
    folder = tmp_path_factory.mktemp("official") / "everything"
    for name in FILES:
        write_inventory(folder / f"{name}.safetensors", name)
    write_gemma(folder / "gemma-3-12b-it")
    return folder
