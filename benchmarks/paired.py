"""Two drivers compared on the same roads: ratio or difference of their means, with an interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
"""Draws of a bootstrap."""


def interval(
    one: NDArray[np.float64], other: NDArray[np.float64], *, is_ratio: bool
) -> dict[str, float]:
    """Ratio or difference of two drivers' means, with the 95 % interval of a bootstrap.

    Seeds are drawn anew on each side; roads are drawn once for both, as both drove the same ones.

    Args:
        one: Of every seed on every road (s, r); one row for a driver that has no seeds.
        other: Of the other driver, on the same roads.
        is_ratio: Whether the ratio of the means is wanted and not their difference.
    """
    rng = np.random.default_rng(0)
    sides = []
    roads = rng.integers(one.shape[1], size=(RESAMPLES, one.shape[1]))
    for values in (one, other):
        seeds = rng.integers(len(values), size=(RESAMPLES, len(values)))
        sides.append(values[seeds[:, :, None], roads[:, None, :]].mean(axis=(1, 2)))
    drawn = sides[0] / sides[1] if is_ratio else sides[0] - sides[1]
    means = one.mean(), other.mean()
    low, high = np.quantile(drawn, (0.025, 0.975))
    value = means[0] / means[1] if is_ratio else means[0] - means[1]
    return {"value": float(value), "low": float(low), "high": float(high)}
