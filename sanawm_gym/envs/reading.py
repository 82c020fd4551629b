"""What is known of the road around a car: read off drawn pictures, or true.

One type for both worlds, so that one reward scores both. A world with heads gives expected values
with calibrated deviations; the reference world gives the truth, whose deviation is 0.

Axes: b cars, q quantities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

QUANTITIES = (
    "lane_offset",
    "heading_error",
    "curvature_ahead",
    "left_edge",
    "right_edge",
    "lead_distance",
    "lead_speed",
    "has_lead",
    "on_road",
    "crashed",
)
"""Names and order of the axis q, those of `worldmodel.heads.QUANTITIES`, where their units stand.
Written out here because the reference world needs no torch."""
NUM_NUMBERS = QUANTITIES.index("has_lead")
"""Quantities that are numbers; those after them are chances."""
LEAD_RANGE = 50.0
"""Vehicles farther ahead than this count as none, for the heads and for the truth alike [m]."""

_COLUMN = {name: column for column, name in enumerate(QUANTITIES)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """State of the road at one moment, a row a car."""

    mean: Float64[np.ndarray, "b q"]
    """Expected values; of chances the probability."""
    deviation: Float64[np.ndarray, "b q"]
    """Standard deviations; 0 where the truth is known."""

    def __getitem__(self, name: str) -> Float64[np.ndarray, " b"]:
        """Expected value of a quantity, or the probability of a chance."""
        # Contiguous: numpy then takes the same kernels for any number of rows.
        return np.ascontiguousarray(self.mean[:, _COLUMN[name]])

    def chance_below(self, name: str, bound: float) -> Float64[np.ndarray, " b"]:
        """Probability that a number lies below a bound, taking its error for a Gaussian."""
        column = _COLUMN[name]
        return gaussian_below(bound, self.mean[:, column], self.deviation[:, column])

    def select(self, rows: Sequence[int]) -> Reading:
        """Cars by index, in any order and repeated at will."""
        return Reading(mean=self.mean[list(rows)], deviation=self.deviation[list(rows)])

    def row(self, index: int) -> dict[str, dict[str, float]]:
        """One car's readings by name, as they stand in `info["perceived"]`."""
        pairs = zip(self.mean[index].tolist(), self.deviation[index].tolist(), strict=True)
        return {
            name: {"mean": mean, "deviation": deviation}
            for name, (mean, deviation) in zip(QUANTITIES, pairs, strict=True)
        }

    @classmethod
    def concat(cls, readings: Sequence[Reading]) -> Reading:
        """Cars side by side."""
        return cls(
            mean=np.concatenate([reading.mean for reading in readings]),
            deviation=np.concatenate([reading.deviation for reading in readings]),
        )

    @classmethod
    def of_truth(cls, truth: Mapping[str, float | bool]) -> Reading:
        """The truth about one car, which is sure of itself.

        Args:
            truth: `info["truth"]` of the reference world.
        """
        known = {"has_lead": truth["lead_distance"] < LEAD_RANGE, **truth}
        mean = np.array([[float(known[name]) for name in QUANTITIES]])
        return cls(mean=mean, deviation=np.zeros_like(mean))


def gaussian_below(
    bound: float | Float64[np.ndarray, " b"],
    mean: Float64[np.ndarray, " b"],
    deviation: Float64[np.ndarray, " b"],
) -> Float64[np.ndarray, " b"]:
    """Probability that a Gaussian lies below a bound; with deviation 0, whether it does."""
    # Row by row in plain floats: numpy has no error function, and rows stay independent bit by bit.
    gaps = (bound - mean).tolist()
    return np.array(
        [
            0.5 * (1.0 + math.erf(gap / (spread * math.sqrt(2.0)))) if spread > 0 else gap > 0
            for gap, spread in zip(gaps, deviation.tolist(), strict=True)
        ],
        dtype=np.float64,
    )
