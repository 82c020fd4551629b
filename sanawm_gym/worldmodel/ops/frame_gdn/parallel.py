"""The frame-wise gated delta rule for whole clips: batched products around a small scan.

Per frame, M = decay (I - K^T B K) and U = K^T B V are affine in nothing but that frame, so they are
formed for all frames at once; both scans share them (the backward scan is the same maps in reverse
order), and one product reads the sum of both states. Work: 3 S D^2 per frame and head instead of
the 6 S D^2 of running two independent passes.

Axes: b clips, t frames, s tokens of a frame, h heads, d key channels, e value channels; inside, the
frame axis stands first and clips and heads are one axis n, the layout of batched matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from .clip_slices import ClipSlices
from .context_parallel import shared_scan_backward_exclusive, shared_scan_forward
from .scan import scan_backward_exclusive, scan_forward


class FrameGDNResult(NamedTuple):
    """What a clip leaves behind.

    Attributes:
        output: What every token read.
        before: State before every frame, moved into that frame's origin.
        final: State after the last frame.
    """

    output: Float[Tensor, "b t s h e"]
    before: Float[Tensor, "b t h d e"]
    final: Float[Tensor, "b h d e"]


def frame_gdn(
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

    Equals `naive_frame_gdn`. With `left` and `right` the state is moved, S <- left S right, before
    each frame: a change of the origin in which keys and values are expressed. That needs chunks of
    one frame, since a backward scan would have to undo the move.

    With `slices` every rank of a process group gives and gets its own frames of one clip, and reads
    as if it had all of them (see `context_parallel`); `final` is then the state after the rank's
    last frame. Origins do not move there.

    Args:
        q: Queries.
        k: Keys, already scaled.
        v: Values.
        beta: Write strength in [0, 1] per token and head.
        decay: Share of memory kept per frame and head, in [0, 1].
        chunks: Chunk sizes over t (over the whole clip if it is sliced); default one chunk, which
            is the bidirectional model.
        initial: State before the first frame; default zero. Of a sliced clip, rank 0's is used.
        left: Move of the key axis before each frame, shared by the heads.
        right: Move of the value axis before each frame, shared by the heads.
        slices: Which rank holds which frames; None is the whole clip here.

    Raises:
        ValueError: If this rank's number of frames is not that of its slice.
    """
    num_clips, num_frames, _, num_heads, num_channels = k.shape
    dtype = torch.promote_types(v.dtype, torch.float32)
    if slices is not None:
        slices.check_length(num_frames)
        assert left is None and right is None, "a sliced clip has one origin"
    total = num_frames if slices is None else slices.num_frames
    sizes = (total,) if chunks is None else tuple(chunks)
    q, k, v = (rearrange(x.to(dtype), "b t s h d -> t (b h) s d") for x in (q, k, v))
    strength = rearrange(beta.to(dtype), "b t s h -> t (b h) s 1")
    kept = rearrange(decay.to(dtype), "b t h -> t (b h) 1 1")
    written = (k * strength).transpose(-1, -2)
    identity = torch.eye(num_channels, dtype=dtype, device=k.device)
    transitions = kept * (identity - torch.matmul(written, k))
    updates = torch.matmul(written, v)
    first = torch.zeros_like(updates[0])
    if initial is not None:
        first = initial.to(dtype).flatten(0, 1)
    moved_left, moved_right = (_per_head(x, num_heads, dtype) for x in (left, right))
    if moved_left is not None:
        transitions = torch.matmul(transitions, moved_left)
    states, later = _scan(transitions, updates, first, moved_right, sizes, slices)
    before, readable = states[:-1], states[1:]
    if moved_left is not None:
        before = torch.matmul(moved_left, before)
    if moved_right is not None:
        before = torch.matmul(before, moved_right)
    if later is not None:
        assert left is None and right is None, "a moving origin needs chunks of one frame"
        readable = readable + later
    output = torch.matmul(q, readable)
    return FrameGDNResult(
        rearrange(output, "t (b h) s e -> b t s h e", b=num_clips),
        rearrange(before, "t (b h) d e -> b t h d e", b=num_clips),
        rearrange(states[-1], "(b h) d e -> b h d e", b=num_clips),
    )


def _scan(
    transitions: Tensor,
    updates: Tensor,
    first: Tensor,
    right: Tensor | None,
    sizes: tuple[int, ...],
    slices: ClipSlices | None,
) -> tuple[Tensor, Tensor | None]:
    """States before and after every frame, and those built from later frames if any are seen."""
    looks_ahead = any(size > 1 for size in sizes)
    if slices is None:
        states = scan_forward(transitions, updates, first, right)
        later = scan_backward_exclusive(transitions, updates, sizes) if looks_ahead else None
        return states, later
    states = shared_scan_forward(transitions, updates, first, slices)
    if not looks_ahead:
        return states, None
    return states, shared_scan_backward_exclusive(transitions, updates, sizes, slices)


def _per_head(matrices: Tensor | None, num_heads: int, dtype: torch.dtype) -> Tensor | None:
    """(b, t, d, d) to (t, b h, d, d)."""
    if matrices is None:
        return None
    return repeat(matrices.to(dtype), "b t d e -> t (b h) d e", h=num_heads)
