"""What the network does about autocast.

Geometry and recurrences add up over a drive, so their matrix products keep the dtype of their
factors (float32, float64 for origins) while autocast runs the projections around them in bfloat16.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


def exact(device: torch.device) -> AbstractContextManager[object]:
    """Context in which autocast on `device` is off; free of cost where it is off already."""
    # The meta device, on which costs are counted, knows no autocast and may not be asked.
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


class RMSNorm(nn.RMSNorm):
    """Norm that works in the dtype of its weight, which is float32 under autocast."""

    def forward(self, x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
        """Normalise the last axis."""
        assert self.weight is not None
        return super().forward(x.to(self.weight.dtype))


def attend_heads(
    query: Float[Tensor, "b h n d"],
    key: Float[Tensor, "b h m d"],
    value: Float[Tensor, "b h m d"],
    mask: Bool[Tensor, "b 1 1 m"] | None,
    scale: float | None = None,
) -> Float[Tensor, "b h n d"]:
    """Softmax attention; `scale` None is 1/sqrt(D).

    torch's fused kernel, except under autocast on a CPU, where its bfloat16 backward pass takes two
    to six times as long as plain products do.
    """
    if query.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    query, key, value = (x.to(torch.get_autocast_dtype("cpu")) for x in (query, key, value))
    attended: Tensor = _PlainAttention.apply(query * factor, key, value, mask)  # type: ignore[no-untyped-call]
    return attended


class _PlainAttention(torch.autograd.Function):
    """Attention by plain products that touches its scores as seldom as can be.

    Scores are by far the largest tensors of a block: masking them in place, and taking the gradient
    of the softmax in place as P (dP - rowsum(dO O)), halves the time of both passes.
    [source: the backward pass of FlashAttention, Dao et al. 2022, arXiv 2205.14135, equation 4]
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        scores = query @ key.transpose(-1, -2)
        if mask is not None:
            scores.masked_fill_(~mask, float("-inf"))
        shares = scores.softmax(dim=-1)
        attended = shares @ value
        ctx.save_for_backward(query, key, value, shares, attended)
        return attended

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, shares, attended = ctx.saved_tensors
        row = (grad.float() * attended.float()).sum(dim=-1, keepdim=True)
        change = (grad @ value.transpose(-1, -2)).sub_(row.to(grad.dtype)).mul_(shares)
        return change @ key, change.transpose(-1, -2) @ query, shares.transpose(-1, -2) @ grad, None
