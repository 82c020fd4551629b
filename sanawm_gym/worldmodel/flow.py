"""Flow matching on a straight path between data and noise.

A latent x_0 and noise eps are joined by x_sigma = (1 - sigma) x_0 + sigma eps, sigma in [0, 1]. The
network predicts the velocity v = eps - x_0, from which x_0 = x_sigma - sigma v. The network is told
sigma as a timestep 1000 sigma. A *shift* s moves noise levels upwards, sigma' = s sigma /
(1 + (s - 1) sigma), because a video of many tokens keeps its structure visible at noise levels that
would drown a single picture.

Sources: the SANA-WM report (arXiv 2605.15178) for the path and the target, Esser et al. 2024
(arXiv 2403.03206) for logit-normal times and the shift.

Axes: b clips, c channels, t latent frames, h and w of the latent grid; sigma carries one value per
clip and latent frame.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

NUM_TIMESTEPS = 1000
"""Network timestep of pure noise; a clean latent has timestep 0."""
MIN_SIGMA = 0.05
"""Smallest divisor of `velocity_of`."""


def shift_sigma(sigma: Tensor, shift: float) -> Tensor:
    """Move noise levels upwards: s sigma / (1 + (s - 1) sigma).

    Args:
        sigma: Noise levels in [0, 1].
        shift: Factor s > 0; 1 changes nothing.

    Raises:
        ValueError: If shift is not positive.
    """
    if shift <= 0:
        raise ValueError(f"shift must be positive, got {shift}")
    return shift * sigma / (1 + (shift - 1) * sigma)


def sample_sigma(
    shape: tuple[int, ...], *, shift: float, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Draw logit-normal(0, 1) noise levels and shift them.

    Args:
        shape: Shape of the result.
        shift: See :func:`shift_sigma`.
        generator: CPU generator, so that all devices draw the same levels.
        device: Where the result lies.
    """
    sigma = torch.sigmoid(torch.randn(shape, generator=generator))
    return shift_sigma(sigma, shift).to(device)


def add_noise(
    x_0: Float[Tensor, "b c t h w"],
    eps: Float[Tensor, "b c t h w"],
    sigma: Float[Tensor, "b t"],
) -> Float[Tensor, "b c t h w"]:
    """Point at ``sigma`` on the path: (1 - sigma) x_0 + sigma eps."""
    level = _per_frame(sigma)
    return (1 - level) * x_0 + level * eps


def velocity(
    x_0: Float[Tensor, "b c t h w"], eps: Float[Tensor, "b c t h w"]
) -> Float[Tensor, "b c t h w"]:
    """Training target v = eps - x_0, the derivative of the path."""
    return eps - x_0


def velocity_to_x_0(
    x_sigma: Float[Tensor, "b c t h w"],
    v: Float[Tensor, "b c t h w"],
    sigma: Float[Tensor, "b t"],
) -> Float[Tensor, "b c t h w"]:
    """Clean latent that a velocity implies: x_sigma - sigma v."""
    return x_sigma - _per_frame(sigma) * v


def velocity_of(
    x_sigma: Float[Tensor, "b c t h w"],
    x_0: Float[Tensor, "b c t h w"],
    sigma: Float[Tensor, "b t"],
) -> Float[Tensor, "b c t h w"]:
    """Velocity that leads from a predicted clean latent to x_sigma: (x_sigma - x_0) / sigma.

    Below `MIN_SIGMA` the divisor stays there: on a clean latent nobody asks for the velocity.
    """
    return (x_sigma - x_0) / _per_frame(sigma).clamp_min(MIN_SIGMA)


def euler_sigmas(num_steps: int, shift: float) -> list[float]:
    """Noise levels of an Euler sampler: ``num_steps`` + 1 values from 1 down to 0.

    The unshifted grid is 1, (n - 1) / n, ..., 1 / n, 0. With four steps and shift 8 these are the
    released streaming model's timesteps 1000, 960, 889, 727, 0.

    Raises:
        ValueError: If num_steps is less than 1.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    grid = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)
    return [float(sigma) for sigma in shift_sigma(grid, shift)]


def scheduler_sigmas(num_steps: int, shift: float) -> list[float]:
    """Noise levels of the released Euler samplers: ``num_steps`` + 1 values from 1 down to 0.

    The released code and its ports take the grid of diffusers' `FlowMatchEulerDiscreteScheduler`:
    ``num_steps`` even steps from 1 down to the smallest trained level 1 / 1000 *after* its shift,
    then the shift over all of them, and 0 at the end. :func:`euler_sigmas` is the plain grid.

    Raises:
        ValueError: If num_steps is less than 1.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    smallest = shift_sigma(torch.tensor(1 / NUM_TIMESTEPS), shift)
    # The scheduler keeps its smallest level in float32 and counts in timesteps; the network cuts
    # fractions of a timestep off, so the last bit can decide.
    timesteps = np.linspace(NUM_TIMESTEPS, float(smallest) * NUM_TIMESTEPS, num_steps)
    grid = torch.from_numpy(timesteps / NUM_TIMESTEPS)
    return [*(float(sigma) for sigma in shift_sigma(grid, shift)), 0.0]


def _per_frame(sigma: Tensor) -> Tensor:
    return sigma[:, None, :, None, None]
