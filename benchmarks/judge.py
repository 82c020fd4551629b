"""A judge of drives that learns an attribute from reference video.

It is a logistic regression on the features that `picture_distance.py` reads from the world's own
frozen encoder, reduced to principal axes of the reference: a few moments of a drive, the mean of
their log-odds. So few numbers to learn need a few dozen drives of either kind, not thousands.

Axes: n drives, m moments, f frames, k features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.optimize import minimize

from sanawm_gym.validate.picture_distance import look
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder

MOMENTS = 8
"""Moments of a drive that are looked at, evenly spread."""
AXES, DECAY = 96, 1e-3
"""Principal axes that the judge sees, and its weight decay."""
FOLDS = 5
"""Parts of the drives, each judged by what was learnt from the others."""


def moments(
    autoencoder: VideoAutoencoder, frames: UInt8[np.ndarray, "f h w 3"]
) -> Float[np.ndarray, "m k"]:
    """What the judge sees of a clip."""
    starts = 4 * np.linspace(0, (len(frames) - 1) // 4 - 1, MOMENTS).astype(int)
    seen = [look(autoencoder, frames[start : start + 5]).features for start in starts]
    return np.concatenate(seen).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class View:
    """Standardised principal axes of reference video; they know of no attribute."""

    mean: Float[np.ndarray, " k"]
    axes: Float[np.ndarray, "k k2"]

    @classmethod
    def of(cls, features: Float[np.ndarray, "n m k"]) -> View:
        """Fit to the moments of reference drives, to some of them if there are many."""
        rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
        some = rows[np.random.default_rng(0).permutation(len(rows))[:1500]]
        mean = some.mean(axis=0)
        _, values, axes = np.linalg.svd(some - mean, full_matrices=False)
        count = min(AXES, int((values > 1e-6 * values[0]).sum()))
        return cls(mean=mean, axes=axes[:count].T * (np.sqrt(len(some)) / values[:count]))

    def __call__(self, features: Float[np.ndarray, "n m k"]) -> Float[np.ndarray, "n m k2"]:
        """Along the axes."""
        return np.asarray((features - self.mean) @ self.axes)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A linear reading of what a view shows."""

    weights: Float[np.ndarray, " k2"]
    bias: float

    def sees(self, seen: Float[np.ndarray, "n m k2"]) -> Bool[np.ndarray, " n"]:
        """Whether every drive has the attribute."""
        return np.asarray((seen @ self.weights + self.bias).mean(axis=1) > 0)


def train_judge(seen: Float[np.ndarray, "n m k2"], labels: Bool[np.ndarray, " n"]) -> Judge:
    """Fit a judge; drives with and without the attribute weigh the same together."""
    rows = seen.reshape(-1, seen.shape[-1])
    sign = np.repeat(np.where(labels, 1.0, -1.0), seen.shape[1])
    weight = np.where(sign > 0, 0.5 / (sign > 0).mean(), 0.5 / (sign < 0).mean())

    def loss(point: Float[np.ndarray, " k1"]) -> tuple[float, Float[np.ndarray, " k1"]]:
        margin = sign * (rows @ point[:-1] + point[-1])
        slope = -weight * sign / (1 + np.exp(np.clip(margin, -50, 50)))
        gradient = np.append(rows.T @ slope / len(rows) + 2 * DECAY * point[:-1], slope.mean())
        cost = (weight * np.logaddexp(0, -margin)).mean() + DECAY * (point[:-1] ** 2).sum()
        return float(cost), gradient

    best = minimize(loss, np.zeros(rows.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return Judge(weights=best[:-1], bias=float(best[-1]))


def accuracy(seen: Float[np.ndarray, "n m k2"], labels: Bool[np.ndarray, " n"]) -> dict[str, Any]:
    """Shares of unseen drives with and without the attribute that a judge reads rightly."""
    folds = np.empty(len(labels), dtype=int)
    for part in (labels, ~labels):  # every fold has its share of both
        folds[part] = np.random.default_rng(0).permutation(int(part.sum())) % FOLDS
    right = np.zeros(len(labels), dtype=bool)
    for fold in range(FOLDS):
        unseen = folds == fold
        if unseen.any():
            judge = train_judge(seen[~unseen], labels[~unseen])
            right[unseen] = judge.sees(seen[unseen]) == labels[unseen]
    shares = [float(right[part].mean()) for part in (labels, ~labels)]
    return {
        "balanced": sum(shares) / 2,
        "with": shares[0],
        "without": shares[1],
        "drives": [int(labels.sum()), int((~labels).sum())],
    }
