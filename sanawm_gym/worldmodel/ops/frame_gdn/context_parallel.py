"""Context parallelism: one clip's frames spread over ranks, the scans exact across them.

A frame is an affine map of the state, S -> M S + U, and so is a run of frames: with the product C
of its transitions and its result H from the zero state, S -> C S + H. Every rank scans its own
frames once from zero, gathers the pairs (C, H) of all ranks, composes those before its own into the
exact state E that enters it, and adds C_t E to what it has. What travels is D x (D + E) numbers a
head and rank, however many tokens a frame has. [SANA-WM, section 5.4 of the spec]

The gradient of a state obeys the same rule with transposed transitions and in the opposite order of
ranks. So the backward pass gathers one matrix a rank, and nothing is differentiated through the
products.

Every collective has to be met by every rank of the group: all ranks run the same operators, and all
of them the backward pass if one does. Convolutions over time read the neighbours' frames
(`clip_slices.exchange_halo`), softmax blocks the keys and values of all (`gather_frames`).

Axes: t frames of this rank, n clips and heads, d key channels, e value channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .clip_slices import ClipSlices
from .scan import scan_forward


class _SharedScan(torch.autograd.Function):
    """`scan_forward` over the frames of all ranks, in the ranks' order or against it."""

    @staticmethod
    def forward(
        ctx: Any,
        transitions: Tensor,
        updates: Tensor,
        first: Tensor,
        slices: ClipSlices,
        reverse: bool,
    ) -> Tensor:
        place, size = _place(slices, reverse), transitions.shape[-1]
        identity = torch.eye(size, dtype=first.dtype, device=first.device)
        # Only one rank's frames follow `first`; what enters the others is not known yet.
        start = first if place == 0 else torch.zeros_like(first)
        local = scan_forward(
            transitions,
            torch.cat([torch.zeros_like(transitions), updates], dim=-1),
            torch.cat([identity.expand_as(transitions[0]), start], dim=-1),
        )
        products, states = local[..., :size], local[..., size:]
        gathered = [(x[..., :size], x[..., size:]) for x in _gather(local[-1], slices, reverse)]
        if place > 0:
            entering = gathered[0][1]
            for product, result in gathered[1:place]:
                entering = torch.baddbmm(result, product, entering)
            states = torch.matmul(products, entering).add_(states)
        # Copies, so that what is kept for the way back does not hold the wider tensors.
        states = states.contiguous()
        later = [product.contiguous() for product, _ in gathered[place + 1 :]]
        ctx.save_for_backward(transitions, states, *later)
        ctx.slices, ctx.reverse = slices, reverse
        return states

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        transitions, states, *later = ctx.saved_tensors
        place = _place(ctx.slices, ctx.reverse)
        back = transitions.transpose(-1, -2).flip(0)
        inner, last = grad_states[:-1].flip(0), grad_states[-1]
        alone = scan_forward(back, inner, last)[-1]
        gathered = _gather(alone, ctx.slices, ctx.reverse)[place + 1 :]
        entering = torch.zeros_like(last)
        for product, result in zip(reversed(later), reversed(gathered), strict=True):
            entering = torch.baddbmm(result, product.transpose(-1, -2), entering)
        adjoint = scan_forward(back, inner, last + entering).flip(0)
        grad_transitions = torch.matmul(adjoint[1:], states[:-1].transpose(-1, -2))
        grad_first = adjoint[0] if place == 0 else torch.zeros_like(last)
        return grad_transitions, adjoint[1:], grad_first, None, None


def _place(slices: ClipSlices, reverse: bool) -> int:
    """How many ranks the scan has passed before it comes to this one."""
    return len(slices.sizes) - 1 - slices.rank if reverse else slices.rank


def _gather(x: Tensor, slices: ClipSlices, reverse: bool) -> list[Tensor]:
    """The tensors of all ranks, in the order in which the scan passes them."""
    x = x.contiguous()
    parts = [torch.empty_like(x) for _ in slices.sizes]
    dist.all_gather(parts, x, group=slices.group)
    return parts[::-1] if reverse else parts


def shared_scan_forward(
    transitions: Tensor, updates: Tensor, first: Tensor, slices: ClipSlices
) -> Tensor:
    """States before and after this rank's frames, as `scan_forward` has them in the whole clip.

    Args:
        transitions: (t, n, d, d) of this rank's frames.
        updates: (t, n, d, e).
        first: (n, d, e), the state before the clip. Rank 0's counts; on other ranks its gradient
            is zero, so that a sum over ranks is the gradient of a state they all hold.
        slices: Who holds what.

    Returns:
        (t + 1, n, d, e).
    """
    states: Tensor = _SharedScan.apply(  # type: ignore[no-untyped-call]
        transitions, updates, first, slices, False
    )
    return states


def shared_scan_backward_exclusive(
    transitions: Tensor, updates: Tensor, chunks: tuple[int, ...], slices: ClipSlices
) -> Tensor:
    """States built from the later frames of each frame's own chunk, whoever holds them.

    Args:
        transitions: (t, n, d, d) of this rank's frames.
        updates: (t, n, d, e).
        chunks: Sizes of the whole clip's chunks.
        slices: Who holds what.

    Returns:
        (t, n, d, e).
    """
    begins = {sum(chunks[:i]) for i in range(len(chunks))}
    frames = range(*slices.span(slices.rank))
    # A chunk's first frame hands nothing on to the frame before it.
    kept = transitions.new_tensor([float(i not in begins) for i in frames])[:, None, None, None]
    states: Tensor = _SharedScan.apply(  # type: ignore[no-untyped-call]
        (kept * transitions).flip(0),
        (kept * updates).flip(0),
        torch.zeros_like(updates[0]),
        slices,
        True,
    )
    return states[:-1].flip(0)
