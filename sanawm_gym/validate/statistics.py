"""How well two worlds agree on what they measure: correlations, rank violations, endings.

**MMRV**, the mean maximum rank violation [Li et al. 2024, "SIMPLER", arXiv 2405.05941].
With R the true value of a policy and S that in the world under test, a pair of policies that S puts
in another order than R costs the gap between their true values,

    violation(i, j) = |R_i - R_j| [(S_i < S_j) != (R_i < R_j)],
    MMRV = mean over i of (max over j of violation(i, j)).

There R is a success rate, so that MMRV lies between 0 and 1. Returns have no such scale; here R is
divided by its range over the policies, which makes 1 the cost of mistaking the worst for the best.

Axes: p policies, n episodes, k resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

Values = Float[np.ndarray, " p"]
Statistic = Callable[[Values, Values], float]
"""Of true values and those of the world under test; NaN where it is not defined."""


def pearson(true: Values, seen: Values) -> float:
    """Linear correlation; NaN where one side does not vary."""
    a, b = true - true.mean(), seen - seen.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    # What is left of a constant after its mean was taken away is rounding.
    floor = 1e-12 * max(1.0, float(np.abs(true).max()), float(np.abs(seen).max())) ** 2
    return float(a @ b / scale) if scale > floor else float("nan")


def spearman(true: Values, seen: Values) -> float:
    """Correlation of ranks; equal values share theirs."""
    return pearson(rankdata(true), rankdata(seen))


def mmrv(true: Values, seen: Values) -> float:
    """Mean maximum rank violation, in units of the range of the true values (see above)."""
    span = float(np.ptp(true))
    if span == 0.0:
        return float("nan")
    gaps = np.abs(true[:, None] - true[None, :])
    swapped = (seen[:, None] < seen[None, :]) != (true[:, None] < true[None, :])
    return float((gaps * swapped).max(axis=1).mean() / span)


STATISTICS: dict[str, Statistic] = {"pearson": pearson, "spearman": spearman, "mmrv": mmrv}
"""What is said of a set of policies."""


def interval(
    true: Float[np.ndarray, "p n"],
    seen: Float[np.ndarray, "p n"],
    statistic: Statistic,
    *,
    resamples: int,
    seed: int,
) -> tuple[float, float] | None:
    """95 % bootstrap interval of a statistic of mean values.

    Column n of both arrays began at the same start, for every policy. Starts are drawn again with
    replacement, the same for all policies and both worlds: what an easy start gives to everybody
    must not pass for a difference between policies.

    Args:
        true: Values of episodes in the reference world.
        seen: Those in the world under test.
        statistic: Of the means over episodes.
        resamples: Number of draws, >= 1.
        seed: Of the draws.

    Returns:
        The 2.5 and 97.5 % quantiles; None where the statistic was never defined.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        drawn = rng.integers(true.shape[1], size=true.shape[1])
        found.append(statistic(true[:, drawn].mean(axis=1), seen[:, drawn].mean(axis=1)))
    return _quantiles(np.array(found))


@dataclass(frozen=True, kw_only=True)
class Endings:
    """How often an ending of the reference world was found, drive by drive."""

    hits: int
    """Found, within the tolerance of when it happened."""
    false_alarms: int
    """Announced where nothing happened, or at another time."""
    misses: int
    """Happened and was not found in time."""
    undecided: int
    """Happened too near the end of the drive to be found; left out."""
    quiet: int
    """Drives in which nothing happened and nothing was announced."""
    delays: tuple[float, ...]
    """Of the hits: announced so long after it happened [s]."""

    @property
    def precision(self) -> float | None:
        """Share of the announcements that were right; None without any."""
        said = self.hits + self.false_alarms
        return self.hits / said if said else None

    @property
    def recall(self) -> float | None:
        """Share of what happened that was found; None where nothing happened."""
        were = self.hits + self.misses
        return self.hits / were if were else None


def count_endings(
    happened: Sequence[float | None],
    announced: Sequence[float | None],
    *,
    length: float,
    tolerance: float,
) -> Endings:
    """Compare the first ending of every drive in both worlds.

    Args:
        happened: When it came in the reference world [s]; None if it did not.
        announced: When the world under test said so [s]; None if it did not.
        length: Of the drives [s].
        tolerance: A time apart up to which both mean the same [s].
    """
    hits = false_alarms = misses = undecided = quiet = 0
    delays = []
    for truth, said in zip(happened, announced, strict=True):
        if truth is not None and said is not None and abs(said - truth) <= tolerance:
            hits += 1
            delays.append(said - truth)
            continue
        false_alarms += said is not None
        if truth is None:
            quiet += said is None
        elif said is None and truth > length - tolerance:
            undecided += 1
        else:
            misses += 1
    return Endings(
        hits=hits,
        false_alarms=false_alarms,
        misses=misses,
        undecided=undecided,
        quiet=quiet,
        delays=tuple(delays),
    )


def interval_over_drives(
    drives: Sequence[tuple[Values, Values]], statistic: Statistic, *, resamples: int, seed: int
) -> tuple[float, float] | None:
    """95 % bootstrap interval of a statistic over the decisions of all drives together.

    Decisions of one drive resemble each other, so whole drives are drawn again.

    Args:
        drives: True and seen values of every drive.
        statistic: Of all of them, one after the other.
        resamples: Number of draws, >= 1.
        seed: Of the draws.
    """
    rng, found = np.random.default_rng(seed), []
    for _ in range(resamples):
        drawn = rng.integers(len(drives), size=len(drives))
        true, seen = (np.concatenate([drives[i][side] for i in drawn]) for side in (0, 1))
        found.append(statistic(true, seen))
    return _quantiles(np.array(found))


def _quantiles(values: Float[np.ndarray, " k"]) -> tuple[float, float] | None:
    defined = values[~np.isnan(values)]
    if len(defined) == 0:
        return None
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)
