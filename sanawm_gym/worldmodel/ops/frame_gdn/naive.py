"""The frame-wise gated delta rule in plain loops: slow, the standard that fast forms are held to.

Axes: b clips, t frames, s tokens of a frame, h heads, d key channels, e value channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def naive_frame_gdn(
    q: Float[Tensor, "b t s h d"],
    k: Float[Tensor, "b t s h d"],
    v: Float[Tensor, "b t s h e"],
    beta: Float[Tensor, "b t s h"],
    decay: Float[Tensor, "b t h"],
    *,
    chunks: Sequence[int] | None = None,
    initial: Float[Tensor, "b h d e"] | None = None,
) -> tuple[Float[Tensor, "b t s h e"], Float[Tensor, "b h d e"]]:
    """Read every frame from the frames up to itself, and from later frames of its own chunk.

    Forward, inclusive: F_t = decay_t (I - sum_s beta k k^T) F_{t-1} + sum_s beta k v^T. Backward,
    exclusive: the same rule over reversed time from zero, read one step late. Out: q^T (F_t + B_t).

    Args:
        q: Queries.
        k: Keys, already scaled.
        v: Values.
        beta: Write strength in [0, 1] per token and head.
        decay: Share of memory kept per frame and head, in [0, 1].
        chunks: Chunk sizes over t; default one chunk, which is the bidirectional model.
        initial: State before the first frame; default zero.

    Returns:
        The output and the forward state after the last frame.
    """
    num_clips, num_frames, num_tokens, num_heads, num_channels = k.shape
    dtype = torch.promote_types(q.dtype, torch.float32)
    q, k, v, beta, decay = (x.to(dtype) for x in (q, k, v, beta, decay))
    zero = v.new_zeros(num_clips, num_heads, num_channels, v.shape[-1])
    sizes = [num_frames] if chunks is None else list(chunks)

    def advance(state: Tensor, t: int) -> Tensor:
        erased = torch.zeros_like(state)
        written = torch.zeros_like(state)
        for s in range(num_tokens):
            key, value, strength = k[:, t, s], v[:, t, s], beta[:, t, s]
            recalled = torch.einsum("bhd,bhde->bhe", key, state)
            erased = erased + torch.einsum("bh,bhd,bhe->bhde", strength, key, recalled)
            written = written + torch.einsum("bh,bhd,bhe->bhde", strength, key, value)
        return decay[:, t, :, None, None] * (state - erased) + written

    state = zero if initial is None else initial.to(dtype)
    outputs: list[Tensor] = []
    start = 0
    for size in sizes:
        forward = []
        for t in range(start, start + size):
            state = advance(state, t)
            forward.append(state)
        later = zero
        reads: list[Tensor] = []
        for t in reversed(range(start, start + size)):
            both = forward[t - start] + later
            reads.append(torch.einsum("bshd,bhde->bshe", q[:, t], both))
            later = advance(later, t)
        outputs.extend(reversed(reads))
        start += size
    return torch.stack(outputs, dim=1), state
