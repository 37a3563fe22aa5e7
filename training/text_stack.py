"""The text side: a small Gemma 3, the feature extractor of the 19B form, and the embeddings connector.

Gemma is written out here, with the key names and the arithmetic of transformers' `Gemma3TextModel`, so that training
does not depend on that library's version; `check_files` runs the exported files through the library itself.
"""

from __future__ import annotations

import torch
from ltx_core.model.transformer.rope import precompute_freqs_cis
from ltx_core.text_encoders.gemma.embeddings_connector import Embeddings1DConnectorConfigurator
from ltx_core.text_encoders.gemma.feature_extractor import FeatureExtractorV1
from ltx_core.utils import rms_norm
from torch import Tensor, nn
from torch.nn import functional

from training.configuration import CHECKPOINT, CONTEXT_TOKENS, GEMMA, HIDDEN, REGISTERS
from training.device import DEVICE, frequency_grid


class Norm(nn.Module):
    """RMS norm in float32 whose gain is 1 + weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + GEMMA["rms_norm_eps"])
        return (y * (1.0 + self.weight.float())).to(x.dtype)


class Attention(nn.Module):
    """Causal attention with grouped keys and values, and normalised queries and keys."""

    def __init__(self) -> None:
        super().__init__()
        width, self.head_width = GEMMA["hidden_size"], GEMMA["head_dim"]
        self.heads, self.kv_heads = GEMMA["num_attention_heads"], GEMMA["num_key_value_heads"]
        self.q_proj = nn.Linear(width, self.heads * self.head_width, bias=False)
        self.k_proj = nn.Linear(width, self.kv_heads * self.head_width, bias=False)
        self.v_proj = nn.Linear(width, self.kv_heads * self.head_width, bias=False)
        self.o_proj = nn.Linear(self.heads * self.head_width, width, bias=False)
        self.q_norm, self.k_norm = Norm(self.head_width), Norm(self.head_width)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        batch, tokens, _ = x.shape

        def split(projected: Tensor, heads: int) -> Tensor:
            return projected.view(batch, tokens, heads, self.head_width)

        def rotate(z: Tensor) -> Tensor:
            first, second = z.chunk(2, -1)
            return z * cosine + torch.cat((-second, first), -1) * sine

        values = split(self.v_proj(x), self.kv_heads).transpose(1, 2)
        queries = rotate(self.q_norm(split(self.q_proj(x), self.heads)).transpose(1, 2)).to(values.dtype)
        keys = rotate(self.k_norm(split(self.k_proj(x), self.kv_heads)).transpose(1, 2)).to(values.dtype)
        repeats = self.heads // self.kv_heads
        attended = functional.scaled_dot_product_attention(
            queries,
            keys.repeat_interleave(repeats, 1),
            values.repeat_interleave(repeats, 1),
            is_causal=True,
            scale=GEMMA["query_pre_attn_scalar"] ** -0.5,
        )
        return self.o_proj(attended.transpose(1, 2).reshape(batch, tokens, -1))


class FeedForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width, inner = GEMMA["hidden_size"], GEMMA["intermediate_size"]
        self.gate_proj, self.up_proj = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))


class Layer(nn.Module):
    """Attention and feed-forward, each with a norm before and after."""

    def __init__(self) -> None:
        super().__init__()
        width = GEMMA["hidden_size"]
        self.self_attn, self.mlp = Attention(), FeedForward()
        self.input_layernorm, self.post_attention_layernorm = Norm(width), Norm(width)
        self.pre_feedforward_layernorm, self.post_feedforward_layernorm = Norm(width), Norm(width)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        x = x + self.post_attention_layernorm(self.self_attn(self.input_layernorm(x), cosine, sine))
        return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))


class TinyGemma(nn.Module):
    """A Gemma 3 text model of so few layers that all are local ones (rotary base 10,000).

    Tokens are padded on the right here, on the left in use: attention is causal and rotary positions are relative, so
    that real tokens see the same in both.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        if GEMMA["num_hidden_layers"] >= GEMMA["sliding_window_pattern"]:
            raise ValueError("a layer of full attention would be needed")
        self.embed_tokens = nn.Embedding(vocabulary, HIDDEN, padding_idx=0)
        self.layers = nn.ModuleList(Layer() for _ in range(GEMMA["num_hidden_layers"]))
        self.norm = Norm(HIDDEN)
        nn.init.normal_(self.embed_tokens.weight, std=HIDDEN**-0.5)

    def forward(self, ids: Tensor) -> Tensor:
        """All hidden states of tokens `[batch, tokens]`: `[batch, tokens, 96, layers + 1]`, the last one normed."""
        x = self.embed_tokens(ids) * HIDDEN**0.5
        width = GEMMA["head_dim"]
        steps = torch.arange(0, width, 2, device=ids.device).float() / width
        angles = torch.arange(ids.shape[1], device=ids.device).float()[:, None] / GEMMA["rope_local_base_freq"] ** steps
        angles = torch.cat((angles, angles), -1)
        cosine, sine = angles.cos(), angles.sin()
        states = []
        for layer in self.layers:
            states.append(x)
            x = layer(x, cosine, sine)
        return torch.stack([*states, self.norm(x)], -1)


class TextStack(nn.Module):
    """Tokens to the contexts that the transformer takes."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.gemma = TinyGemma(vocabulary)
        states = GEMMA["num_hidden_layers"] + 1
        self.feature_extractor = FeatureExtractorV1(nn.Linear(HIDDEN * states, HIDDEN, bias=False))
        self.connector = Embeddings1DConnectorConfigurator.from_config(CHECKPOINT)
        self.connector.learnable_registers = nn.Parameter(self.connector.learnable_registers.float() * 0.5)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids: `[batch, tokens]`, padded on the right; lengths: `[batch]`. Contexts `[batch, 1024, 96]`."""
        batch, tokens = ids.shape
        states = self.gemma(ids)
        mask = (torch.arange(tokens, device=ids.device)[None] < lengths[:, None]).long()
        with torch.autocast(ids.device.type, enabled=False):
            features, _ = self.feature_extractor(states.float(), mask, "right")
        registers = self.connector.learnable_registers.repeat(CONTEXT_TOKENS // REGISTERS, 1)
        filled = torch.where(mask[..., None].bool(), features.to(registers.dtype), registers[None, :tokens])
        x = torch.cat([filled, registers[None, tokens:].expand(batch, -1, -1)], 1)
        rotary = tuple(table.expand(batch, -1, -1, -1) for table in self._rotary())
        for block in self.connector.transformer_1d_blocks:
            x = block(x, attention_mask=None, pe=rotary)
        return rms_norm(x)

    def _rotary(self) -> tuple[Tensor, ...]:
        connector = self.connector
        return precompute_freqs_cis(
            indices_grid=torch.arange(CONTEXT_TOKENS, dtype=torch.float32, device=DEVICE)[None, None],
            dim=connector.inner_dim,
            out_dtype=torch.float32,
            theta=connector.positional_embedding_theta,
            max_pos=connector.positional_embedding_max_pos,
            num_attention_heads=connector.num_attention_heads,
            rope_type=connector.rope_type,
            freq_grid_generator=frequency_grid,
        )
