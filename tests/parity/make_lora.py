"""Goldens of LoRA fusing and of fp8: one weight through the reference's `apply_loras` and its fp8 quantiser.

    python tests/parity/make_lora.py            (needs torch, ltx-core==1.0.0, safetensors)

Writes tests/parity/data/lora.safetensors. The weight and the LoRAs are drawn by name (`random_weights`), so only
results are stored: `bf16/one`, `bf16/two` (one and two LoRAs on the bfloat16 weight), `fp8/codes`, `fp8/scale` (the
weight in 8-bit floats) and `fp8/fused` (those with both LoRAs on them, decoded). The reference holds fp8 weights
transposed, files do not.
"""

from __future__ import annotations

from pathlib import Path

import torch
from lora_cases import LORAS, SHAPE, half, weight
from ltx_core.loader.fuse_loras import apply_loras
from ltx_core.loader.primitives import LoraStateDictWithStrength, StateDict
from ltx_core.quantization.fp8_scaled_mm import quantize_weight_to_fp8_per_tensor
from safetensors.torch import save_file

DATA = Path(__file__).parent / "data"
CPU = torch.device("cpu")


def state(tensors: dict[str, torch.Tensor]) -> StateDict:
    return StateDict(tensors, CPU, 0, set())


def bf16(values: object) -> torch.Tensor:
    return torch.from_numpy(values).to(torch.bfloat16)


def loras(count: int) -> list[LoraStateDictWithStrength]:
    return [
        LoraStateDictWithStrength(
            state({f"layer.lora_{side}.weight": bf16(half(index, side)) for side in "AB"}), strength
        )
        for index, (_, strength) in enumerate(LORAS[:count])
    ]


def main() -> None:
    plain = bf16(weight())
    made = {
        f"bf16/{name}": apply_loras(state({"layer.weight": plain.clone()}), loras(count)).sd["layer.weight"]
        for count, name in ((1, "one"), (2, "two"))
    }
    codes, scale = quantize_weight_to_fp8_per_tensor(plain)
    fused = apply_loras(state({"layer.weight": codes, "layer.weight_scale": scale}), loras(2)).sd
    assert codes.t().shape == SHAPE
    made |= {
        "fp8/codes": codes.t().contiguous().view(torch.uint8),
        "fp8/scale": scale,
        "fp8/fused": (fused["layer.weight"].to(torch.float32) * fused["layer.weight_scale"]).t().contiguous(),
    }
    save_file({name: tensor.contiguous() for name, tensor in made.items()}, DATA / "lora.safetensors")


if __name__ == "__main__":
    main()
