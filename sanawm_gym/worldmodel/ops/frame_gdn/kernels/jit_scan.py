"""Triton kernel of the recurrence over frames: all that is sequential, on D x D matrices alone.

A program carries a column tile of one sequence's state through the frames, in registers, since the
columns of a state do not touch: x <- decay (x - G x) + U. The identity is not part of a matrix, so
the product's rounding is of the size of the erasure and not of the state.

D = 112 is padded to 128. G as a factor takes half of 8 warps' registers and 64 KB of shared memory
(compiled for Hopper: 218 registers, nothing spilt; 4 warps spill), so one block fits on a
multiprocessor, and 32 columns a program, 4 tiles of 20 heads, are one wave on 132. A frame costs a
64 KB read of G from the cache and three products of 128 x 128 x 32, whatever the number of tokens:
the 121 frames of a minute are little beside the work on their tokens. Hence no splitting of time
here; across devices `context_parallel` does that.
"""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl

from .jit_tokens import product


@triton.jit
@no_type_check
def scan(
    erase_ptr, write_ptr, decay_ptr, bound_ptr, first_ptr, entering_ptr, last_ptr,
    num_frames, num_sequences,
    D: tl.constexpr, E: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr,
    REVERSE: tl.constexpr, TRANSPOSED: tl.constexpr,
    HAS_FIRST: tl.constexpr, HAS_BOUNDS: tl.constexpr,
):  # fmt: skip
    """Do entering[t] = x, x = decay (x - G x) + U, frame after frame; last = x.

    REVERSE (1, else 0) goes from the last frame to the first; TRANSPOSED takes G^T, which together
    make the scan of the gradients. With bounds, x is zero where a chunk is entered: they are the
    first frame of each frame's chunk, or with REVERSE the frame after its last.
    """
    sequence = tl.program_id(0).to(tl.int64)
    at_d = tl.arange(0, BLOCK_D)
    at_e = tl.program_id(1) * BLOCK_E + tl.arange(0, BLOCK_E)
    in_d, in_e = at_d < D, at_e < E
    in_square, in_state = in_d[:, None] & in_d[None, :], in_d[:, None] & in_e[None, :]
    square = at_d[:, None] * D + at_d[None, :]
    state = at_d[:, None] * E + at_e[None, :]
    if HAS_FIRST:
        x = tl.load(first_ptr + sequence * D * E + state, mask=in_state, other=0.0)
    else:
        x = tl.zeros((BLOCK_D, BLOCK_E), dtype=entering_ptr.dtype.element_ty)
    for turn in range(num_frames):
        frame = turn
        if REVERSE:
            frame = num_frames - 1 - turn
        row = frame * num_sequences + sequence
        if HAS_BOUNDS:
            x = tl.where(tl.load(bound_ptr + frame) == frame + REVERSE, 0.0, x)
        tl.store(entering_ptr + row * D * E + state, x, mask=in_state)
        erase = tl.load(erase_ptr + row * D * D + square, mask=in_square, other=0.0)
        if TRANSPOSED:
            erase = tl.trans(erase)
        erased = tl.zeros((BLOCK_D, BLOCK_E), dtype=x.dtype)
        erased = product(erase, x, erased)
        write = tl.load(write_ptr + row * D * E + state, mask=in_state, other=0.0)
        x = tl.load(decay_ptr + row) * (x - erased) + write
    tl.store(last_ptr + sequence * D * E + state, x, mask=in_state)
