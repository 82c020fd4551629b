"""Where the chunk of every frame begins and ends, on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

_MADE: dict[tuple[tuple[int, ...], torch.device], Tensor] = {}


def chunk_bounds(chunks: Sequence[int], device: torch.device) -> Int[Tensor, "2 t"]:
    """First frame of each frame's chunk, and the frame after its last.

    Kept once made: a copy from the host inside a step would make it wait, and could not be part of
    a CUDA graph. A stream knows a handful of chunkings.

    Args:
        chunks: Chunk sizes over t.
        device: Where the kernels run.
    """
    key = (tuple(chunks), device)
    if key in _MADE:
        return _MADE[key]
    begins, ends, start = [], [], 0
    for size in chunks:
        begins += [start] * size
        ends += [start + size] * size
        start += size
    # An inference tensor could not be kept for a backward pass that comes later.
    with torch.inference_mode(False):
        bounds = torch.tensor([begins, ends], dtype=torch.int32, device=device)
    if type(bounds) is Tensor:  # not one that only stands for a tensor while a graph is traced
        _MADE[key] = bounds
    return bounds
