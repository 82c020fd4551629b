"""One block of the refiner, and the window of the past it reads.

Axes: b rows, t latent frames of the block, n tokens = frames times cells, p tokens of the past,
w width, k modulations, l layers, h heads, d channels of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .attention import RefinerAttention
from .config import RefinerConfig
from .embed import NUM_MODULATIONS
from .rotary import Rotation, rotate
from .state import RefinerState


@dataclass(frozen=True)
class Window:
    """What the passes over one block share: everything before it, turned to its place."""

    state: RefinerState
    keys: Float[Tensor, "b l h p d"]
    values: Float[Tensor, "b l h p d"]
    mask: Bool[Tensor, "b 1 1 p"] | None
    """True where a key exists; None where all do."""
    turn: Rotation
    """Positions of the block."""


class FeedForward(nn.Module):
    """Linear, GELU (tanh form), linear; a list for LTX-2's names, its dropout an identity."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        inner = config.mlp_ratio * config.width
        first = nn.ModuleDict({"proj": nn.Linear(config.width, inner)})
        self.net = nn.ModuleList([first, nn.Identity(), nn.Linear(inner, config.width)])

    def forward(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        """Apply to every token."""
        first = self.net[0]
        assert isinstance(first, nn.ModuleDict)
        out: Tensor = self.net[2](F.gelu(first["proj"](x), approximate="tanh"))
        return out


class RefinerBlock(nn.Module):
    """Self-attention over the window, cross-attention to the text, feed-forward."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.eps = config.norm_eps
        self.attn1 = RefinerAttention(config)
        self.attn2 = RefinerAttention(config)
        self.ff = FeedForward(config)
        self.scale_shift_table = nn.Parameter(
            torch.randn(NUM_MODULATIONS, config.width) / config.width**0.5
        )

    def forward(
        self,
        x: Float[Tensor, "b n w"],
        modulation: Float[Tensor, "b t k w"],
        window: Window,
        layer: int,
        keys_only: bool = False,
    ) -> tuple[Float[Tensor, "b n w"], Float[Tensor, "b h n d"], Float[Tensor, "b h n d"]]:
        """Return the stream and the block's own keys, not yet turned, and values.

        With `keys_only` the stream comes back as it was: for the last block of a pass of which only
        keys and values are wanted.
        """
        table = (self.scale_shift_table + modulation).to(x.dtype)
        cells = x.shape[1] // table.shape[1]
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = table.repeat_interleave(
            cells, dim=1
        ).unbind(dim=2)
        a = self._norm(x) * (1 + scale_1) + shift_1
        key, value = self.attn1.keys_and_values(a)
        if keys_only:
            return x, key, value
        seen_keys = torch.cat([window.keys[:, layer], rotate(key, window.turn)], dim=2)
        seen_values = torch.cat([window.values[:, layer], value], dim=2)
        mask = window.mask
        if mask is not None:
            mask = F.pad(mask, (0, x.shape[1]), value=True)
        x = x + gate_1 * self.attn1(a, seen_keys, seen_values, turn=window.turn, mask=mask)
        text = window.state
        text_mask = text.text_mask[:, None, None]
        x = x + self.attn2(
            self._norm(x), text.text_keys[:, layer], text.text_values[:, layer], mask=text_mask
        )
        x = x + gate_2 * self.ff(self._norm(x) * (1 + scale_2) + shift_2)
        return x, key, value

    def _norm(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], eps=self.eps)
