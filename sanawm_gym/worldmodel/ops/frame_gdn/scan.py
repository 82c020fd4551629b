"""The sequential part of the frame-wise delta rule: affine maps of small matrices, one per frame.

Y_next = M Y_prev (R) + U. Everything that touches tokens is done outside in large batched products;
this loop sees only D x D matrices. Forward and backward are written by hand because the graph of a
Python loop over frames costs more than its arithmetic: the adjoint runs the same loop in reverse.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Link(NamedTuple):
    """One update: states[target] = M[frame] @ states[source] (@ right[frame]) + U[frame]."""

    target: int
    source: int
    frame: int


class _LinkedScan(torch.autograd.Function):
    """states = first everywhere at slot `start`, zero elsewhere, then every link in order."""

    @staticmethod
    def forward(
        ctx: Any,
        transitions: Tensor,
        updates: Tensor,
        first: Tensor,
        right: Tensor | None,
        links: tuple[Link, ...],
        num_slots: int,
        start: int,
    ) -> Tensor:
        states = updates.new_zeros((num_slots, *updates.shape[1:]))
        states[start] = first
        for target, source, frame in links:
            previous = states[source]
            if right is not None:
                previous = torch.bmm(previous, right[frame])
            torch.baddbmm(updates[frame], transitions[frame], previous, out=states[target])
        ctx.save_for_backward(transitions, states, right)
        ctx.links, ctx.start = links, start
        return states

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        transitions, states, right = ctx.saved_tensors
        grad = grad_states.clone()
        grad_transitions = torch.zeros_like(transitions)
        grad_updates = transitions.new_zeros((transitions.shape[0], *states.shape[1:]))
        grad_right = None if right is None else torch.zeros_like(right)
        for target, source, frame in reversed(ctx.links):
            g = grad[target]
            grad_updates[frame] = g
            back = torch.bmm(transitions[frame].transpose(1, 2), g)
            if right is not None and grad_right is not None:
                torch.bmm(states[source].transpose(1, 2), back, out=grad_right[frame])
                previous = torch.bmm(states[source], right[frame])
                torch.bmm(g, previous.transpose(1, 2), out=grad_transitions[frame])
                back = torch.bmm(back, right[frame].transpose(1, 2))
            else:
                torch.bmm(g, states[source].transpose(1, 2), out=grad_transitions[frame])
            grad[source] += back
        return grad_transitions, grad_updates, grad[ctx.start], grad_right, None, None, None


def scan_forward(
    transitions: Tensor, updates: Tensor, first: Tensor, right: Tensor | None = None
) -> Tensor:
    """States before and after every frame.

    Args:
        transitions: (t, n, d, d), n independent sequences.
        updates: (t, n, d, e).
        first: (n, d, e), the state before frame 0.
        right: (t, n, e, e), applied to the value side before each frame; None is the identity.

    Returns:
        (t + 1, n, d, e): entry i is the state before frame i, entry i + 1 the one after it.
    """
    num_frames = transitions.shape[0]
    links = tuple(Link(i + 1, i, i) for i in range(num_frames))
    states: Tensor = _LinkedScan.apply(  # type: ignore[no-untyped-call]
        transitions, updates, first, right, links, num_frames + 1, 0
    )
    return states


def scan_backward_exclusive(
    transitions: Tensor, updates: Tensor, chunks: tuple[int, ...]
) -> Tensor:
    """States built from the later frames of each frame's own chunk, zero at chunk ends.

    Args:
        transitions: (t, n, d, d).
        updates: (t, n, d, e).
        chunks: Chunk sizes, adding up to t.

    Returns:
        (t, n, d, e).
    """
    links: list[Link] = []
    start = 0
    for size in chunks:
        links += [Link(i - 1, i, i) for i in range(start + size - 1, start, -1)]
        start += size
    # Chunk ends are never targets, so the zero they start from is the zero they keep.
    last = transitions.shape[0] - 1
    zero = torch.zeros_like(updates[0])
    states: Tensor = _LinkedScan.apply(  # type: ignore[no-untyped-call]
        transitions, updates, zero, None, tuple(links), last + 1, last
    )
    return states
