"""Triton kernels between tokens and states: sums over a frame's tokens, reads, their gradients.

A program serves one frame of one clip and head, numbered row = t * N + n with n = b * H + h; that
is the order in which states lie in memory. Token tensors are read where they are, by their strides.

Sizes for the released network (D = E = 112, padded to 128; S = 880) and a Hopper chip, which has
227 KB of shared memory and 255 registers a thread for a block; what follows is the compiler's word
for compute capability 9.0, bfloat16 tokens, and nothing is spilt to memory:

* `token_product`: 64 tokens by half of E at a time, in stages of 24 KB so that the loads run ahead
  of the products. 8 warps with 142 registers; 4 would take all 255.
* `token_read`: half of a state is held, as two bfloat16 numbers each, for all the tokens that a
  program reads. 4 warps, 134 registers, 64 KB.
* `key_gradient`: two 128 x 128 matrices, one after the other, and one sum. 8 warps, all registers,
  80 KB. Of float32 tokens it spills: a form for checks, not for speed.

Axes in comments: S tokens, D key channels, E value channels.
"""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl

# The interpreter's matrix product takes the bits of bfloat16 for integers: widen there, which is
# exact and leaves the rounding that came before in place.
_WIDEN = tl.constexpr(triton.knobs.runtime.interpret)


# `no_type_check` keeps the shape checks of the tests, which wrap functions, away from kernels.
@triton.jit
@no_type_check
def product(a, b, acc):
    """Add a b to acc at the precision of acc, also where one factor is bfloat16 and the other wide.

    The wide one is then a sum of two bfloat16 numbers, 16 bits of it, and the product two of the
    fast kind. bfloat16 for both would round what is meant to be added up in float32; widening both
    would lose the fast product, whose tiles need no transposing in shared memory. Two wide factors
    are multiplied as three TF32 products: float32 to a bit or two, on tensor cores.
    """
    a_rest, b_rest = a, b
    if a.dtype != b.dtype:
        if a.dtype == tl.bfloat16:
            b_high = b.to(tl.bfloat16)
            b_rest = (b - b_high.to(b.dtype)).to(tl.bfloat16)
            b = b_high
        else:
            a_high = a.to(tl.bfloat16)
            a_rest = (a - a_high.to(a.dtype)).to(tl.bfloat16)
            a = a_high
        if _WIDEN:
            a_rest, b_rest = a_rest.to(acc.dtype), b_rest.to(acc.dtype)
        acc = tl.dot(a_rest, b_rest, acc, out_dtype=acc.dtype)
    if _WIDEN:
        a, b = a.to(acc.dtype), b.to(acc.dtype)
    return tl.dot(a, b, acc, input_precision="tf32x3", out_dtype=acc.dtype)


@triton.jit
@no_type_check
def token_product(
    a_ptr, b_ptr, beta_ptr, out_ptr,
    a_clip, a_frame, a_token, a_head,
    b_clip, b_frame, b_token, b_head,
    beta_clip, beta_frame, beta_token, beta_head,
    num_tokens, num_sequences, num_heads,
    D: tl.constexpr, E: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_S: tl.constexpr,
    WEIGHTED: tl.constexpr,
):  # fmt: skip
    """Sum (beta) a b^T over the tokens of a frame into out (t, n, D, E)."""
    row = tl.program_id(0).to(tl.int64)
    frame, sequence = row // num_sequences, row % num_sequences
    clip, head = sequence // num_heads, sequence % num_heads
    at_d = tl.arange(0, BLOCK_D)
    at_e = tl.program_id(1) * BLOCK_E + tl.arange(0, BLOCK_E)
    in_d, in_e = at_d < D, at_e < E
    a_ptr += clip * a_clip + frame * a_frame + head * a_head
    b_ptr += clip * b_clip + frame * b_frame + head * b_head
    beta_ptr += clip * beta_clip + frame * beta_frame + head * beta_head
    acc = tl.zeros((BLOCK_D, BLOCK_E), dtype=out_ptr.dtype.element_ty)
    for start in range(0, num_tokens, BLOCK_S):
        at_s = start + tl.arange(0, BLOCK_S)
        in_s = at_s < num_tokens
        a = tl.load(
            a_ptr + at_s[:, None] * a_token + at_d[None, :],
            mask=in_s[:, None] & in_d[None, :], other=0.0,
        )  # fmt: skip
        b = tl.load(
            b_ptr + at_s[:, None] * b_token + at_e[None, :],
            mask=in_s[:, None] & in_e[None, :], other=0.0,
        )  # fmt: skip
        if WEIGHTED:
            beta = tl.load(beta_ptr + at_s * beta_token, mask=in_s, other=0.0)
            a = a.to(acc.dtype) * beta[:, None]
        acc = product(tl.trans(a), b, acc)
    out = out_ptr + row * D * E + at_d[:, None] * E + at_e[None, :]
    tl.store(out, acc, mask=in_d[:, None] & in_e[None, :])


@triton.jit
@no_type_check
def token_read(
    x_ptr, beta_ptr, state_ptr, later_ptr, out_ptr,
    x_clip, x_frame, x_token, x_head,
    beta_clip, beta_frame, beta_token, beta_head,
    out_clip, out_frame, out_token, out_head,
    num_tokens, num_sequences, num_heads,
    D: tl.constexpr, E: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_S: tl.constexpr, ROUNDS: tl.constexpr,
    WEIGHTED: tl.constexpr, HAS_LATER: tl.constexpr, TRANSPOSED: tl.constexpr,
):  # fmt: skip
    """Store (beta) x (state + later), or (beta) x (state + later)^T: (S, E) to (S, D).

    The third program axis tiles the channels that come out.
    """
    row = tl.program_id(0).to(tl.int64)
    frame, sequence = row // num_sequences, row % num_sequences
    clip, head = sequence // num_heads, sequence % num_heads
    at_d, at_e = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_E)
    if TRANSPOSED:
        at_d += tl.program_id(2) * BLOCK_D
    else:
        at_e += tl.program_id(2) * BLOCK_E
    in_d, in_e = at_d < D, at_e < E
    inside = row * D * E + at_d[:, None] * E + at_e[None, :]
    matrix = tl.load(state_ptr + inside, mask=in_d[:, None] & in_e[None, :], other=0.0)
    if HAS_LATER:
        matrix += tl.load(later_ptr + inside, mask=in_d[:, None] & in_e[None, :], other=0.0)
    if TRANSPOSED:
        matrix = tl.trans(matrix)
        at_x, in_x, at_out, in_out = at_e, in_e, at_d, in_d
    else:
        at_x, in_x, at_out, in_out = at_d, in_d, at_e, in_e
    x_ptr += clip * x_clip + frame * x_frame + head * x_head
    beta_ptr += clip * beta_clip + frame * beta_frame + head * beta_head
    out_ptr += clip * out_clip + frame * out_frame + head * out_head
    for turn in range(ROUNDS):
        at_s = (tl.program_id(1) * ROUNDS + turn) * BLOCK_S + tl.arange(0, BLOCK_S)
        in_s = at_s < num_tokens
        x = tl.load(
            x_ptr + at_s[:, None] * x_token + at_x[None, :],
            mask=in_s[:, None] & in_x[None, :], other=0.0,
        )  # fmt: skip
        read = tl.zeros((BLOCK_S, matrix.shape[1]), dtype=matrix.dtype)
        read = product(x, matrix, read)
        if WEIGHTED:
            read *= tl.load(beta_ptr + at_s * beta_token, mask=in_s, other=0.0)[:, None]
        out = out_ptr + at_s[:, None] * out_token + at_out[None, :]
        tl.store(out, read.to(out_ptr.dtype.element_ty), mask=in_s[:, None] & in_out[None, :])


@triton.jit
@no_type_check
def key_gradient(
    k_ptr, v_ptr, beta_ptr, both_ptr, write_ptr, grad_k_ptr, grad_beta_ptr,
    k_clip, k_frame, k_token, k_head,
    v_clip, v_frame, v_token, v_head,
    beta_clip, beta_frame, beta_token, beta_head,
    num_frames, num_tokens, num_sequences, num_heads,
    D: tl.constexpr, E: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """Gradients of keys and strengths from those of the frame's erasure G and write U.

    With Y = dG + dG^T (`both`): dk = beta (Y k + dU v), dbeta = k (Y k / 2 + dU v). The gradients
    are contiguous (b, t, s, h, channels). Those of the values, beta dU^T k, are a `token_read`.
    """
    row = tl.program_id(0).to(tl.int64)
    frame, sequence = row // num_sequences, row % num_sequences
    clip, head = sequence // num_heads, sequence % num_heads
    at_d, at_e = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_E)
    at_s = tl.program_id(1) * BLOCK_S + tl.arange(0, BLOCK_S)
    in_d, in_e, in_s = at_d < D, at_e < E, at_s < num_tokens
    k_ptr += clip * k_clip + frame * k_frame + head * k_head
    v_ptr += clip * v_clip + frame * v_frame + head * v_head
    beta_ptr += clip * beta_clip + frame * beta_frame + head * beta_head
    in_k, in_v = in_s[:, None] & in_d[None, :], in_s[:, None] & in_e[None, :]
    k = tl.load(k_ptr + at_s[:, None] * k_token + at_d[None, :], mask=in_k, other=0.0)
    both = tl.load(
        both_ptr + row * D * D + at_d[:, None] * D + at_d[None, :],
        mask=in_d[:, None] & in_d[None, :], other=0.0,
    )  # fmt: skip
    change = tl.zeros((BLOCK_S, BLOCK_D), dtype=both.dtype)
    change = product(k, both, change)
    half_erased = 0.5 * tl.sum(k.to(both.dtype) * change, axis=1)
    v = tl.load(v_ptr + at_s[:, None] * v_token + at_e[None, :], mask=in_v, other=0.0)
    write = tl.load(
        write_ptr + row * D * E + at_d[:, None] * E + at_e[None, :],
        mask=in_d[:, None] & in_e[None, :], other=0.0,
    )  # fmt: skip
    change = product(v, tl.trans(write), change)
    token = ((clip * num_frames + frame) * num_tokens + at_s) * num_heads + head
    grad_beta = tl.sum(k.to(both.dtype) * change, axis=1) - half_erased
    tl.store(grad_beta_ptr + token, grad_beta.to(grad_beta_ptr.dtype.element_ty), mask=in_s)
    beta = tl.load(beta_ptr + at_s * beta_token, mask=in_s, other=0.0)
    out = grad_k_ptr + token[:, None] * D + at_d[None, :]
    tl.store(out, (change * beta[:, None]).to(grad_k_ptr.dtype.element_ty), mask=in_k)
