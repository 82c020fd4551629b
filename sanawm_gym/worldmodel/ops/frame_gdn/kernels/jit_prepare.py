"""Triton kernels of what stands between projections and recurrence: one pass over every token.

RMSNorm over the width, ReLU and a scale (`NORMED`), then an operator on the channels of each head
that mixes them four at a time. In the main branch the four are two pairs, each turned by a rotary
code. In the camera branch (`CAMERA`) the first half of a head's fours meet a 4 x 4 matrix of the
token's ray and the second half are turned. Both are 4 x 4 matrices that depend on the position of
the four within the head only, so one kernel serves all of it, and its transpose the way back.

A program holds a token (backwards: some tokens in turn) as four tiles of heads x fours, 20 x 28 of
32 x 32 in the released network, eight numbers a thread and tile with 4 warps. The kernels move
bytes and do next to no arithmetic: what matters is that each is read and written once.
"""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def load_fours(ptr, at, inside, ACC: tl.constexpr):
    """Four neighbours at every place, each as one tile."""
    return (
        tl.load(ptr + at, mask=inside, other=0.0).to(ACC),
        tl.load(ptr + at + 1, mask=inside, other=0.0).to(ACC),
        tl.load(ptr + at + 2, mask=inside, other=0.0).to(ACC),
        tl.load(ptr + at + 3, mask=inside, other=0.0).to(ACC),
    )


@triton.jit
@no_type_check
def store_fours(ptr, at, inside, x):
    """Inverse of `load_fours`."""
    tl.store(ptr + at, x[0].to(ptr.dtype.element_ty), mask=inside)
    tl.store(ptr + at + 1, x[1].to(ptr.dtype.element_ty), mask=inside)
    tl.store(ptr + at + 2, x[2].to(ptr.dtype.element_ty), mask=inside)
    tl.store(ptr + at + 3, x[3].to(ptr.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def load_operator(
    table_ptr, matrix_ptr, matrix_row, matrix_column, at_q,
    Q: tl.constexpr, CAMERA: tl.constexpr, CONJUGATE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The 16 entries of every four's matrix, y_j = sum_i x_i m_ij, by rows."""
    first: tl.constexpr = Q // 2 if CAMERA else 0
    turned = (at_q >= first) & (at_q < Q)
    cos_0, sin_0, cos_1, sin_1 = load_fours(table_ptr, 4 * (at_q - first), turned, ACC)
    if CONJUGATE:
        sin_0, sin_1 = -sin_0, -sin_1
    zero = tl.zeros_like(cos_0)
    entries = (
        cos_0, sin_0, zero, zero, -sin_0, cos_0, zero, zero,
        zero, zero, cos_1, sin_1, zero, zero, -sin_1, cos_1,
    )  # fmt: skip
    if CAMERA:
        m = matrix_ptr
        r, c = matrix_row, matrix_column
        entries = (
            entries[0] + tl.where(turned, 0.0, tl.load(m).to(ACC)),
            entries[1] + tl.where(turned, 0.0, tl.load(m + c).to(ACC)),
            entries[2] + tl.where(turned, 0.0, tl.load(m + 2 * c).to(ACC)),
            entries[3] + tl.where(turned, 0.0, tl.load(m + 3 * c).to(ACC)),
            entries[4] + tl.where(turned, 0.0, tl.load(m + r).to(ACC)),
            entries[5] + tl.where(turned, 0.0, tl.load(m + r + c).to(ACC)),
            entries[6] + tl.where(turned, 0.0, tl.load(m + r + 2 * c).to(ACC)),
            entries[7] + tl.where(turned, 0.0, tl.load(m + r + 3 * c).to(ACC)),
            entries[8] + tl.where(turned, 0.0, tl.load(m + 2 * r).to(ACC)),
            entries[9] + tl.where(turned, 0.0, tl.load(m + 2 * r + c).to(ACC)),
            entries[10] + tl.where(turned, 0.0, tl.load(m + 2 * r + 2 * c).to(ACC)),
            entries[11] + tl.where(turned, 0.0, tl.load(m + 2 * r + 3 * c).to(ACC)),
            entries[12] + tl.where(turned, 0.0, tl.load(m + 3 * r).to(ACC)),
            entries[13] + tl.where(turned, 0.0, tl.load(m + 3 * r + c).to(ACC)),
            entries[14] + tl.where(turned, 0.0, tl.load(m + 3 * r + 2 * c).to(ACC)),
            entries[15] + tl.where(turned, 0.0, tl.load(m + 3 * r + 3 * c).to(ACC)),
        )
    return entries


@triton.jit
@no_type_check
def apply(x, m):
    """Every four times its matrix; m has no axis of heads."""
    return (
        x[0] * m[0][None] + x[1] * m[4][None] + x[2] * m[8][None] + x[3] * m[12][None],
        x[0] * m[1][None] + x[1] * m[5][None] + x[2] * m[9][None] + x[3] * m[13][None],
        x[0] * m[2][None] + x[1] * m[6][None] + x[2] * m[10][None] + x[3] * m[14][None],
        x[0] * m[3][None] + x[1] * m[7][None] + x[2] * m[11][None] + x[3] * m[15][None],
    )


@triton.jit
@no_type_check
def apply_transposed(y, m):
    """What `apply` does to gradients."""
    return (
        y[0] * m[0][None] + y[1] * m[1][None] + y[2] * m[2][None] + y[3] * m[3][None],
        y[0] * m[4][None] + y[1] * m[5][None] + y[2] * m[6][None] + y[3] * m[7][None],
        y[0] * m[8][None] + y[1] * m[9][None] + y[2] * m[10][None] + y[3] * m[11][None],
        y[0] * m[12][None] + y[1] * m[13][None] + y[2] * m[14][None] + y[3] * m[15][None],
    )


@triton.jit
@no_type_check
def dot(x, y):
    """Product of fours, added up within each four."""
    return x[0] * y[0] + x[1] * y[1] + x[2] * y[2] + x[3] * y[3]


@triton.jit
@no_type_check
def scaled(x, factor):
    """Fours times a factor that broadcasts to a tile."""
    return x[0] * factor, x[1] * factor, x[2] * factor, x[3] * factor


@triton.jit
@no_type_check
def summed(x, y):
    """Sum of fours."""
    return x[0] + y[0], x[1] + y[1], x[2] + y[2], x[3] + y[3]


@triton.jit
@no_type_check
def positive(x, gate):
    """Keep x where gate is positive, else zero: ReLU and its gradient."""
    return (
        tl.where(gate[0] > 0, x[0], 0.0), tl.where(gate[1] > 0, x[1], 0.0),
        tl.where(gate[2] > 0, x[2], 0.0), tl.where(gate[3] > 0, x[3], 0.0),
    )  # fmt: skip


@triton.jit
@no_type_check
def prepare(
    x_ptr, weight_ptr, table_ptr, matrix_ptr, out_ptr, plain_ptr, inflation_ptr,
    x_token, table_token, matrix_row, matrix_column, scale, eps,
    H: tl.constexpr, Q: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_Q: tl.constexpr,
    NORMED: tl.constexpr, CAMERA: tl.constexpr, CONJUGATE: tl.constexpr, CLAMPED: tl.constexpr,
    HAS_PLAIN: tl.constexpr, HAS_INFLATION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Store op(p), p = scale relu(rmsnorm(x)); p itself; |op(p)|^2 / |p|^2 by head."""
    token = tl.program_id(0).to(tl.int64)
    at_h, at_q = tl.arange(0, BLOCK_H), tl.arange(0, BLOCK_Q)
    in_h = at_h < H
    inside = in_h[:, None] & (at_q < Q)[None, :]
    at = 4 * (at_h[:, None] * Q + at_q[None, :])
    p = load_fours(x_ptr + token * x_token, at, inside, ACC)
    if NORMED:
        width: tl.constexpr = 4 * H * Q
        rate = tl.rsqrt(tl.sum(dot(p, p)) / width + eps)
        weight = load_fours(weight_ptr, at, inside, ACC)
        p = (p[0] * weight[0], p[1] * weight[1], p[2] * weight[2], p[3] * weight[3])
        p = scaled(positive(p, p), rate * scale)
    m = load_operator(
        table_ptr + token * table_token, matrix_ptr + token * 16, matrix_row, matrix_column, at_q,
        Q, CAMERA, CONJUGATE, ACC,
    )  # fmt: skip
    y = apply(p, m)
    if CLAMPED:
        ratio = (tl.sum(dot(p, p), 1) / (4 * Q) + 1e-6) / (tl.sum(dot(y, y), 1) / (4 * Q) + 1e-6)
        y = scaled(y, tl.minimum(tl.sqrt(ratio), 1.0)[:, None])
    store_fours(out_ptr + token * (4 * H * Q), at, inside, y)
    if HAS_PLAIN:
        store_fours(plain_ptr + token * (4 * H * Q), at, inside, p)
    if HAS_INFLATION:
        size, after = tl.sum(dot(p, p), 1), tl.sum(dot(y, y), 1)
        inflation = tl.maximum(after, 1e-12) / tl.maximum(size, 1e-12)
        tl.store(inflation_ptr + token * H + at_h, inflation, mask=in_h)


@triton.jit
@no_type_check
def operator_gradient(
    p, m, grad_out, grad_r, Q: tl.constexpr, CLAMPED: tl.constexpr, HAS_INFLATION: tl.constexpr
):  # fmt: skip
    """Gradient of p from those of out = f op(p) and of its growth r = |out|^2 / |p|^2 by head."""
    if CLAMPED or HAS_INFLATION:
        y = apply(p, m)
        size, length = tl.sum(dot(p, p), 1)[:, None], tl.sum(dot(y, y), 1)[:, None]
        share = tl.zeros_like(size)
        factor = 1.0
        if CLAMPED:
            before, after = size / (4 * Q) + 1e-6, length / (4 * Q) + 1e-6
            factor = tl.minimum(tl.sqrt(before / after), 1.0)
        if HAS_INFLATION:
            size, length = tl.maximum(size, 1e-12), length * factor * factor
            grad_r = tl.where(length > 1e-12, 2.0 * grad_r / size, 0.0)
            grad_out = summed(grad_out, scaled(y, grad_r * factor))
            share -= tl.where(size > 1e-12, grad_r * length / size, 0.0)
        if CLAMPED:
            # f^2 = (mean p^2 + c) / (mean y^2 + c) where that is below one, else constant.
            pull = tl.sum(dot(grad_out, y), 1)[:, None] * factor / (4 * Q)
            pull = tl.where(before < after, pull, 0.0)
            share += pull / before
            grad_out = summed(scaled(grad_out, factor), scaled(y, -pull / after))
        grad = summed(apply_transposed(grad_out, m), scaled(p, share))
    else:
        grad = apply_transposed(grad_out, m)
    return grad


@triton.jit
@no_type_check
def prepare_gradient(
    x_ptr, weight_ptr, table_ptr, matrix_ptr, grad_out_ptr, grad_plain_ptr, grad_inflation_ptr,
    grad_x_ptr, grad_weight_ptr,
    x_token, table_token, matrix_row, matrix_column, scale, eps, num_tokens,
    H: tl.constexpr, Q: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_Q: tl.constexpr,
    ROUNDS: tl.constexpr,
    NORMED: tl.constexpr, CAMERA: tl.constexpr, CONJUGATE: tl.constexpr, CLAMPED: tl.constexpr,
    HAS_PLAIN: tl.constexpr, HAS_INFLATION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Gradients of `prepare`; the weight's, one partial sum a program, for the host to add up.

    What the way forward had in between is computed again rather than kept.
    """
    width: tl.constexpr = 4 * H * Q
    at_h, at_q = tl.arange(0, BLOCK_H), tl.arange(0, BLOCK_Q)
    in_h = at_h < H
    inside = in_h[:, None] & (at_q < Q)[None, :]
    at = 4 * (at_h[:, None] * Q + at_q[None, :])
    if NORMED:
        weight = load_fours(weight_ptr, at, inside, ACC)
        zero = tl.zeros((BLOCK_H, BLOCK_Q), dtype=ACC)
        grad_weight = (zero, zero, zero, zero)
    for turn in range(ROUNDS):
        token = tl.program_id(0).to(tl.int64) * ROUNDS + turn
        exists = inside & (token + 0 * at_h < num_tokens)[:, None]
        token = tl.minimum(token, num_tokens - 1)
        x = load_fours(x_ptr + token * x_token, at, exists, ACC)
        p = x
        if NORMED:
            rate = tl.rsqrt(tl.sum(dot(x, x)) / width + eps)
            x = scaled(x, rate)
            p = (x[0] * weight[0], x[1] * weight[1], x[2] * weight[2], x[3] * weight[3])
            p = scaled(positive(p, p), scale)
        m = load_operator(
            table_ptr + token * table_token, matrix_ptr + token * 16, matrix_row, matrix_column,
            at_q, Q, CAMERA, CONJUGATE, ACC,
        )  # fmt: skip
        grad_out = load_fours(grad_out_ptr + token * width, at, exists, ACC)
        grad_r = 0.0
        if HAS_INFLATION:
            grad_r = tl.load(grad_inflation_ptr + token * H + at_h, mask=in_h, other=0.0)[:, None]
        grad = operator_gradient(p, m, grad_out, grad_r, Q, CLAMPED, HAS_INFLATION)
        if HAS_PLAIN:
            grad = summed(grad, load_fours(grad_plain_ptr + token * width, at, exists, ACC))
        if NORMED:
            grad = scaled(positive(grad, p), scale)
            grad_weight = (
                grad_weight[0] + grad[0] * x[0], grad_weight[1] + grad[1] * x[1],
                grad_weight[2] + grad[2] * x[2], grad_weight[3] + grad[3] * x[3],
            )  # fmt: skip
            grad = (
                grad[0] * weight[0], grad[1] * weight[1], grad[2] * weight[2], grad[3] * weight[3]
            )  # fmt: skip
            common = tl.sum(dot(grad, x)) / width
            grad = scaled(summed(grad, scaled(x, -common)), rate)
        store_fours(grad_x_ptr + token * width, at, exists, grad)
    if NORMED:
        store_fours(grad_weight_ptr + tl.program_id(0) * width, at, inside, grad_weight)
