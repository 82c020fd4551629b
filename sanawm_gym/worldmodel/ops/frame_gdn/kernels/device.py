"""Where kernels are launched."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def on_device_of(x: Tensor) -> AbstractContextManager[object]:
    """Make the device of x the current one, on which Triton launches whatever it is given.

    Backward passes need no such care: autograd runs them with the device of their gradients.
    """
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()
