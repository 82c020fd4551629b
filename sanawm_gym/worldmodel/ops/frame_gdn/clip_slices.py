"""Slices of a clip's frames on the ranks of a process group, and what neighbours lend each other.

Axes: b clips, t frames of this rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor


@dataclass(frozen=True)
class ClipSlices:
    """Which rank of a process group holds which frames of a clip.

    Attributes:
        sizes: Frames on each rank, >= 1, in the order of time and of the group's ranks.
        group: Process group; None is the default one.
    """

    sizes: tuple[int, ...]
    group: dist.ProcessGroup | None = None

    def __post_init__(self) -> None:
        """Refuse slices that do not fit the group."""
        num_ranks = dist.get_world_size(self.group)
        if len(self.sizes) != num_ranks or min(self.sizes) < 1:
            raise ValueError(
                f"got slices of {self.sizes} frames, expected {num_ranks} sizes of at least 1: "
                "one for each rank of the group"
            )

    @classmethod
    def even(cls, num_frames: int, group: dist.ProcessGroup | None = None) -> ClipSlices:
        """Cut a clip of `num_frames` into slices that differ by one frame at most."""
        num_ranks = dist.get_world_size(group)
        share, rest = divmod(num_frames, num_ranks)
        return cls(tuple(share + (rank < rest) for rank in range(num_ranks)), group)

    @property
    def rank(self) -> int:
        """Number of this process in the group."""
        return dist.get_rank(self.group)

    @property
    def num_frames(self) -> int:
        """Frames of the whole clip."""
        return sum(self.sizes)

    def span(self, rank: int) -> tuple[int, int]:
        """First frame of a rank, and the frame after its last."""
        start = sum(self.sizes[:rank])
        return start, start + self.sizes[rank]

    def cut(self, x: Shaped[Tensor, "b f ..."]) -> Shaped[Tensor, "b t ..."]:
        """Take this rank's frames out of a whole clip's."""
        start, stop = self.span(self.rank)
        return x[:, start:stop]

    def local_chunks(self, chunks: Sequence[int], after: int = 0) -> tuple[int, ...]:
        """Sizes of the chunks that lie in this rank's slice, cut at its ends.

        Args:
            chunks: Sizes of the whole clip's chunks.
            after: Frames of a right halo that the slice is taken to include; they may lie beyond
                the clip's end, and then are a chunk of their own.
        """
        start, stop = self.span(self.rank)
        stop += after
        position, sizes = 0, []
        for size in (*chunks, after):
            inside = min(position + size, stop) - max(position, start)
            position += size
            if inside > 0:
                sizes.append(inside)
        return tuple(sizes)

    def check_length(self, num_frames: int) -> None:
        """Refuse a slice of another length than `sizes` says.

        Raises:
            ValueError: If this rank should hold another number of frames.
        """
        if num_frames != self.sizes[self.rank]:
            raise ValueError(
                f"got {num_frames} frames on rank {self.rank}, expected {self.sizes[self.rank]} as "
                f"in the slices {self.sizes}: take them with ClipSlices.cut"
            )


def exchange_halo(
    x: Shaped[Tensor, "b t ..."], slices: ClipSlices, *, before: int = 0, after: int = 0
) -> Shaped[Tensor, "b n ..."]:
    """Put the frames before and after a slice around it, as convolutions over time need them.

    A short convolution of kernel K wants K - 1 frames on either side (with one-sided chunks only
    `before`), the temporal convolution of the MLP one. Frames outside the clip are zero. Slices
    may be shorter than the halo, which then comes from several ranks.

    Args:
        x: This rank's frames.
        slices: Who holds what.
        before: Frames wanted of the past; equal on all ranks.
        after: Frames wanted of the future; equal on all ranks.

    Returns:
        n = before + t + after frames.
    """
    slices.check_length(x.shape[1])
    wide: Tensor = _Halo.apply(x, slices, before, after)  # type: ignore[no-untyped-call]
    return wide


def gather_frames(x: Shaped[Tensor, "b t ..."], slices: ClipSlices) -> Shaped[Tensor, "b n ..."]:
    """The frames of all ranks, as attention over a whole clip reads its keys and values.

    Args:
        x: This rank's frames.
        slices: Who holds what.

    Returns:
        All n frames of the clip.
    """
    slices.check_length(x.shape[1])
    whole: Tensor = _Gather.apply(x, slices)  # type: ignore[no-untyped-call]
    return whole


class _Gather(torch.autograd.Function):
    """Lend everybody all frames; in the backward pass take the gradients back and add them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slices: ClipSlices) -> Tensor:
        spans = {rank: slices.span(rank) for rank in range(len(slices.sizes))}
        start, stop = spans.pop(slices.rank)
        whole = x.new_empty(x.shape[0], slices.num_frames, *x.shape[2:])
        whole[:, start:stop] = x
        for rank, frames in _trade(slices, dict.fromkeys(spans, x), spans, x).items():
            whole[:, spans[rank][0] : spans[rank][1]] = frames
        ctx.slices = slices
        return whole

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_whole: Tensor) -> tuple[Tensor | None, ...]:
        slices = ctx.slices
        spans = {rank: slices.span(rank) for rank in range(len(slices.sizes))}
        start, stop = spans.pop(slices.rank)
        grad = grad_whole[:, start:stop].clone()
        gifts = {rank: grad_whole[:, a:b] for rank, (a, b) in spans.items()}
        wanted = dict.fromkeys(spans, (start, stop))
        for frames in _trade(slices, gifts, wanted, grad).values():
            grad += frames
        return grad, None


class _Halo(torch.autograd.Function):
    """Lend frames; in the backward pass take their gradients back and add them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slices: ClipSlices, before: int, after: int) -> Tensor:
        start, stop = slices.span(slices.rank)
        loans = _Loans.of(slices, before, after)
        wide = x.new_zeros(x.shape[0], before + x.shape[1] + after, *x.shape[2:])
        wide[:, before : before + stop - start] = x
        gifts = {rank: x[:, a - start : b - start] for rank, (a, b) in loans.given.items()}
        for rank, frames in _trade(slices, gifts, loans.taken, x).items():
            a, b = loans.taken[rank]
            wide[:, a - start + before : b - start + before] = frames
        ctx.slices, ctx.before, ctx.loans = slices, before, loans
        return wide

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_wide: Tensor) -> tuple[Tensor | None, ...]:
        slices, before, loans = ctx.slices, ctx.before, ctx.loans
        start, stop = slices.span(slices.rank)
        origin = start - before
        grad = grad_wide[:, before : before + stop - start].clone()
        gifts = {
            rank: grad_wide[:, a - origin : b - origin] for rank, (a, b) in loans.taken.items()
        }
        for rank, frames in _trade(slices, gifts, loans.given, grad).items():
            a, b = loans.given[rank]
            grad[:, a - start : b - start] += frames
        return grad, None, None, None


@dataclass(frozen=True)
class _Loans:
    """Frames, numbered through the clip, that go from this rank to others and the other way."""

    given: dict[int, tuple[int, int]]
    taken: dict[int, tuple[int, int]]

    @classmethod
    def of(cls, slices: ClipSlices, before: int, after: int) -> _Loans:
        """What everybody's halo asks for."""

        def lent(owner: int, reader: int) -> tuple[int, int]:
            (first, end), (start, stop) = slices.span(owner), slices.span(reader)
            if owner < reader:
                return max(first, start - before), end
            return first, min(end, stop + after)

        others = [rank for rank in range(len(slices.sizes)) if rank != slices.rank]
        given = {rank: lent(slices.rank, rank) for rank in others}
        taken = {rank: lent(rank, slices.rank) for rank in others}
        return cls(
            {rank: (a, b) for rank, (a, b) in given.items() if a < b},
            {rank: (a, b) for rank, (a, b) in taken.items() if a < b},
        )


def _trade(
    slices: ClipSlices, gifts: dict[int, Tensor], wanted: dict[int, tuple[int, int]], like: Tensor
) -> dict[int, Tensor]:
    """Send frames to some ranks and receive the wanted spans from others."""
    received = {
        rank: like.new_empty(like.shape[0], b - a, *like.shape[2:])
        for rank, (a, b) in wanted.items()
    }
    calls = [
        dist.P2POp(dist.isend, frames.contiguous(), group=slices.group, group_peer=rank)
        for rank, frames in gifts.items()
    ]
    calls += [
        dist.P2POp(dist.irecv, frames, group=slices.group, group_peer=rank)
        for rank, frames in received.items()
    ]
    for request in dist.batch_isend_irecv(calls) if calls else ():
        request.wait()
    return received
