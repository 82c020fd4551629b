"""What touches tokens: a frame's sums over its tokens and its reads, as differentiable operators.

Axes: b clips, t frames, s tokens of a frame, h heads, n clips and heads, d key, e value channels.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from jaxtyping import Float
from torch import Tensor

from .device import on_device_of
from .jit_tokens import key_gradient, token_product, token_read

BLOCK_TOKENS = 64
"""Tokens of a tile: the rows that one group of warps multiplies at once on Hopper."""
MIN_BLOCK = 16
"""Least side of a matrix product on tensor cores; smaller heads are padded inside the kernels."""
WANTED_PROGRAMS = 512
"""A few times the multiprocessors of a large chip: from here on, programs rather do more each."""


def padded(num_channels: int) -> int:
    """Channels as the kernels hold them: the next power of two."""
    power: int = triton.next_power_of_2(num_channels)
    return max(MIN_BLOCK, power)


def _strides(x: Tensor) -> tuple[int, int, int, int]:
    """Of a tensor (b t s h ...), in elements."""
    return x.stride(0), x.stride(1), x.stride(2), x.stride(3)


def _readable(x: Tensor) -> Tensor:
    """Return x with channels side by side in memory, which is all that the kernels ask of it."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def sum_of_products(
    a: Float[Tensor, "b t s h d"], b: Float[Tensor, "b t s h e"], beta: Tensor | None, out: Tensor
) -> Tensor:
    """Write sum_s beta_s a_s b_s^T into out (t n d e) and return it."""
    num_clips, num_frames, num_tokens, num_heads, d = a.shape
    e = b.shape[-1]
    block_e = min(padded(e), 64)
    weights = a if beta is None else beta
    grid = (num_frames * num_clips * num_heads, triton.cdiv(e, block_e))
    token_product[grid](
        a, b, weights, out, *_strides(a), *_strides(b), *_strides(weights),
        num_tokens, num_clips * num_heads, num_heads, D=d, E=e,
        BLOCK_D=padded(d), BLOCK_E=block_e, BLOCK_S=BLOCK_TOKENS,
        WEIGHTED=beta is not None, num_warps=8, num_stages=3, enable_fp_fusion=True,
    )  # fmt: skip
    return out


def read(
    x: Float[Tensor, "b t s h x"],
    states: Float[Tensor, "t n d e"],
    later: Float[Tensor, "t n d e"] | None,
    out: Float[Tensor, "b t s h y"],
    *,
    beta: Float[Tensor, "b t s h"] | None = None,
    transposed: bool = False,
) -> Tensor:
    """Write (beta) x (states + later), or (beta) x (states + later)^T, into out and return it."""
    num_clips, num_frames, num_tokens, num_heads, _ = x.shape
    d, e = states.shape[-2:]
    block_d, block_e, block_s = padded(d), padded(e), BLOCK_TOKENS
    if transposed:
        block_d = min(block_d, 64)
        tiles = triton.cdiv(d, block_d)
    else:
        block_e = min(block_e, 64)
        tiles = triton.cdiv(e, block_e)
    rows, blocks = num_frames * num_clips * num_heads, triton.cdiv(num_tokens, block_s)
    rounds = min(blocks, max(1, rows * tiles * blocks // WANTED_PROGRAMS))
    weights = x if beta is None else beta
    token_read[rows, triton.cdiv(blocks, rounds), tiles](
        x, weights, states, states if later is None else later, out,
        *_strides(x), *_strides(weights), *_strides(out),
        num_tokens, num_clips * num_heads, num_heads, D=d, E=e,
        BLOCK_D=block_d, BLOCK_E=block_e, BLOCK_S=block_s, ROUNDS=rounds,
        WEIGHTED=beta is not None, HAS_LATER=later is not None, TRANSPOSED=transposed,
        num_warps=4 if x.dtype == torch.bfloat16 else 8, num_stages=2, enable_fp_fusion=True,
    )  # fmt: skip
    return out


class _FrameProducts(torch.autograd.Function):
    """Erasure G = sum beta k k^T and write U = sum beta k v^T of every frame."""

    @staticmethod
    def forward(ctx: Any, k: Tensor, v: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        k, v = _readable(k), _readable(v)
        ctx.save_for_backward(k, v, beta)
        shape = (k.shape[1], k.shape[0] * k.shape[3], k.shape[-1])
        erase = torch.empty(*shape, k.shape[-1], dtype=beta.dtype, device=k.device)
        write = torch.empty(*shape, v.shape[-1], dtype=beta.dtype, device=k.device)
        return sum_of_products(k, k, beta, erase), sum_of_products(k, v, beta, write)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_erase: Tensor, grad_write: Tensor) -> tuple[Tensor, ...]:
        k, v, beta = ctx.saved_tensors
        num_clips, num_frames, num_tokens, num_heads, d = k.shape
        both = (grad_erase + grad_erase.transpose(-1, -2)).contiguous()
        grad_write = grad_write.contiguous()
        # Written as (b t s h ...) however the tokens lie.
        grad_k, grad_v, grad_beta = (
            torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (k, v, beta)
        )
        rows = num_frames * num_clips * num_heads
        key_gradient[rows, triton.cdiv(num_tokens, BLOCK_TOKENS)](
            k, v, beta, both, grad_write, grad_k, grad_beta,
            *_strides(k), *_strides(v), *_strides(beta),
            num_frames, num_tokens, num_clips * num_heads, num_heads,
            D=d, E=v.shape[-1], BLOCK_D=padded(d), BLOCK_E=padded(v.shape[-1]),
            BLOCK_S=BLOCK_TOKENS, num_warps=8, num_stages=1, enable_fp_fusion=True,
        )  # fmt: skip
        return grad_k, read(k, grad_write, None, grad_v, beta=beta), grad_beta


class _FrameRead(torch.autograd.Function):
    """Output q (states + later)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, states: Tensor, later: Tensor | None) -> Tensor:
        q = _readable(q)
        ctx.save_for_backward(q, states, later)
        out = torch.empty(*q.shape[:-1], states.shape[-1], dtype=states.dtype, device=q.device)
        return read(q, states, later, out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, states, later = ctx.saved_tensors
        grad = _readable(grad)
        grad_q = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        read(grad, states, later, grad_q, transposed=True)
        grad_states = sum_of_products(q, grad, None, torch.empty_like(states))
        return grad_q, grad_states, None if later is None else grad_states


def frame_products(
    k: Float[Tensor, "b t s h d"], v: Float[Tensor, "b t s h e"], beta: Float[Tensor, "b t s h"]
) -> tuple[Float[Tensor, "t n d d"], Float[Tensor, "t n d e"]]:
    """Erasure and write of every frame, sum_s beta k k^T and sum_s beta k v^T, in beta's dtype.

    Args:
        k: Keys, scaled; bfloat16 or beta's dtype.
        v: Values in the dtype of the keys.
        beta: Write strength.
    """
    with on_device_of(k):
        erase, write = _FrameProducts.apply(k, v, beta)  # type: ignore[no-untyped-call]
    return erase, write


def frame_read(
    q: Float[Tensor, "b t s h d"],
    states: Float[Tensor, "t n d e"],
    later: Float[Tensor, "t n d e"] | None,
) -> Float[Tensor, "b t s h e"]:
    """What queries find in their frames' states, q^T (states + later), in the states' dtype."""
    states = states.contiguous()
    with on_device_of(q):
        output: Tensor = _FrameRead.apply(q, states, later)  # type: ignore[no-untyped-call]
    return output
