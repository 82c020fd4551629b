"""The second sampler of whole clips: DPM-Solver++ of order 2, by its official name flow_dpm-solver.

On the straight path x = (1 - sigma) x_0 + sigma eps with lambda = log((1 - sigma) / sigma), a step
from level s to t is

    x_t = (sigma_t / sigma_s) x_s + (1 - sigma_t) (1 - exp(-h)) (D + (h / 2 h') (D - D')),

h = lambda_t - lambda_s, with D the clean latents predicted now, D' those of the step before and h'
its h; the first step and the last one leave D' out. [Lu et al. 2022, arXiv 2211.01095, 2M] The
levels are the even grid from 0.999 down, shifted, as in diffusers' `DPMSolverMultistepScheduler`
with flow sigmas, to which the solver is equal to rounding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sanawm_gym.worldmodel.flow import NUM_TIMESTEPS, shift_sigma


def flow_levels(num_steps: int, shift: float) -> list[float]:
    """Noise levels before every step and 0 after the last.

    Args:
        num_steps: At least 1.
        shift: Of the levels, > 0.
    """
    even = torch.linspace(1 - 1 / NUM_TIMESTEPS, 0.0, num_steps + 1, dtype=torch.float64)
    return [float(sigma) for sigma in shift_sigma(even, shift)[:-1]] + [0.0]


class DpmSolver:
    """Takes the steps of one clip.

    Args:
        levels: Of `flow_levels`.
    """

    def __init__(self, levels: list[float]) -> None:
        self._levels = levels
        self._before: Tensor | None = None

    def step(self, x: Tensor, clean: Tensor, index: int) -> Tensor:
        """Latents at the next lower level.

        Args:
            x: Latents at level `index`.
            clean: What they are predicted to become.
            index: Number of the step; they are taken in order.
        """
        now, following = self._levels[index], self._levels[index + 1]
        before, self._before = self._before, clean
        if following == 0.0:
            return clean
        span = _snr(following) - _snr(now)
        change = clean
        if before is not None:
            last = _snr(now) - _snr(self._levels[index - 1])
            change = clean + (0.5 * span / last) * (clean - before)
        return (following / now) * x + (1 - following) * (1 - math.exp(-span)) * change


def _snr(sigma: float) -> float:
    """Lambda of a level."""
    return math.log((1 - sigma) / sigma)
