"""From projections to what the recurrence takes, in one differentiable pass over the tokens.

What the kernels compute is said in `jit_prepare`; here stands what is asked of them. All is
computed in float32 between what is read and what is written; codes in float64 are rounded to that.
Rays and codes take no gradient.

Axes: b clips, t frames, s tokens of a frame, c width, h heads, d channels of a head.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from ..preparation import Norm, Operator, Prepared
from .device import on_device_of
from .jit_prepare import prepare, prepare_gradient

GRADIENT_PROGRAMS = 1056
"""Programs of the way back, eight for each of 132 multiprocessors: as many partial sums of the
weight's gradient there are, 9 MB of them at a width of 2240."""


def _rows(x: Tensor) -> Tensor:
    """(b, t, s, ...) to (b t s, c), copied only if the tokens do not follow each other evenly."""
    rows = x.flatten(3).flatten(0, 2)
    return rows if rows.stride(-1) == 1 else rows.contiguous()


class _Prepare(torch.autograd.Function):
    """The kernels, on rows of tokens."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        table: Tensor,
        matrix: Tensor | None,
        out_dtype: torch.dtype,
        num_heads: int,
        settings: dict[str, Any],
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        rows, width = x.shape
        sums = torch.promote_types(x.dtype, torch.float32)
        out = torch.empty(rows, width, dtype=out_dtype, device=x.device)
        plain = torch.empty_like(out) if settings["HAS_PLAIN"] else None
        inflation = None
        if settings["HAS_INFLATION"]:
            inflation = torch.empty(rows, num_heads, dtype=sums, device=x.device)
        fours = width // num_heads // 4
        settings = {
            **settings, "H": num_heads, "Q": fours, "BLOCK_H": triton.next_power_of_2(num_heads),
            "BLOCK_Q": triton.next_power_of_2(fours), "NORMED": weight is not None,
            "CAMERA": matrix is not None,
            "ACC": tl.float64 if sums == torch.float64 else tl.float32,
            "matrix_row": 0 if matrix is None else matrix.stride(1),
            "matrix_column": 0 if matrix is None else matrix.stride(2),
        }  # fmt: skip
        prepare[(rows,)](
            x, x if weight is None else weight, table, table if matrix is None else matrix,
            out, out if plain is None else plain, out if inflation is None else inflation,
            x_token=x.stride(0), table_token=table.stride(0), **settings,
            num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
        ctx.save_for_backward(x, weight, table, matrix)
        ctx.settings = settings
        return out, plain, inflation

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, grad_out: Tensor, grad_plain: Tensor | None, grad_inflation: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        x, weight, table, matrix = ctx.saved_tensors
        rows, width = x.shape
        rounds = triton.cdiv(rows, GRADIENT_PROGRAMS)
        programs = triton.cdiv(rows, rounds)
        grad_x = torch.empty(rows, width, dtype=x.dtype, device=x.device)
        parts = grad_x
        if weight is not None:
            sums = torch.promote_types(x.dtype, torch.float32)
            parts = torch.empty(programs, width, dtype=sums, device=x.device)
        grads = [
            grad_out if grad is None else grad.contiguous()
            for grad in (grad_out, grad_plain, grad_inflation)
        ]
        prepare_gradient[(programs,)](
            x, x if weight is None else weight, table, table if matrix is None else matrix, *grads,
            grad_x, parts, x_token=x.stride(0), table_token=table.stride(0), num_tokens=rows,
            ROUNDS=rounds, **ctx.settings, num_warps=8, enable_fp_fusion=True,
        )  # fmt: skip
        grad_weight = None if weight is None else parts.sum(0).to(weight.dtype)
        return grad_x, grad_weight, None, None, None, None, None


def prepare_tokens(
    x: Float[Tensor, "b t s c"],
    operator: Operator,
    num_heads: int,
    *,
    norm: Norm | None = None,
    clamp: bool = False,
    keep_plain: bool = False,
    inflation: bool = False,
    out_dtype: torch.dtype | None = None,
) -> Prepared:
    """Normalise tokens, if told how, and apply an operator to their heads.

    Args:
        x: What a projection gave.
        operator: What to apply.
        num_heads: Heads in the width.
        norm: How to normalise first; None takes x as it is.
        clamp: Scale every head down to the RMS it had before the operator; `ucpe.clamp_rms`.
        keep_plain: Also give what the operator was applied to.
        inflation: Also give the growth of every head.
        out_dtype: Of the results; default that of x, float32 for float16.
    """
    shape = (*x.shape[:3], num_heads, x.shape[-1] // num_heads)
    if out_dtype is None:
        out_dtype = torch.float32 if x.dtype == torch.float16 else x.dtype
    codes = torch.view_as_real(operator.table).flatten(3)
    matrix = None
    if operator.matrix is not None:
        matrix = operator.matrix.flatten(0, 2)
        if matrix.stride(0) != 16:
            matrix = matrix.contiguous()
    settings = {
        "scale": 1.0 if norm is None else norm.scale, "eps": 0.0 if norm is None else norm.eps,
        "CONJUGATE": operator.conjugate, "CLAMPED": clamp, "HAS_PLAIN": keep_plain,
        "HAS_INFLATION": inflation,
    }  # fmt: skip
    weight = None if norm is None else norm.weight.contiguous()
    with on_device_of(x):
        out, plain, growth = _Prepare.apply(  # type: ignore[no-untyped-call]
            _rows(x), weight, _rows(codes), matrix, out_dtype, num_heads, settings
        )
    return Prepared(
        out.view(shape),
        None if plain is None else plain.view(shape),
        None if growth is None else growth.view(shape[:-1]),
    )
