"""The short convolution over frames on a Triton kernel; `worldmodel.short_conv` says what it is.

Axes: b clips, t frames, p frames before them, s tokens of a frame, c channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from .bounds import chunk_bounds
from .device import on_device_of
from .jit_conv import filter_frames

BLOCK_CHANNELS = 1024


def _run(
    x: Tensor, past: Tensor | None, taps: Tensor, low: Tensor, high: Tensor, out: Tensor
) -> Tensor:
    num_clips, num_frames, num_tokens, num_channels = x.shape
    before = x if past is None else past
    block = min(BLOCK_CHANNELS, triton.next_power_of_2(num_channels))
    wide = torch.float64 in (x.dtype, taps.dtype)
    filter_frames[num_clips * num_frames, num_tokens, triton.cdiv(num_channels, block)](
        x, before, taps, low, high, out, *x.stride()[:3], *before.stride()[:3],
        num_frames, num_tokens, C=num_channels, REACH=taps.shape[0] - 1, BLOCK_C=block,
        HAS_PAST=past is not None, ACC=tl.float64 if wide else tl.float32,
        num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip
    return out


class _Filter(torch.autograd.Function):
    """The kernel forwards and for the input; the few sums of the taps and the past in torch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, past: Tensor | None, taps: Tensor, bounds: Tensor) -> Tensor:
        ctx.save_for_backward(x, past, taps, bounds)
        dtype = torch.promote_types(x.dtype, taps.dtype)
        out = torch.empty(x.shape, dtype=dtype, device=x.device)
        return _run(x, past, taps, torch.zeros_like(bounds[0]), bounds[1], out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, past, taps, bounds = ctx.saved_tensors
        grad = grad.contiguous()
        num_frames, reach = x.shape[1], taps.shape[0] - 1
        end = torch.full_like(bounds[1], num_frames)
        grad_x = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        _run(grad, None, taps, bounds[0], end, grad_x)
        wide = torch.promote_types(grad.dtype, torch.float32)
        grad_taps = torch.zeros_like(taps, dtype=wide)
        grad_past = None if past is None else torch.zeros_like(past, dtype=wide)
        grad_taps[reach] = (grad * x).sum((0, 1, 2), dtype=wide)
        frame = torch.arange(num_frames, device=x.device)
        for lag in range(1, reach + 1):
            tap = reach - lag
            if lag < num_frames:
                ahead, behind = grad[:, :-lag], grad[:, lag:]
                together = (frame[:-lag] + lag < bounds[1, :-lag])[:, None, None]
                pairs = behind * x[:, :-lag] + ahead * x[:, lag:] * together
                grad_taps[tap] = pairs.sum((0, 1, 2), dtype=wide)
            if past is not None and grad_past is not None:
                touched = min(lag, num_frames)
                frames, first = grad[:, :touched], reach - lag
                grad_taps[tap] += (frames * past[:, first : first + touched]).sum(
                    (0, 1, 2), dtype=wide
                )
                grad_past[:, first : first + touched] += frames * taps[tap]
        if past is not None and grad_past is not None:
            grad_past = grad_past.to(past.dtype)
        return grad_x, grad_past, grad_taps.to(taps.dtype), None


def short_conv(
    x: Float[Tensor, "b t s c"],
    weight: Float[Tensor, "c 1 n"],
    chunks: Sequence[int],
    past: Float[Tensor, "b p s c"] | None,
) -> Float[Tensor, "b t s c"]:
    """Filter x over time, mirrored into the future within chunks; summed in float32.

    Args:
        x: Keys of all frames.
        weight: n taps a channel, the last one on the current frame.
        chunks: Chunk sizes.
        past: The n - 1 frames before x; None is zero.
    """
    taps = weight[:, 0].t().contiguous()
    if x.stride(-1) != 1:
        x = x.contiguous()
    if past is not None:
        past = past.to(x.dtype)
        if past.stride(-1) != 1:
            past = past.contiguous()
    bounds = chunk_bounds(chunks, x.device)
    with on_device_of(x):
        out: Tensor = _Filter.apply(x, past, taps, bounds)  # type: ignore[no-untyped-call]
    return out
