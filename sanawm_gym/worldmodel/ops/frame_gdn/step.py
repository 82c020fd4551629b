"""One frame of the gated delta rule, for streaming.

With a single frame the D x D transition is not worth forming: predict what the memory holds at the
keys, write the difference, read. S' = g S + K^T B (V - K g S), out = Q S'.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def frame_gdn_step(
    q: Float[Tensor, "b s h d"],
    k: Float[Tensor, "b s h d"],
    v: Float[Tensor, "b s h e"],
    beta: Float[Tensor, "b s h"],
    decay: Float[Tensor, "b h"],
    state: Float[Tensor, "b h d e"],
) -> tuple[Float[Tensor, "b s h e"], Float[Tensor, "b h d e"]]:
    """Write one frame into the memory and read it, itself included.

    Args:
        q: Queries.
        k: Keys, already scaled.
        v: Values.
        beta: Write strength in [0, 1] per token and head.
        decay: Share of memory kept, per head.
        state: Memory before the frame; not changed.

    Returns:
        The output and the memory after the frame.
    """
    dtype = state.dtype
    num_clips, num_tokens, num_heads, num_values = v.shape
    q, k, v = (_heads_first(x.to(dtype)) for x in (q, k, v))
    strength = _heads_first(beta.to(dtype)[..., None])
    kept = (state * decay.to(dtype)[..., None, None]).flatten(0, 1)
    surprise = torch.baddbmm(v, k, kept, alpha=-1) * strength
    after = torch.baddbmm(kept, k.transpose(1, 2), surprise)
    output = torch.bmm(q, after).view(num_clips, num_heads, num_tokens, num_values)
    return output.transpose(1, 2), after.view_as(state)


def _heads_first(x: Tensor) -> Tensor:
    """(b, s, h, d) to (b h, s, d)."""
    return x.transpose(1, 2).flatten(0, 1)
