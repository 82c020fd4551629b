"""How well seen values agree with true or commanded ones."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.stats import spearmanr

Pairs = Float[np.ndarray, "_ 2"]
"""True (or commanded) and seen values, such as yaw rates [rad/s]."""


def agreement(pairs: Pairs) -> dict[str, float]:
    """Rank correlation, regression of seen on true, and errors in the unit of the pairs."""
    true, estimate = pairs.T
    slope, offset = np.polyfit(true, estimate, 1)
    error = estimate - true
    return {
        "spearman": float(spearmanr(true, estimate)[0]),
        "slope": float(slope),
        "offset": float(offset),
        "rms_error": float(np.sqrt(np.mean(error**2))),
        "median_error": float(np.median(np.abs(error))),
        "decisions": len(pairs),
    }
