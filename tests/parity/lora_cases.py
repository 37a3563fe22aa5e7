"""The weight and the LoRAs that make_lora.py and test_lora.py both draw."""

from __future__ import annotations

import numpy as np

try:
    from tests.parity.random_weights import Floats, noise
except ImportError:  # the maker runs from this folder
    from random_weights import Floats, noise

SHAPE = (48, 64)
LORAS = ((3, 0.8), (5, -0.3))
"""(rank, strength)"""


def weight() -> Floats:
    return noise("lora/weight", SHAPE) / np.float32(8)


def half(index: int, side: str) -> Floats:
    rank = LORAS[index][0]
    shape = (rank, SHAPE[1]) if side == "A" else (SHAPE[0], rank)
    return noise(f"lora/{index}/{side}", shape) * np.float32(0.2)
