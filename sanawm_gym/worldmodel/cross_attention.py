"""Cross-attention to the prompt, and the prompt prepared for it once.

Keys and values depend on the prompt alone, so a drive computes them at its start and not per step.

Axes: b rows, l text tokens, n image tokens, h heads, d channels of a head, c width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .precision import RMSNorm, attend_heads

NORM_EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class TextContext:
    """A prompt as the blocks read it.

    Attributes:
        keys: Per block, after the key norm.
        values: Per block.
        mask: True where a text token counts.
    """

    keys: tuple[Float[Tensor, "b h l d"], ...]
    values: tuple[Float[Tensor, "b h l d"], ...]
    mask: Bool[Tensor, "b 1 1 l"]

    @property
    def batch_size(self) -> int:
        """Number of rows."""
        return self.mask.shape[0]

    def select(self, indices: Sequence[int] | Tensor) -> TextContext:
        """Copy rows; an index may repeat."""
        rows = torch.as_tensor(indices, dtype=torch.long, device=self.mask.device)
        return TextContext(
            keys=tuple(x.index_select(0, rows) for x in self.keys),
            values=tuple(x.index_select(0, rows) for x in self.values),
            mask=self.mask.index_select(0, rows),
        )

    def to(self, device: torch.device | str) -> TextContext:
        """The same values on another device."""
        return TextContext(
            keys=tuple(x.to(device) for x in self.keys),
            values=tuple(x.to(device) for x in self.values),
            mask=self.mask.to(device),
        )

    @staticmethod
    def concat(contexts: Sequence[TextContext]) -> TextContext:
        """Stack the rows of several prompts of equal length."""
        return TextContext(
            keys=tuple(torch.cat(x) for x in zip(*(c.keys for c in contexts), strict=True)),
            values=tuple(torch.cat(x) for x in zip(*(c.values for c in contexts), strict=True)),
            mask=torch.cat([c.mask for c in contexts]),
        )

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, for saving."""
        flat = {"mask": self.mask}
        for i, (key, value) in enumerate(zip(self.keys, self.values, strict=True)):
            flat[f"keys.{i}"], flat[f"values.{i}"] = key, value
        return flat

    @staticmethod
    def from_tensors(tensors: dict[str, Tensor]) -> TextContext:
        """Inverse of `tensors`."""
        num_blocks = (len(tensors) - 1) // 2
        return TextContext(
            keys=tuple(tensors[f"keys.{i}"] for i in range(num_blocks)),
            values=tuple(tensors[f"values.{i}"] for i in range(num_blocks)),
            mask=tensors["mask"],
        )


class CrossAttention(nn.Module):
    """Queries from image tokens, keys and values from text; RMSNorm over the whole width."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_linear = nn.Linear(width, width)
        self.kv_linear = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.q_norm = RMSNorm(width, eps=NORM_EPS)
        self.k_norm = RMSNorm(width, eps=NORM_EPS)

    def prepare(
        self, text: Float[Tensor, "b l c"]
    ) -> tuple[Float[Tensor, "b h l d"], Float[Tensor, "b h l d"]]:
        """Keys and values of a prompt."""
        key, value = self.kv_linear(text).chunk(2, dim=-1)
        key, value = (self._heads(x).contiguous() for x in (self.k_norm(key), value))
        return key, value

    def forward(
        self,
        x: Float[Tensor, "r t s c"],
        key: Float[Tensor, "b h l d"],
        value: Float[Tensor, "b h l d"],
        mask: Bool[Tensor, "b 1 1 l"],
    ) -> Float[Tensor, "r t s c"]:
        """Attend; rows of x may be groups of frames (b t) of the b prompts."""
        query = self._heads(self.q_norm(self.q_linear(x)).view(key.shape[0], -1, x.shape[-1]))
        out = attend_heads(query, key, value, mask)
        projected: Tensor = self.proj(out.transpose(1, 2).reshape(x.shape))
        return projected

    def _heads(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        return heads
