"""A GPT's block as those write it by hand who are after speed: no checks, no choices, no mask to look at."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Block(nn.TransformerEncoderLayer):
    """`nn.TransformerEncoderLayer`, causal and with normalisation first; parameters and their names are its own."""

    def forward(self, src: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """Shape (batch, tokens, width)."""
        x = src + self._attended(self.norm1(src))
        return x + self.linear2(nn.functional.gelu(self.linear1(self.norm2(x))))

    def _attended(self, x: torch.Tensor) -> torch.Tensor:
        attention = self.self_attn
        projected = nn.functional.linear(x, attention.in_proj_weight, attention.in_proj_bias)
        heads = (*x.shape[:2], attention.num_heads, -1)
        query, key, value = (part.view(heads).transpose(1, 2) for part in projected.split(x.shape[2], dim=2))
        found = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return attention.out_proj(found.transpose(1, 2).reshape(x.shape))
