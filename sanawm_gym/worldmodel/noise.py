"""Noise that belongs to a row and a step, not to the order in which rows are computed.

Every number is drawn from a generator seeded by (seed of the row, step of the row, purpose). A row
of a batch therefore sees the same noise as the same drive alone, a restored snapshot goes on with
the same noise, and a world's state holds two integers instead of a generator.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

_MASK = 0xFFFFFFFFFFFFFFFF


def mix_seed(*parts: int) -> int:
    """One 63-bit seed from several numbers.

    The mixing function is that of splitmix64 (Steele et al. 2014), applied once a part.
    """
    state = 0
    for part in parts:
        state = (state + 0x9E3779B97F4A7C15 + part) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def row_noise(
    seeds: Int[Tensor, " b"], steps: Int[Tensor, " b"], purpose: int, shape: tuple[int, ...]
) -> Float[Tensor, "b ..."]:
    """Unit Gaussian noise of ``shape`` for every row.

    Args:
        seeds: Seed of each row.
        steps: Step each row has reached.
        purpose: Tells apart several draws of one step.
        shape: Shape of one row.

    Returns:
        float32 tensor (b, *shape) on the CPU, the same on every device.
    """
    rows = []
    for seed, step in zip(seeds.tolist(), steps.tolist(), strict=True):
        generator = torch.Generator().manual_seed(mix_seed(seed, step, purpose))
        rows.append(torch.randn(shape, generator=generator))
    return torch.stack(rows)
