"""The frame-wise gated delta rule on Triton kernels, with the interface of `..parallel.frame_gdn`.

Three operators: what a frame does to a state (`tokens.frame_products`, parallel over frames), the
recurrence (`scan.frame_scan`, parallel over the columns of the states) and what its tokens read
(`tokens.frame_read`, parallel over tokens). Tokens are read as they lie, in bfloat16 if they are;
whatever is added up or carried from frame to frame is float32.

Run by Triton's interpreter and compiled for compute capability 9.0, so far neither run nor timed on
a GPU. Block sizes follow from the arithmetic and the compiler's figures in `jit_tokens` and
`jit_scan`. They are constants and not tuned at run time, where the winner of a close race would
change a result's last bits from one process to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from ..clip_slices import ClipSlices
from ..context_parallel import shared_scan_backward_exclusive, shared_scan_forward
from ..parallel import FrameGDNResult
from ..scan import scan_forward
from .scan import frame_scan
from .tokens import frame_products, frame_read


def triton_frame_gdn(
    q: Float[Tensor, "b t s h d"],
    k: Float[Tensor, "b t s h d"],
    v: Float[Tensor, "b t s h e"],
    beta: Float[Tensor, "b t s h"],
    decay: Float[Tensor, "b t h"],
    *,
    chunks: Sequence[int] | None = None,
    initial: Float[Tensor, "b h d e"] | None = None,
    left: Float[Tensor, "b t d d"] | None = None,
    right: Float[Tensor, "b t e e"] | None = None,
    slices: ClipSlices | None = None,
) -> FrameGDNResult:
    """Read every frame from the frames up to itself, and from later frames of its own chunk.

    Equals `parallel.frame_gdn`, whose arguments and result these are. Moving origins and clips
    spread over ranks keep their recurrence in torch; their tokens go through the kernels all the
    same.
    """
    num_clips, num_frames, _, num_heads, _ = k.shape
    state_dtype = torch.promote_types(v.dtype, torch.float32)
    token_dtype = reduce(torch.promote_types, (q.dtype, k.dtype, v.dtype))
    if token_dtype != torch.bfloat16:
        token_dtype = state_dtype
    if slices is not None:
        slices.check_length(num_frames)
        assert left is None and right is None, "a sliced clip has one origin"
    total = num_frames if slices is None else slices.num_frames
    sizes = (total,) if chunks is None else tuple(chunks)
    erase, write = frame_products(k.to(token_dtype), v.to(token_dtype), beta.to(state_dtype))
    kept = rearrange(decay.to(state_dtype), "b t h -> t (b h)")
    first = None if initial is None else initial.to(state_dtype).flatten(0, 1)
    moves = [
        None if x is None else repeat(x.to(state_dtype), "b t d e -> t (b h) d e", h=num_heads)
        for x in (left, right)
    ]
    if slices is not None or left is not None or right is not None:
        states, later = _scan_in_torch(erase, write, kept, first, moves, sizes, slices)
    else:
        states, later = frame_scan(erase, write, kept, first, sizes)
    before, readable = states[:-1], states[1:]
    if moves[0] is not None:
        before = torch.matmul(moves[0], before)
    if moves[1] is not None:
        before = torch.matmul(before, moves[1])
    output = frame_read(q.to(token_dtype), readable, later)
    return FrameGDNResult(
        output,
        rearrange(before, "t (b h) d e -> b t h d e", b=num_clips),
        rearrange(states[-1], "(b h) d e -> b h d e", b=num_clips),
    )


def _scan_in_torch(
    erase: Tensor,
    write: Tensor,
    decay: Tensor,
    first: Tensor | None,
    moves: list[Tensor | None],
    chunks: tuple[int, ...],
    slices: ClipSlices | None,
) -> tuple[Tensor, Tensor | None]:
    """States and later states where more than the plain recurrence is asked for."""
    left, right = moves
    identity = torch.eye(erase.shape[-1], dtype=erase.dtype, device=erase.device)
    transitions = decay[..., None, None] * (identity - erase)
    if first is None:
        first = torch.zeros_like(write[0])
    looks_ahead = any(size > 1 for size in chunks)
    if slices is None:
        assert not looks_ahead, "a moving origin needs chunks of one frame"
        if left is not None:
            transitions = torch.matmul(transitions, left)
        return scan_forward(transitions, write, first, right), None
    states = shared_scan_forward(transitions, write, first, slices)
    if not looks_ahead:
        return states, None
    return states, shared_scan_backward_exclusive(transitions, write, chunks, slices)
