"""The drift monitor: when what a world draws can no longer be trusted, the drive is cut short.

Two signs are looked at, both at hand after every decision and calibrated on recorded drives:

- **Uncertainty.** The heads give a deviation with every reading. As a share of what the quantity
  varies by on all roads, 1 means that the picture says no more than the usual answer does. Lane
  offset and right edge are what heads read best; their mean share is taken, each at most 1.
- **Contrast.** The spread of the newest latent frame over that at the start, or over that of a
  usual road where the start has more or hardly any. In 160 recorded drives of 20 s it stayed
  between 0.66 and 2.49; fog and noise leave that range. Worlds without heads have this sign alone.

The score is the worse of both, 1 at its limit, smoothed over `memory` so that one odd picture
counts little. On 48 held-out clips of recordings, 4 to 8 s long, it stayed below 0.85. Of six
drawn drives of 50 s it ended one, after 17 s: its driver had circled until all was fog.

The drawn motion is not compared with the commanded one: that takes an estimator of motion from
pictures (`sanawm_gym.motion` has one), which no step should wait for.

Axes: b drives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from .reading import QUANTITIES, Reading

WATCHED = ("lane_offset", "right_edge")
"""Readings whose uncertainty is watched."""
_CONTRASTS = (0.5, 0.9)
"""Spread of a start is taken for one within these: a picture of one colour says nothing about the
road to come, and after a street of lit windows a plain road is no fog."""
_WORST = 1.5
"""What one decision can say at most: then 1 is reached after 1.1 x memory, and not in one jump."""


@dataclass(frozen=True, kw_only=True)
class DriftConfig:
    """When a drive is given up because its world is."""

    uncertainty: float = 0.9
    """Limit of the readings' deviation as a share of the quantities' spread, > 0; above 1 it is
    never reached."""
    low_contrast: float = 0.5
    """Limit of contrast lost, as a share of that at the start, in [0, 1)."""
    high_contrast: float = 3.0
    """Limit of contrast won, as a multiple of that at the start, > 1."""
    memory: float = 2.0
    """Time constant of the smoothing [s], >= 0."""

    def __post_init__(self) -> None:
        """Check every number."""
        if not (
            self.uncertainty > 0
            and 0 <= self.low_contrast < 1 < self.high_contrast
            and 0 <= self.memory < math.inf
        ):
            raise ValueError(
                f"drift: got {self}, expected uncertainty > 0, low_contrast in [0, 1), "
                "high_contrast > 1 and memory >= 0 s"
            )

    def score(
        self,
        before: Float64[np.ndarray, " b"],
        contrast: Float64[np.ndarray, " b"],
        uncertainty: Float64[np.ndarray, " b"] | None,
        seconds: float,
    ) -> Float64[np.ndarray, " b"]:
        """Smoothed score after a decision; at 1 the world has failed.

        Args:
            before: Score before it, 0 at the start of a drive.
            contrast: From `contrast_of`.
            uncertainty: From `uncertainty_of`; None in worlds without heads.
            seconds: Length of the decision [s].
        """
        keep = math.exp(-seconds / self.memory) if self.memory > 0 else 0.0
        shares = [0.0] * len(before) if uncertainty is None else uncertainty.tolist()
        # Row by row in plain floats, which for few rows is faster than a dozen calls of numpy.
        return np.array(
            [
                keep * old + (1.0 - keep) * min(self._now(ratio, share), _WORST)
                for old, ratio, share in zip(
                    before.tolist(), contrast.tolist(), shares, strict=True
                )
            ]
        )

    def _now(self, contrast: float, uncertainty: float) -> float:
        """What a single decision says; the worst of a contrast or reading that is no number."""
        if math.isnan(contrast) or math.isnan(uncertainty):
            return _WORST
        change = math.log(max(contrast, 1e-6))
        limit = self.high_contrast if change > 0 else max(self.low_contrast, 1e-6)
        return max(change / math.log(limit), uncertainty / self.uncertainty)


def contrast_of(
    spread: Float64[np.ndarray, " b"], at_start: Float64[np.ndarray, " b"]
) -> Float64[np.ndarray, " b"]:
    """Standard deviation of a latent frame over that at the start, within `_CONTRASTS`."""
    low, high = _CONTRASTS
    return np.asarray(spread / np.minimum(np.maximum(at_start, low), high))


def uncertainty_of(
    reading: Reading, spread: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, " b"]:
    """Mean share of the spread that the watched readings leave open, each at most 1.

    Args:
        reading: What was read.
        spread: Standard deviation of every number over all roads, as the heads were trained.
    """
    columns = [QUANTITIES.index(name) for name in WATCHED]
    shares = reading.deviation[:, columns] / spread[columns]
    return np.asarray(np.minimum(shares, 1.0).mean(axis=1))
