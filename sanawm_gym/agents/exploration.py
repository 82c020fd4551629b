"""Exploration that lasts: what is tried in a decision is tried for a few more.

Noise that is drawn anew at every decision shakes wheel and pedals and comes to nothing: a car
averages it out before any of it shows in the speed or in the lane. Noise that lasts moves the car,
and only what moves the car can be judged. Each decision alone is explored as before, with the same
deviation, which is all that PPO's ratio of probabilities asks for (as in Hollenstein et al. 2024,
coloured noise in PPO).

Axes: b cars, a action numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class LastingNoise:
    """Normal noise of deviation 1 whose correlation fades as exp(-t / T) over t decisions.

    A number follows e' = k e + sqrt(1 - k^2) n with k = exp(-1 / T) and fresh normal n; a car that
    begins an episode begins with a fresh e too, so nothing is left of the episode before.

    Args:
        decisions: The time T of every number of an action [decisions], >= 0; 0 draws it anew at
            every decision.
    """

    def __init__(self, decisions: Sequence[float]) -> None:
        times = torch.tensor([float(time) for time in decisions])
        self.kept = torch.where(times > 0, torch.exp(-1 / times.clamp(min=1e-6)), 0.0)
        self._now: Float[Tensor, "b a"] | None = None

    def draw(self, starts: Bool[Tensor, " b"]) -> Float[Tensor, "b a"]:
        """The noise of the next decision.

        Args:
            starts: Cars whose episode begins with it.
        """
        fresh = torch.randn(len(starts), len(self.kept))
        if self._now is not None and len(self._now) == len(fresh):
            lasting = self.kept * self._now + (1 - self.kept**2).sqrt() * fresh
            fresh = torch.where(starts[:, None], fresh, lasting)
        self._now = fresh
        return fresh
