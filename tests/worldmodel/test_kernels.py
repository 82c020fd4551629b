"""Which kernels are chosen, and that those in Triton compute what the torch operators do."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sanawm_gym.worldmodel.ops.frame_gdn import (
    backend,
    chosen_form,
    frame_gdn,
    frame_gdn_step,
    parallel,
    set_kernels,
    step,
    use_kernels,
)

CHECKS = Path(__file__).with_name("kernel_checks.py")
ROOT = CHECKS.parents[2]

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="triton is not installed (it is part of the test extra on Linux x86-64)",
)


def tensors() -> list[Tensor]:
    """q, k, v, beta, decay of a clip of two frames."""
    return [
        torch.randn(1, 2, 3, 2, 8),
        torch.randn(1, 2, 3, 2, 8) / 5,
        torch.randn(1, 2, 3, 2, 8),
        torch.rand(1, 2, 3, 2),
        torch.rand(1, 2, 2),
    ]


def test_on_a_cpu_the_torch_operators_are_chosen_without_a_word_and_to_the_byte() -> None:
    inputs = tensors()
    got, wanted = frame_gdn(*inputs), parallel.frame_gdn(*inputs)
    assert all(torch.equal(x, y) for x, y in zip(got, wanted, strict=True))
    frame = [x[:, 0] for x in inputs]
    state = wanted.final
    one, other = frame_gdn_step(*frame, state), step.frame_gdn_step(*frame, state)
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_asking_for_triton_where_it_cannot_run_warns_and_computes_all_the_same() -> None:
    inputs = tensors()
    with use_kernels("triton"), pytest.warns(RuntimeWarning, match="torch operators are used"):
        got = frame_gdn(*inputs)
    assert torch.equal(got.output, parallel.frame_gdn(*inputs).output)


def test_the_warning_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(1)
    with use_kernels("triton"):
        with pytest.warns(RuntimeWarning, match="float64"):
            chosen_form(x.double(), 112)
        with pytest.warns(RuntimeWarning, match="up to 128 channels and got 160"):
            chosen_form(x, 160)
        with pytest.warns(RuntimeWarning, match="but small rays are dense"):
            chosen_form(x, 32, "small rays are dense")
        monkeypatch.setattr(backend, "_HAS_TRITON", False)
        with pytest.warns(RuntimeWarning, match="pip install triton"):
            chosen_form(x, 112)


def test_a_choice_holds_for_its_block_even_if_that_fails() -> None:
    with pytest.raises(KeyError), use_kernels("triton"):
        raise KeyError
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert chosen_form(torch.zeros(1), 112) == "torch"
    with pytest.raises(ValueError, match="got 'cuda', expected one of"):
        set_kernels("cuda")


def run_checks(*flags: str, **environment: str) -> None:
    """Run `kernel_checks` in a process of its own, whose report becomes the failure's."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", *flags, str(CHECKS)]
    ours = ("TRITON_INTERPRET", "PYTEST_")
    settings = {name: x for name, x in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        command, cwd=ROOT, env={**settings, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@needs_triton
def test_the_kernels_compute_what_torch_does_in_tritons_interpreter() -> None:
    run_checks(TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.gpu
def test_the_kernels_compute_what_torch_does_on_a_gpu() -> None:
    # What fla says about other packages while it is imported, and how to be deterministic there.
    quiet = ("-W", "ignore::UserWarning", "-W", "ignore::DeprecationWarning")
    run_checks(*quiet, CUBLAS_WORKSPACE_CONFIG=":4096:8")
