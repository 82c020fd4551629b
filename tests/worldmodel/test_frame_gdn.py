"""The frame-wise gated delta rule: fast forms against the loops, and the loops against fla."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from sanawm_gym.worldmodel.ops.frame_gdn import frame_gdn, frame_gdn_step, naive_frame_gdn

CHUNKS = [None, (7,), (4, 3), (3, 2, 2), (1,) * 7]


def inputs(
    num_clips: int = 2,
    num_frames: int = 7,
    num_tokens: int = 5,
    num_heads: int = 3,
    dim: int = 8,
    values: int = 6,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, ...]:
    """q, k, v, beta, decay, initial; keys small enough to keep the erasure below 1."""
    shape = (num_clips, num_frames, num_tokens, num_heads)
    return (
        torch.randn(*shape, dim, dtype=dtype),
        torch.randn(*shape, dim, dtype=dtype) / (dim * num_tokens) ** 0.5,
        torch.randn(*shape, values, dtype=dtype),
        torch.rand(*shape, dtype=dtype),
        torch.rand(num_clips, num_frames, num_heads, dtype=dtype),
        torch.randn(num_clips, num_heads, dim, values, dtype=dtype),
    )


def load_fla_naive() -> ModuleType:
    """fla's reference by its file, since importing the package needs triton."""
    spec = importlib.util.find_spec("fla")
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin).parent / "ops" / "gated_delta_rule" / "naive.py"
    file = importlib.util.spec_from_file_location("fla_gated_delta_rule_naive", path)
    assert file is not None and file.loader is not None
    module = importlib.util.module_from_spec(file)
    file.loader.exec_module(module)
    return module


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("values", [6, 1])
def test_parallel_form_equals_the_loops(chunks: tuple[int, ...] | None, values: int) -> None:
    *tensors, initial = inputs(values=values)
    expected, final = naive_frame_gdn(*tensors, chunks=chunks, initial=initial)
    got = frame_gdn(*tensors, chunks=chunks, initial=initial)
    torch.testing.assert_close(got.output, expected)
    torch.testing.assert_close(got.final, final)
    torch.testing.assert_close(got.before[:, 0], initial)


@pytest.mark.parametrize("chunks", CHUNKS)
def test_gradients_of_the_parallel_form_equal_those_of_the_loops(
    chunks: tuple[int, ...] | None,
) -> None:
    tensors = [x.requires_grad_() for x in inputs()]
    weight = torch.randn(2, 7, 5, 3, 6, dtype=torch.float64)

    def gradients(output: Tensor, final: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((output * weight).sum() + final.square().sum(), tensors)

    *parts, initial = tensors
    expected = gradients(*naive_frame_gdn(*parts, chunks=chunks, initial=initial))
    result = frame_gdn(*parts, chunks=chunks, initial=initial)
    for got, wanted in zip(gradients(result.output, result.final), expected, strict=True):
        torch.testing.assert_close(got, wanted)


def test_float32_gradients_agree_with_the_loops() -> None:
    tensors = [x.requires_grad_() for x in inputs(dtype=torch.float32)]
    *parts, initial = tensors
    expected = torch.autograd.grad(
        naive_frame_gdn(*parts, initial=initial)[0].square().sum(), tensors
    )
    got = torch.autograd.grad(frame_gdn(*parts, initial=initial).output.square().sum(), tensors)
    for one, other in zip(got, expected, strict=True):
        assert (one - other).abs().max() < 1e-5 * other.abs().max()


@pytest.mark.parametrize("moved", [False, True])
def test_gradients_are_the_limits_of_differences(moved: bool) -> None:
    tensors = [x.requires_grad_() for x in inputs(1, 3, 2, 2, 4, 3)]
    moves = []
    if moved:
        moves = [torch.randn(1, 3, n, n, dtype=torch.float64).requires_grad_() for n in (4, 3)]

    def run(*arguments: Tensor) -> tuple[Tensor, ...]:
        *parts, initial = arguments[:6]
        left, right = arguments[6:] if moved else (None, None)
        chunks = (1, 1, 1) if moved else (2, 1)
        return tuple(frame_gdn(*parts, chunks=chunks, initial=initial, left=left, right=right))

    assert torch.autograd.gradcheck(run, [*tensors, *moves])


def test_steps_equal_the_parallel_form() -> None:
    q, k, v, beta, decay, state = inputs()
    expected = frame_gdn(q, k, v, beta, decay, chunks=(1,) * 7, initial=state)
    for t in range(7):
        torch.testing.assert_close(state, expected.before[:, t])
        out, state = frame_gdn_step(q[:, t], k[:, t], v[:, t], beta[:, t], decay[:, t], state)
        torch.testing.assert_close(out, expected.output[:, t])
    torch.testing.assert_close(state, expected.final)


def test_one_token_a_frame_is_the_gated_delta_rule_of_fla() -> None:
    q, k, v, beta, decay, _ = inputs(num_frames=33, num_tokens=1, dtype=torch.float32)
    rule = load_fla_naive().naive_recurrent_gated_delta_rule
    expected, final = rule(
        q=q[:, :, 0],
        k=k[:, :, 0],
        v=v[:, :, 0],
        beta=beta[:, :, 0],
        g=decay.log(),
        scale=1.0,
        output_final_state=True,
    )
    for form in (naive_frame_gdn, frame_gdn):
        got = form(q, k, v, beta, decay, chunks=(1,) * 33)
        torch.testing.assert_close(got[0][:, :, 0], expected, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(got[-1], final, atol=2e-6, rtol=1e-5)


def test_scaled_keys_never_amplify_the_memory() -> None:
    """With unit keys over sqrt(D S) the erasure's trace is at most 1, so |M| <= decay."""
    key = torch.nn.functional.normalize(torch.randn(1, 1, 20, 1, 8, dtype=torch.float64), dim=-1)
    key = key / 20**0.5
    state = torch.randn(1, 1, 8, 3, dtype=torch.float64)
    nothing = torch.zeros(1, 1, 20, 1, 3, dtype=torch.float64)
    beta = torch.ones(1, 1, 20, 1, dtype=torch.float64)
    decay = torch.full((1, 1, 1), 0.9, dtype=torch.float64)
    after = frame_gdn(key, key, nothing, beta, decay, initial=state).final
    assert torch.linalg.matrix_norm(after, 2) <= 0.9 * torch.linalg.matrix_norm(state, 2)
