"""Attention of the refiner: RMS norm of queries and keys across all heads, an optional gate a head.

Axes: b rows, n query tokens, m key tokens, h heads, d channels of a head, c width.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sanawm_gym.worldmodel.precision import RMSNorm, attend_heads

from .config import RefinerConfig
from .rotary import Rotation, rotate


class RefinerAttention(nn.Module):
    """Self-attention over sink, history and block, or cross-attention to the text."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        width = config.width
        self.num_heads = config.num_attention_heads
        self.norm_q = RMSNorm(width, eps=config.norm_eps)
        self.norm_k = RMSNorm(width, eps=config.norm_eps)
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])  # a list, for LTX-2's names
        self.to_gate_logits = nn.Linear(width, self.num_heads) if config.gated_attention else None

    def keys_and_values(
        self, x: Float[Tensor, "b m c"]
    ) -> tuple[Float[Tensor, "b h m d"], Float[Tensor, "b h m d"]]:
        """Keys before rotation, and values."""
        value = self.to_v(x)
        return self._heads(self.norm_k(self.to_k(x)).to(value.dtype)), self._heads(value)

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        key: Float[Tensor, "b h m d"],
        value: Float[Tensor, "b h m d"],
        *,
        turn: Rotation | None = None,
        mask: Bool[Tensor, "b 1 1 m"] | None = None,
    ) -> Float[Tensor, "b n c"]:
        """Let x look at keys and values.

        Args:
            x: Tokens that ask.
            key: Keys, rotated where positions count.
            value: Their values.
            turn: Positions of x; None where positions do not count.
            mask: True where a key may be seen.
        """
        query = self._heads(self.norm_q(self.to_q(x)).to(value.dtype))
        if turn is not None:
            query = rotate(query, turn)
        out = attend_heads(query, key, value, mask)
        if self.to_gate_logits is not None:
            gate = 2 * torch.sigmoid(self.to_gate_logits(x))
            out = out * gate.transpose(1, 2)[..., None]
        projected: Tensor = self.to_out[0](out.transpose(1, 2).flatten(2))
        return projected

    def _heads(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        return heads
