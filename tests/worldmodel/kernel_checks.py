"""The Triton kernels against the torch forms, forward and gradient; run by `test_kernels.py`.

Not collected by itself: TRITON_INTERPRET has to be set before triton is imported, so these run in
a process of their own. With it the kernels run on the CPU, one program after the other: sizes are
kept small, and odd. Without it they run on a CUDA device.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from sanawm_gym.worldmodel.camera_condition import CameraCondition
from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.frame_pass import build_pass
from sanawm_gym.worldmodel.gdn_attention import GDNAttention
from sanawm_gym.worldmodel.ops.frame_gdn import (
    ClipSlices,
    frame_gdn,
    frame_gdn_step,
    naive_frame_gdn,
    use_kernels,
)
from sanawm_gym.worldmodel.ops.frame_gdn.kernels import triton_frame_gdn
from sanawm_gym.worldmodel.short_conv import ShortConv
from sanawm_gym.worldmodel.state import GDNState

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")

if INTERPRETED:
    from triton.runtime import interpreter

    # The interpreter prepares the language anew whenever one kernel calls another, which is done
    # already after the first time and would be half of the time that these checks take.
    prepared: set[Any] = set()

    def call(self: Any, *inputs: Any, **named: Any) -> Any:
        if self.fn not in prepared:
            prepared.add(self.fn)
            interpreter._patch_lang(self.fn)
        return self.rewrite()(*inputs, **named)

    interpreter.InterpretedFunction.__call__ = call

Size = tuple[int, int, int, int, int, int]


def inputs(size: Size, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """q, k, v, beta, decay, initial of (clips, frames, tokens, heads, key, value channels)."""
    *shape, key, value = size
    num_clips, num_frames, num_tokens, num_heads = shape
    tensors = (
        torch.randn(*shape, key),
        torch.randn(*shape, key) / (key * num_tokens) ** 0.5,
        torch.randn(*shape, value),
        torch.rand(*shape),
        torch.rand(num_clips, num_frames, num_heads),
        torch.randn(num_clips, num_heads, key, value),
    )
    return [x.to(DEVICE, dtype).requires_grad_() for x in tensors]


def assert_agree(got: Sequence[Tensor], wanted: Sequence[Tensor], tolerance: float) -> None:
    """Largest difference over largest value, of every tensor; a GPU multiplies parts of TF32."""
    tolerance *= 1 if INTERPRETED else 10
    for one, other in zip(got, wanted, strict=True):
        assert one.shape == other.shape
        error = (one.double() - other.double()).abs().max() / other.double().abs().max()
        assert error < tolerance, f"off by {float(error):.1e}"


def gradients(outputs: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Of a fixed weighted sum of all outputs."""
    generator = torch.Generator().manual_seed(5)
    weights = [torch.randn(x.shape, generator=generator).to(x.device) for x in outputs]
    total = sum((x * w).sum() for x, w in zip(outputs, weights, strict=True))
    return torch.autograd.grad(total, tensors)


CASES: dict[str, tuple[Size, Sequence[int] | None, bool]] = {
    "a whole clip of two, tokens over a block, one value": ((2, 2, 67, 1, 20, 1), None, True),
    "chunks, heads and tiny channels": ((1, 4, 5, 2, 3, 5), (3, 1), True),
    "frames one by one, from nothing": ((1, 2, 9, 1, 40, 40), (1, 1), False),
    "one frame of the released size": ((1, 1, 65, 1, 112, 112), None, True),
}


@pytest.mark.parametrize("case", CASES)
def test_the_rule_and_its_gradient_are_those_of_the_loops(case: str) -> None:
    size, chunks, remembers = CASES[case]
    *tensors, initial = inputs(size)
    if not remembers:
        initial = None
    got = triton_frame_gdn(*tensors, chunks=chunks, initial=initial)
    expected, final = naive_frame_gdn(*tensors, chunks=chunks, initial=initial)
    assert_agree((got.output, got.final), (expected, final), 2e-6)
    wanted = frame_gdn(*tensors, chunks=chunks, initial=initial)
    if remembers:
        tensors.append(initial)
        assert_agree([got.before], [wanted.before], 2e-6)
    assert_agree(gradients(got, tensors), gradients(wanted, tensors), 5e-6)


@pytest.mark.skipif(not INTERPRETED, reason="the GPU's float64 is not what the kernels are for")
def test_gradients_are_the_limits_of_differences() -> None:
    tensors = inputs((1, 2, 3, 1, 4, 2), torch.float64)

    def run(*arguments: Tensor) -> tuple[Tensor, ...]:
        return tuple(triton_frame_gdn(*arguments[:5], initial=arguments[5]))

    assert torch.autograd.gradcheck(run, tensors, fast_mode=True)


def test_bfloat16_tokens_are_added_up_in_float32() -> None:
    tensors = inputs((1, 2, 20, 1, 112, 24))
    rounded = [x.detach().to(torch.bfloat16).requires_grad_() for x in tensors[:3]]
    exact = [x.detach().float().requires_grad_() for x in rounded]
    got = triton_frame_gdn(*rounded, *tensors[3:5], initial=tensors[5])
    wanted = frame_gdn(*exact, *tensors[3:5], initial=tensors[5])
    assert {x.dtype for x in got} == {torch.float32}
    assert_agree(got, wanted, 1e-4)
    first, second = (
        gradients(result, [*tokens, *tensors[3:]])
        for result, tokens in ((got, rounded), (wanted, exact))
    )
    assert_agree(first[:3], second[:3], 2**-7)
    assert_agree(first[3:], second[3:], 2e-4)


def test_tokens_are_read_where_they_lie() -> None:
    """As thirds of one projection, which is how values come."""
    packed = torch.randn(1, 2, 5, 3 * 16, device=DEVICE)
    q, k, v = (x.unflatten(-1, (2, 8)) for x in packed.chunk(3, dim=-1))
    beta, decay = torch.rand(1, 2, 5, 2, device=DEVICE), torch.rand(1, 2, 2, device=DEVICE)
    apart = (x.contiguous() for x in (q, k, v))
    got, wanted = triton_frame_gdn(q, k, v, beta, decay), frame_gdn(*apart, beta, decay)
    assert_agree((got.output, got.final), (wanted.output, wanted.final), 2e-6)


def test_moving_origins_and_slices_keep_their_meaning() -> None:
    *tensors, initial = inputs((1, 2, 3, 1, 8, 4))
    left, right = (torch.randn(1, 2, n, n, device=DEVICE) for n in (8, 4))
    named: dict[str, Any] = {"chunks": (1, 1), "initial": initial, "left": left, "right": right}
    assert_agree(triton_frame_gdn(*tensors, **named), frame_gdn(*tensors, **named), 2e-6)
    backend = "gloo" if INTERPRETED else "nccl"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        named = {"chunks": (2,), "initial": initial}
        sliced = triton_frame_gdn(*tensors, **named, slices=ClipSlices((2,)))
        assert_agree(sliced, frame_gdn(*tensors, **named), 2e-6)
    finally:
        dist.destroy_process_group()


def test_a_step_goes_through_the_chosen_kernels() -> None:
    q, k, v, beta, decay, state = inputs((2, 1, 3, 1, 8, 4))
    arguments = (q[:, 0], k[:, 0], v[:, 0], beta[:, 0], decay[:, 0], state)
    with use_kernels("triton"):
        got = frame_gdn_step(*arguments)
    with use_kernels("torch"):
        wanted = frame_gdn_step(*arguments)
    assert not torch.equal(got[0], wanted[0]) or not torch.equal(got[1], wanted[1])
    assert_agree(got, wanted, 2e-6)


@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize("chunks", [(5,), (2, 3), (1,) * 5, (1, 1)])
def test_the_short_convolution_and_its_gradient_are_those_of_torch(
    chunks: tuple[int, ...], remembers: bool
) -> None:
    convolution = ShortConv(5, 4).to(DEVICE)
    convolution.weight.data.normal_()
    packed = torch.randn(1, sum(chunks), 2, 10, device=DEVICE, requires_grad=True)
    past = torch.randn(1, 3, 2, 5, device=DEVICE, requires_grad=True) if remembers else None
    tensors = [packed, convolution.weight, *([] if past is None else [past])]
    results = []
    for form in ("triton", "torch"):
        with use_kernels(form):
            out = convolution(packed[..., 5:], chunks, past)
        results.append((out, *gradients([out], tensors)))
    assert_agree(results[0], results[1], 2e-6)


@pytest.mark.parametrize(
    ("dtype", "count", "clamp"), [(torch.float32, 2, True), (torch.bfloat16, 1, False)]
)
def test_a_block_and_its_gradient_are_those_of_torch(
    dtype: torch.dtype, count: int, clamp: bool
) -> None:
    """Heads above 64 channels, whose rays have a kernel, and a memory; `count` heads and tokens."""
    config = SanaWMConfig(
        in_channels=4, num_layers=1, hidden_size=72 * count, num_attention_heads=count,
        caption_channels=4, plucker_channels=12, temporal_stride=2, softmax_every_n=2,
        ucpe_rms_clamp_gdn=clamp,
    )  # fmt: skip
    block = GDNAttention(config)
    for parameter in block.parameters():
        parameter.data = torch.randn_like(parameter) * parameter.shape[-1] ** -0.5
    block.to(DEVICE, dtype)
    a = torch.randn(1, 2, count, 72 * count).to(DEVICE, dtype).requires_grad_()
    results = []
    for form in ("triton", "torch"):
        with use_kernels(form):
            results.append(_run_block(block, a, config))
    assert not torch.equal(results[0][0], results[1][0])
    tolerance = 2e-5 if dtype == torch.float32 else 0.05
    assert_agree(results[0], results[1], tolerance)


def _run_block(block: GDNAttention, a: Tensor, config: SanaWMConfig) -> list[Tensor]:
    """Output, memory and gradients of a block that looks through a moving camera."""
    pose = torch.eye(4, device=DEVICE).repeat(1, 2, 1, 1)
    pose[:, :, :3, 3] = torch.tensor([[0.5, -0.2, 1.0], [1.0, 0.3, 2.0]])
    camera = CameraCondition(
        world_from_camera=pose,
        intrinsics=torch.tensor([5.0, 4.0, 3.2, 1.1], device=DEVICE).repeat(1, 2, 1),
        plucker=None,
    )
    x = torch.zeros(1, 4, 2, 1, a.shape[2], device=DEVICE, dtype=a.dtype)
    frames = build_pass(x, camera, config, (2,), keep="last")
    generator = torch.Generator().manual_seed(1)
    sizes = [(1, config.num_attention_heads, 72, n) for n in (72, 1, 72)]
    memory = [0.1 * torch.randn(size, generator=generator).to(DEVICE) for size in sizes]
    tail = (1, 3, *a.shape[2:])
    tails = [torch.randn(tail, generator=generator).to(DEVICE, a.dtype) for _ in range(2)]
    state = GDNState(
        # Mass is what positive keys have left behind, and so positive.
        matrix=memory[0], mass=10 * memory[1].abs(), camera_matrix=memory[2],
        key_tail=tails[0], camera_key_tail=tails[1],
    )  # fmt: skip
    result = block(a, frames, state)
    assert isinstance(result.last, GDNState)
    left = [result.out, result.last.matrix, result.last.mass, result.last.camera_matrix]
    # Not q_norm: a quotient hardly knows how long queries are, so that in bfloat16 its gradient is
    # the rounding of either form.
    weights = [
        block.k_norm.weight,
        block.q_norm_cam.weight,
        block.k_norm_cam.weight,
        block.qkv.weight,
        block.v_proj_cam.weight,
    ]
    return left + list(gradients([x.float() for x in left], [a, *weights]))
