"""The recurrence over frames on Triton: states before every frame, and those of later frames.

The same maps as `..scan`, with the erasure in place of the transition, so that what is kept of a
state is not rounded by a product with a matrix close to the identity.

Axes: t frames, n clips and heads, d key channels, e value channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
from jaxtyping import Float
from torch import Tensor

from .bounds import chunk_bounds
from .device import on_device_of
from .jit_scan import scan
from .tokens import padded

COLUMNS = 32
"""Columns of a state that one program carries; see `jit_scan`."""


def _run(
    erase: Tensor,
    write: Tensor,
    decay: Tensor,
    first: Tensor | None,
    bounds: Tensor | None,
    *,
    entering: Tensor,
    reverse: bool,
    transposed: bool,
) -> Tensor:
    """Fill `entering` with the states before every frame and return the one after the last."""
    num_frames, num_sequences, d, _ = erase.shape
    e = write.shape[-1]
    last = torch.empty_like(write[0])
    block_e = min(padded(e), COLUMNS)
    scan[num_sequences, triton.cdiv(e, block_e)](
        erase, write, decay, erase if bounds is None else bounds,
        write if first is None else first,
        entering, last, num_frames, num_sequences, D=d, E=e, BLOCK_D=padded(d), BLOCK_E=block_e,
        REVERSE=int(reverse), TRANSPOSED=transposed,
        HAS_FIRST=first is not None, HAS_BOUNDS=bounds is not None, num_warps=8, num_stages=1,
        enable_fp_fusion=True,
    )  # fmt: skip
    return last


class _FrameScan(torch.autograd.Function):
    """states (t + 1 of them) in the order of time, and `later` against it if chunks look ahead."""

    @staticmethod
    def forward(
        ctx: Any,
        erase: Tensor,
        write: Tensor,
        decay: Tensor,
        first: Tensor | None,
        bounds: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        states = write.new_empty((write.shape[0] + 1, *write.shape[1:]))
        states[-1] = _run(
            erase, write, decay, first, None, entering=states, reverse=False, transposed=False
        )
        later = None
        if bounds is not None:
            later = torch.empty_like(write)
            _run(
                erase, write, decay, None, bounds[1],
                entering=later, reverse=True, transposed=False,
            )  # fmt: skip
        ctx.save_for_backward(erase, decay, states, later, bounds)
        ctx.has_first = first is not None
        return states, later

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, grad_states: Tensor, grad_later: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        erase, decay, states, later, bounds = ctx.saved_tensors
        grad_states = grad_states.contiguous()
        # Gradient of what a frame's map gives out, which is that of its write.
        grad_write = torch.empty_like(states[:-1])
        grad_first = _run(
            erase, grad_states, decay, grad_states[-1], None,
            entering=grad_write, reverse=True, transposed=True,
        )  # fmt: skip
        grad_map = torch.matmul(grad_write, states[:-1].transpose(-1, -2))
        if later is not None and grad_later is not None:
            behind = torch.empty_like(later)
            _run(
                erase, grad_later.contiguous(), decay, None, bounds[0],
                entering=behind, reverse=False, transposed=True,
            )  # fmt: skip
            grad_map += torch.matmul(behind, later.transpose(-1, -2))
            grad_write += behind
        # The map is decay (I - G).
        kept = grad_map.diagonal(dim1=-2, dim2=-1).sum(-1) - (grad_map * erase).sum((-2, -1))
        grad_erase = grad_map.mul_(-decay[..., None, None])
        return grad_erase, grad_write, kept, grad_first if ctx.has_first else None, None


def frame_scan(
    erase: Float[Tensor, "t n d d"],
    write: Float[Tensor, "t n d e"],
    decay: Float[Tensor, "t n"],
    first: Float[Tensor, "n d e"] | None,
    chunks: Sequence[int],
) -> tuple[Float[Tensor, "t1 n d e"], Float[Tensor, "t n d e"] | None]:
    """Run S_t = decay_t (S_{t-1} - G_t S_{t-1}) + U_t, and the same backwards inside every chunk.

    Args:
        erase: G.
        write: U.
        decay: Share of memory kept.
        first: State before the first frame; None is zero.
        chunks: Chunk sizes, adding up to t.

    Returns:
        The states before every frame and after the last, t + 1 of them; and the states built from
        the later frames of each frame's chunk, or None if no chunk has two frames.
    """
    bounds = None
    if any(size > 1 for size in chunks):
        bounds = chunk_bounds(chunks, write.device)
    if first is not None:
        first = first.contiguous()
    with on_device_of(write):
        states, later = _FrameScan.apply(  # type: ignore[no-untyped-call]
            erase.contiguous(), write.contiguous(), decay.contiguous(), first, bounds
        )
    return states, later
