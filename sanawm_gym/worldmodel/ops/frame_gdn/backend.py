"""Which kernels compute the recurrent blocks: the one place where that is decided.

Two forms of everything between the projections and the gate of a recurrent block:

* ``torch``: `parallel` and `step` and the elementwise operators around them, on every device and
  in every dtype. The form that results on a CPU are defined by, byte for byte.
* ``triton``: the kernels of `kernels`, with gradients, and those of fla where the mathematics is
  the same (`fla_parts`). For CUDA devices; under Triton's interpreter (TRITON_INTERPRET=1, set
  before triton is imported) ours also run, slowly, on a CPU, which is how they are tested.

What may be asked for, for the whole process (`set_kernels`) or for a while (`use_kernels`):

* ``auto``, the default: triton on a CUDA device, torch elsewhere. What the kernels are not made for
  (float64, heads of more than 128 channels, the dense rays of small heads) goes to torch by this
  rule, without a word; a CUDA device on which no Triton kernel can run is warned about, since that
  costs speed which nobody chose to give up.
* ``triton``: triton, and a warning that says why not wherever it cannot be.
* ``torch``: torch.

The choice is made call by call from the tensors alone, so that the same call takes the same form
every time. Both forms have one interface and agree to rounding, not to the byte.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from .clip_slices import ClipSlices
from .parallel import FrameGDNResult
from .parallel import frame_gdn as torch_frame_gdn
from .step import frame_gdn_step as torch_frame_gdn_step

Form = Literal["torch", "triton"]

KERNELS = ("auto", "triton", "torch")
MAX_HEAD_DIM = 128
"""Channels of a head that the kernels hold as one square matrix; see `kernels.scan`."""

# Asked without importing it: that takes a second, and a CPU never needs it.
_HAS_TRITON = importlib.util.find_spec("triton") is not None
_requested = "auto"


def set_kernels(request: str) -> None:
    """Choose for the whole process, all threads included.

    Args:
        request: One of `KERNELS`.

    Raises:
        ValueError: If there is no such choice.
    """
    global _requested
    if request not in KERNELS:
        raise ValueError(f"kernels: got {request!r}, expected one of {list(KERNELS)}; choose one")
    _requested = request


@contextmanager
def use_kernels(request: str) -> Iterator[None]:
    """Choose for the duration of a `with` block; the gradient of a call takes the call's form."""
    before = _requested
    set_kernels(request)
    try:
        yield
    finally:
        set_kernels(before)


def chosen_form(x: Tensor, head_dim: int = 1, unmade: str | None = None) -> Form:
    """The form in which a call on tensors like x is computed.

    Args:
        x: One of the call's tensors: its device and dtype count.
        head_dim: Channels of a head, where the call knows heads.
        unmade: What else about the call the kernels do not cover, or None.
    """
    if _requested == "torch":
        return "torch"
    unmade = unmade or _not_made_for(x.dtype, head_dim)
    if _requested == "auto":
        if unmade is not None or not x.is_cuda:
            return "torch"
        return _or_warn(_not_runnable_on(x.device))
    return _or_warn(unmade or _not_runnable_on(x.device))


def _or_warn(reason: str | None) -> Form:
    if reason is None:
        return "triton"
    warnings.warn(
        f"kernels: {_requested!r} should be the Triton kernels here, but {reason}; the torch "
        'operators are used instead (the same results, slower). set_kernels("torch") silences this',
        RuntimeWarning,
        stacklevel=4,
    )
    return "torch"


def _not_made_for(dtype: torch.dtype, head_dim: int) -> str | None:
    """What about a call the kernels do not cover."""
    if dtype not in (torch.bfloat16, torch.float16, torch.float32):
        return f"they compute in float32 and the call asks for {dtype}"
    if head_dim > MAX_HEAD_DIM:
        return f"they are made for heads of up to {MAX_HEAD_DIM} channels and got {head_dim}"
    return None


def _not_runnable_on(device: torch.device) -> str | None:
    """What keeps any Triton kernel from running on a device."""
    if not _HAS_TRITON:
        return "the package triton is not installed (pip install triton)"
    if device.type == "cpu":
        import triton

        if triton.knobs.runtime.interpret:
            return None
        return "the tensors lie on a CPU, where only Triton's interpreter runs (TRITON_INTERPRET=1)"
    if device.type != "cuda" or torch.version.cuda is None:
        return f"the tensors lie on {device}, which is no CUDA device"
    capability = torch.cuda.get_device_capability(device)
    if capability < (8, 0):
        return f"{device} has compute capability {capability}, and 8.0 is the least they run on"
    return None


def frame_gdn(
    q: Float[Tensor, "b t s h d"],
    k: Float[Tensor, "b t s h d"],
    v: Float[Tensor, "b t s h e"],
    beta: Float[Tensor, "b t s h"],
    decay: Float[Tensor, "b t h"],
    *,
    chunks: Sequence[int] | None = None,
    initial: Float[Tensor, "b h d e"] | None = None,
    left: Float[Tensor, "b t d d"] | None = None,
    right: Float[Tensor, "b t e e"] | None = None,
    slices: ClipSlices | None = None,
) -> FrameGDNResult:
    """Read every frame from the frames up to itself, and from later frames of its own chunk.

    Takes, gives and refuses what `parallel.frame_gdn` does, in the form that was chosen.
    """
    form = torch_frame_gdn
    if chosen_form(v, max(k.shape[-1], v.shape[-1])) == "triton":
        from .kernels import triton_frame_gdn as form
    return form(
        q, k, v, beta, decay, chunks=chunks, initial=initial, left=left, right=right, slices=slices
    )


def frame_gdn_step(
    q: Float[Tensor, "b s h d"],
    k: Float[Tensor, "b s h d"],
    v: Float[Tensor, "b s h e"],
    beta: Float[Tensor, "b s h"],
    decay: Float[Tensor, "b h"],
    state: Float[Tensor, "b h d e"],
) -> tuple[Float[Tensor, "b s h e"], Float[Tensor, "b h d e"]]:
    """Write one frame into the memory and read it; see `step.frame_gdn_step`."""
    if chosen_form(v, max(k.shape[-1], v.shape[-1])) == "torch":
        return torch_frame_gdn_step(q, k, v, beta, decay, state)
    from .kernels import triton_frame_gdn

    frame = (x[:, None] for x in (q, k, v, beta, decay))
    output, _, final = triton_frame_gdn(*frame, initial=state)
    return output[:, 0], final
