"""Triton kernel of the short convolution over frames, in both directions of time at once.

Torch reads and writes all keys once per tap and direction; here every output is one program's,
which finds its up to 2 n - 1 inputs in the cache. The gradient of the input is the same stencil
with the bounds of past and future exchanged, so one kernel does both.
"""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def filter_frames(
    x_ptr, past_ptr, taps_ptr, low_ptr, high_ptr, out_ptr,
    x_clip, x_frame, x_token, past_clip, past_frame, past_token,
    num_frames, num_tokens, C: tl.constexpr,
    REACH: tl.constexpr, BLOCK_C: tl.constexpr, HAS_PAST: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Compute out_t = w_R x_t + sum over lags of w_{R-lag} (x_{t-lag} + x_{t+lag}).

    x_{t-lag} counts from frame low[t] on, x_{t+lag} before frame high[t]; what lies before frame 0
    is taken from `past` if there is one, else zero. taps are (R + 1, C); out is contiguous.
    """
    row = tl.program_id(0).to(tl.int64)
    clip, frame = row // num_frames, row % num_frames
    token = tl.program_id(1)
    at = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = at < C
    low, high = tl.load(low_ptr + frame), tl.load(high_ptr + frame)
    x_ptr += clip * x_clip + token * x_token
    past_ptr += clip * past_clip + token * past_token
    tap = tl.load(taps_ptr + REACH * C + at, mask=inside, other=0.0).to(ACC)
    total = tap * tl.load(x_ptr + frame * x_frame + at, mask=inside, other=0.0).to(ACC)
    for lag in tl.static_range(1, REACH + 1):
        tap = tl.load(taps_ptr + (REACH - lag) * C + at, mask=inside, other=0.0).to(ACC)
        if frame - lag >= low:
            earlier = tl.load(x_ptr + (frame - lag) * x_frame + at, mask=inside, other=0.0)
            total += tap * earlier.to(ACC)
        if HAS_PAST and frame < lag:
            before = past_ptr + (frame - lag + REACH) * past_frame
            total += tap * tl.load(before + at, mask=inside, other=0.0).to(ACC)
        if frame + lag < high:
            later = tl.load(x_ptr + (frame + lag) * x_frame + at, mask=inside, other=0.0)
            total += tap * later.to(ACC)
    out = out_ptr + (row * num_tokens + token) * C + at
    tl.store(out, total.to(out_ptr.dtype.element_ty), mask=inside)
